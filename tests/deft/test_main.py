import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deft import __main__ as command
from deft import operations
from deft.errors import Finding, Interrupted, InvalidInput, InvalidRows, ReviewNeeded
from deft.folders import verify
from deft.operations import require_kinds
from deft.specs import JudgeSpec

EVALUATE = {"kind": "evaluate", "dataset": "ds_1", "model": "m"}


def write_spec(tmp_path: Path, **changes) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kind": "select", "scoring": "sc_1", **changes}))
    return path


@pytest.fixture
def operation(monkeypatch):
    """Puts a function of the test in the place of the operation."""

    def put(function):
        monkeypatch.setattr(operations, "operation_of", lambda _kind: function)

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield put
    for number, handler in previous.items():
        signal.signal(number, handler)


def run(tmp_path, spec, *more):
    (tmp_path / "scores.parquet").touch()
    inputs = ["--input", f"scoring={tmp_path}"]
    return command.main([str(spec), *inputs, "--out", str(tmp_path / "out"), *more])


def test_a_person_reads_progress_and_summary_and_finds_a_sealed_output(tmp_path, operation, capsys):
    def write(spec, *, inputs, out, checkpoints, report):
        report.phase("counting_rows")
        report.progress(3, 3, "rows")
        (out / "kept.jsonl").write_text("{}")
        return {"kept": 3}

    operation(write)
    assert run(tmp_path, write_spec(tmp_path)) == command.DONE
    shown = capsys.readouterr().out
    assert "counting rows" in shown
    assert "3 of 3 rows" in shown
    assert '"kept": 3' in shown
    assert verify(tmp_path / "out")["summary"] == {"kept": 3}


@pytest.mark.parametrize(
    ("kept", "written", "cached", "words"),
    [
        (None, False, False, "; the same command starts over: no --checkpoints FOLDER was given"),
        (
            None,
            False,
            True,
            "; the same command starts over, but for what --cache keeps: no --checkpoints FOLDER was given",
        ),
        (".step-000002.1-a.tmp", False, False, "; the same command starts over: there is no checkpoint yet"),
        ("step-000002", False, True, "; the same command continues from its last checkpoint"),
        ("step-000002", True, False, "; the same command with a new --out folder continues from its last checkpoint"),
    ],
)
def test_how_a_stopped_operation_goes_on_is_said_as_it_is(tmp_path, operation, capsys, kept, written, cached, words):
    def stop(spec, *, inputs, out, checkpoints, report):
        if kept:
            (checkpoints / kept).mkdir()
        if written:
            (out / "half.json").write_text("{}")
        raise Interrupted

    operation(stop)
    more = ["--checkpoints", str(tmp_path / "kept")] if kept else []
    more += ["--cache", str(tmp_path / "cache")] if cached else []
    assert run(tmp_path, write_spec(tmp_path), *more) == command.STOPPED
    assert capsys.readouterr().out.rstrip().endswith(f"stopped at a safe point{words}")


def test_a_review_is_gone_on_from_with_all_that_the_command_needs(tmp_path, operation, capsys):
    def pause(spec, *, inputs, out, checkpoints, report):
        (checkpoints / "step-000002").mkdir()
        (out / "half.json").write_text("{}")
        raise ReviewNeeded("look at this", code="odd")

    operation(pause)
    assert run(tmp_path, write_spec(tmp_path), "--checkpoints", str(tmp_path / "kept")) == command.PAUSED
    told = "the same command with --accept odd and a new --out folder continues from its last checkpoint"
    assert told in capsys.readouterr().out


