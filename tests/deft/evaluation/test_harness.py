"""lm-evaluation-harness as a stand-in program that the test writes: called right, read right, failing alone."""

import json
import os
import stat
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from deft.arms import submit_children
from deft.endpoints import KEY
from deft.errors import Interrupted, InvalidInput
from deft.evaluation import harness
from deft.evaluation.run import run_evaluate
from deft.reports import Silent
from deft.specs import EvaluateSpec, PipelineSpec
from tests.deft.evaluation.test_answer_sets import inputs  # noqa: F401 - the fixture

Inputs = dict[str, Path]
PROGRAM = """
    import json, os, sys
    from pathlib import Path
    given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    model = dict(each.split("=", 1) for each in given["--model_args"].split(","))
    calls = Path({calls!r})
    called = {{"command": sys.argv[1], "has_key": "OPENAI_API_KEY" in os.environ, **given, **{{
        name: os.path.realpath(folder) for name, folder in model.items()}}}}
    calls.write_text((calls.read_text() if calls.exists() else "") + json.dumps(called) + "\\n")
    if not Path(model["pretrained"], "config.json").is_file():
        sys.exit("no model")
    {then}
    task = given["--tasks"].split(",")[0]
    found = {{
        "results": {{task: {{"alias": task, "acc,none": 0.6 if "peft" in model else 0.5, "acc_stderr,none": 0.1,
            "exact_match,strict": 0.25, "exact_match_stderr,strict": "N/A", "word_perplexity,none": 9.0}}}},
        "higher_is_better": {{task: {{"acc": True, "exact_match": True, "word_perplexity": False}}}},
        "versions": {{task: 2.0}}, "n-shot": {{task: 0}}, "n-samples": {{task: {{"original": 90, "effective": 40}}}},
        "lm_eval_version": "0.4.13", "odd": [1, None],
    }}
    out = Path(given["--output_path"]) / "a__model"
    out.mkdir(parents=True)
    (out / "results_2026.json").write_text(json.dumps(found))
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, then: str = "pass") -> Path:
    """Write the stand-in into *folder*, put it in PATH, and return the file in which it notes its calls."""
    folder.mkdir(exist_ok=True)
    text = textwrap.dedent(PROGRAM).format(calls=str(folder / "calls"), then=then)
    program = folder / "lm-eval"
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])
    return folder / "calls"


def spec_of(**lm_eval: Any) -> EvaluateSpec:
    return EvaluateSpec.model_validate(
        {
            "model": "m",
            "dataset": "ds_1",
            "rows": {"split": "all"},
            "systems": [{"name": "deft", "arm": "deft_arm", "adapter": "ad_1"}],
            "tokens": {"max_prompt_tokens": 200, "max_total_tokens": 300},
            "options": {"metrics": ["length"], "prompts": 2, "max_new_tokens": 4, "bootstrap": 100, "seed": 3},
            "lm_eval": {"tasks": ["arc_easy", "gsm8k"], "limit": 40, **lm_eval},
        }
    )


def run(inputs: Inputs, out: Path, spec: EvaluateSpec, report: Any = None) -> dict[str, Any]:  # noqa: F811
    out.mkdir(parents=True)
    kept = out.parent / "kept"
    return run_evaluate(spec, inputs=inputs, out=out, checkpoints=kept, report=report or Silent())


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_system_is_measured_and_its_numbers_become_scores(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = install(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv(KEY, "secret")
    summary = run(inputs, tmp_path / "out", spec_of(num_fewshot=5))
    base, deft = [json.loads(line) for line in calls.read_text().splitlines()]
    assert (base["command"], base["has_key"], base["--model"]) == ("run", False, "hf")
    asked = {"--tasks": "arc_easy,gsm8k", "--limit": "40", "--num_fewshot": "5", "--batch_size": "8", "--seed": "3"}
    assert {name: base[name] for name in asked} == asked
    assert base["pretrained"] == deft["pretrained"] == str(inputs["model"].resolve())
    assert ("peft" in base, deft["peft"]) == (False, str(inputs["adapter.0"].resolve()))
    rows = {(row["system"], row["metric"]): row for row in read(tmp_path / "out" / "metrics.json")}
    row = rows["deft", "lm_eval:arc_easy/acc"]
    assert (row["arm"], row["slice"], row["value"], row["n"]) == ("deft_arm", "all", 0.6, 40)
    assert (row["low"], row["high"]) == pytest.approx((0.6 - 0.1959964, 0.6 + 0.1959964))
    unsure = rows["base", "lm_eval:arc_easy/exact_match,strict"]
    assert (unsure["value"], unsure["low"], unsure["high"]) == (0.25, None, None)
    assert not [metric for _, metric in rows if "perplexity" in metric or "stderr" in metric]
    assert rows["base", "lm_eval:arc_easy/acc"]["settings_hash"] == row["settings_hash"]
    settings = read(tmp_path / "out" / "evaluation.json")["settings"]["lm_eval:arc_easy/acc"]
    assert (settings["program"], settings["task"]) == ("0.4.13", ["arc_easy", 2.0, 0])
    assert settings["asked"] == {"limit": 40, "num_fewshot": 5, "batch_size": 8}
    assert read(tmp_path / "out" / "lm_eval" / "deft.json")["odd"] == [1, None]
    assert summary["lm_eval"] == [{"system": "base", "metrics": 2}, {"system": "deft", "metrics": 2}]


def test_a_program_that_does_not_start_fails_every_system_alone(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tmp_path / "bin", monkeypatch)
    (tmp_path / "bin" / "lm-eval").write_bytes(b"\x7fELF")
    summary = run(inputs, tmp_path / "out", spec_of())
    told = "it does not start (OSError)"
    assert summary["lm_eval"] == [{"system": "base", "failure": told}, {"system": "deft", "failure": told}]


def test_without_the_program_nothing_is_run(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(harness, "PROGRAMS", ("no-such-program",))
    heard: list[str] = []

    class Hearing(Silent):
        def phase(self, name: str) -> None:
            heard.append(name)

    with pytest.raises(InvalidInput, match="not installed") as refusal:
        run(inputs, tmp_path / "out", spec_of(), Hearing())
    (finding,) = refusal.value.findings
    assert (finding.code, finding.pointer) == ("no_lm_eval", "/lm_eval")
    assert "pip install" in finding.fix
    assert heard == []


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ('"peft" in model and sys.exit("out of cheese")', "it ended with status 1 and said last: out of cheese"),
        ('"peft" in model and sys.exit(0)', "it ended without a file of results"),
        (
            '"peft" in model and (os.makedirs(given["--output_path"]) or '
            'Path(given["--output_path"], "results_1.json").write_text("[]")) and sys.exit(0)',
            "its file of results is not understood",
        ),
        (
            '"peft" in model and (os.makedirs(given["--output_path"]) or '
            'Path(given["--output_path"], "results_1.json").write_bytes(b"\\xff")) and sys.exit(0)',
            "its file of results cannot be read (UnicodeDecodeError)",
        ),
        (
            '"peft" in model and (os.makedirs(given["--output_path"]) or '
            'Path(given["--output_path"], "results_1.json").touch() or '
            'os.truncate(Path(given["--output_path"], "results_1.json"), 2**27) or sys.exit(0))',
            "its file of results has 134,217,728 bytes, more than 67,108,864",
        ),
        (
            '"peft" in model and (os.makedirs(Path(given["--output_path"], "results_1.json")) or sys.exit(0))',
            "it ended without a file of results",
        ),
    ],
)
def test_a_failure_keeps_everything_else(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
    told: str,
) -> None:
    install(tmp_path / "bin", monkeypatch, then)
    summary = run(inputs, tmp_path / "out", spec_of())
    assert summary["lm_eval"] == [{"system": "base", "metrics": 2}, {"system": "deft", "failure": told}]
    metrics = {(row["system"], row["metric"]) for row in read(tmp_path / "out" / "metrics.json")}
    assert {("deft", "length"), ("base", "lm_eval:arc_easy/acc")} <= metrics
    assert ("deft", "lm_eval:arc_easy/acc") not in metrics


@pytest.mark.parametrize("options", [{}, {"prompts": 0, "metrics": ["preference_accuracy"]}])
def test_what_was_measured_is_kept_and_a_stop_ends_the_program(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    document = spec_of().model_dump(mode="json")
    spec = EvaluateSpec.model_validate(document | {"options": document["options"] | options})
    then = '"peft" in model and not Path(sys.argv[0]).with_name("go").exists() and __import__("time").sleep(600)'
    calls = install(tmp_path / "bin", monkeypatch, then)

    class Stopping(Silent):
        @property
        def is_stopping(self) -> bool:  # type: ignore[override]
            return calls.exists() and len(calls.read_text().splitlines()) == 2

    with pytest.raises(Interrupted):
        run(inputs, tmp_path / "out", spec, Stopping())
    (tmp_path / "bin" / "go").touch()
    summary = run(inputs, tmp_path / "again", spec)
    assert summary["lm_eval"] == [{"system": "base", "metrics": 2}, {"system": "deft", "metrics": 2}]
    assert ["peft" in json.loads(line) for line in calls.read_text().splitlines()] == [False, True, True]


def test_kept_results_that_are_not_understood_are_measured_again(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = '(os.makedirs(given["--output_path"]), Path(given["--output_path"], "results_1.json").write_text("[]"))'
    then = f'__import__("time").sleep(600) if "peft" in model else {odd} and sys.exit(0)'
    calls = install(tmp_path / "bin", monkeypatch, then)

    class Stopping(Silent):
        @property
        def is_stopping(self) -> bool:  # type: ignore[override]
            return calls.exists() and len(calls.read_text().splitlines()) == 2

    with monkeypatch.context() as unchecked, pytest.raises(Interrupted):
        unchecked.setattr(harness, "parsed", lambda _: {})
        run(inputs, tmp_path / "out", spec_of(), Stopping())
    install(tmp_path / "bin", monkeypatch)
    summary = run(inputs, tmp_path / "again", spec_of())
    assert summary["lm_eval"] == [{"system": "base", "metrics": 2}, {"system": "deft", "metrics": 2}]
    assert ["peft" in json.loads(line) for line in calls.read_text().splitlines()] == [False, True, False, True]


def test_a_program_that_takes_long_is_heard_of(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tmp_path / "bin", monkeypatch, '"peft" in model and __import__("time").sleep(1.5)')
    monkeypatch.setattr(harness, "HEARD_SECONDS", 0.0)
    monkeypatch.setattr(harness, "LOOK_SECONDS", 0.05)
    heard: list[int] = []

    class Hearing(Silent):
        def progress(self, done: int, total: int, unit: str) -> None:
            if unit == "systems":
                heard.append(done)

    run(inputs, tmp_path / "out", spec_of(), Hearing())
    assert heard.count(1) > 2


def test_a_program_that_never_ends_is_ended_and_fails_its_system_alone(
    inputs: Inputs,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["__import__('signal').signal(15, 1)", "Path(sys.argv[0]).with_name('pid').write_text(str(os.getpid()))"]
    install(tmp_path / "bin", monkeypatch, f'"peft" in model and [{", ".join(lines)}, __import__("time").sleep(600)]')
    monkeypatch.setattr(harness, "GRACE_SECONDS", 0.1)
    summary = run(inputs, tmp_path / "out", spec_of(timeout_seconds=5))
    told = "it had not ended after 5 s (lm_eval.timeout_seconds)"
    assert summary["lm_eval"] == [{"system": "base", "metrics": 2}, {"system": "deft", "failure": told}]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "bin" / "pid").read_text()), 0)


@pytest.mark.parametrize("tasks", [[], ["a,b"], ["--model"], ["arc", "arc"], ["../x"]])
def test_tasks_are_plain_names(tasks: list[str]) -> None:
    with pytest.raises(ValueError, match="tasks"):
        spec_of(tasks=tasks)


def test_a_base_in_four_bits_is_none_for_a_program_that_loads_it_whole() -> None:
    with pytest.raises(ValueError, match="loads the base by itself"):
        EvaluateSpec.model_validate({**spec_of().model_dump(mode="json"), "quantisation": "nf4"})
    pipeline = {"kind": "pipeline", "dataset": "ds_1", "model": "m", "lm_eval": {"tasks": ["arc_easy"]}}
    with pytest.raises(ValueError, match="loads the base by itself"):
        PipelineSpec.model_validate({**pipeline, "optimisation": {"quantisation": "nf4"}})


def test_a_pipeline_has_its_evaluation_measure_so() -> None:
    spec = PipelineSpec.model_validate({"dataset": "ds_1", "model": "m", "lm_eval": {"tasks": ["arc_easy"]}})
    children: dict[str, Any] = {}

    def submit(name: str, child: Any) -> str:
        children[name] = child
        return f"job_{len(children)}"

    submit_children(spec, submit)
    assert children["evaluate"].lm_eval == spec.lm_eval