def test_our_error_is_readable_text_with_its_findings_and_no_traceback(tmp_path, operation, capsys):
    def refuse(spec, **_):
        raise InvalidRows("a row is bad", findings=[Finding("empty", "''", "text", "fill it", line=7, column="chosen")])

    operation(refuse)
    assert run(tmp_path, write_spec(tmp_path)) == command.FAILED
    error = capsys.readouterr().err
    assert "failed (user/invalid_rows): a row is bad" in error
    assert "line 7 chosen: found '', expected text" in error
    assert "fix: fill it" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_strangers_error_is_internal_and_its_text_is_cut(tmp_path, operation, capsys):
    def burst(spec, **_):
        raise ValueError("z" * 5000)

    operation(burst)
    assert run(tmp_path, write_spec(tmp_path)) == command.FAILED
    error = capsys.readouterr().err
    last = error[error.rindex("failed (") :]
    assert last.startswith("failed (system/internal): ValueError: zzz")
    assert len(last) < 400
    assert "Traceback" in error


def test_a_stop_ends_with_75_and_seals_nothing(tmp_path, operation):
    def stopping(spec, *, report, out, **_):
        from deft.reports import stop_if_asked

        (out / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        stop_if_asked(report)
        return {}

    operation(stopping)
    assert run(tmp_path, write_spec(tmp_path)) == command.STOPPED
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"selection": {"keep": 2}}, "/selection/keep"),
        ({"selection": {"keep": 0}}, "/selection/keep"),
        ({"epochs": 1}, "/epochs"),
        ({"scoring": None}, "/scoring"),
        ({"kind": "train", "data": "ds_1", "model": "m", "method": {"type": "ppo"}}, "/method/type"),
        ({"kind": "train", "data": "ds_1", "method": {"type": "dpo"}}, "/model"),
        ({**EVALUATE, "options": {"metrics": ["bleu", "bleu"]}}, "/options/metrics"),
        ({**EVALUATE, "reward_models": ["a", "a"]}, "/reward_models"),
        ({**EVALUATE, "reward_models": ["a"], "training_reward_models": ["a"]}, "/training_reward_models"),
        ({**EVALUATE, "prompt_sets": ["ds_2", "ds_2"]}, "/prompt_sets"),
    ],
)
def test_a_wrong_spec_is_refused_with_a_json_pointer(tmp_path, capsys, changes, pointer):
    assert run(tmp_path, write_spec(tmp_path, **changes)) == command.FAILED
    places = [line.strip().partition(":")[0] for line in capsys.readouterr().err.splitlines() if "found" in line]
    assert pointer in places


def test_a_pipeline_is_refused(tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"kind": "pipeline", "dataset": "ds_1", "model": "m"}))
    assert run(tmp_path, spec) == command.FAILED
    assert "post it to the service" in capsys.readouterr().err


def test_a_missing_and_an_unknown_input_are_named(tmp_path, capsys):
    assert command.main([str(write_spec(tmp_path)), "--out", str(tmp_path / "out")]) == command.FAILED
    assert "expected scoring" in capsys.readouterr().err


def test_an_output_folder_with_something_in_it_is_left_alone(tmp_path, operation, capsys):
    operation(lambda *_, **__: {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    assert run(tmp_path, write_spec(tmp_path)) == command.FAILED
    assert "new or empty folder" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]


def test_starting_imports_no_torch(tmp_path):
    code = "import deft.__main__, sys; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_of_another_kind_is_refused_in_words(tmp_path, operation, capsys):
    operation(lambda spec, **_: {})
    spec = write_spec(tmp_path)
    assert command.main([str(spec), "--input", f"scoring={tmp_path}", "--out", str(tmp_path / "out")]) == command.FAILED
    assert "found a folder without scores.parquet" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "mark"), [("safety", "prompts.parquet"), ("pairwise", "examples.parquet")])
def test_the_labels_of_a_judge_are_of_the_kind_that_its_mode_asks_for(tmp_path, mode, mark):
    judge = {"endpoint": "environment", "model": "m"}
    spec = JudgeSpec.model_validate({"evaluation": "e", "judge": judge, "mode": mode, "labels": "l"})
    with pytest.raises(InvalidInput) as caught:
        require_kinds(spec, {"labels": tmp_path})
    assert caught.value.findings[0].found == f"a folder without {mark}"
    (tmp_path / mark).touch()
    require_kinds(spec, {"labels": tmp_path})
