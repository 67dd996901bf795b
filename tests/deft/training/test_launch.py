"""Several processes from the command line: our own launcher and torchrun, a process's place, and who may speak."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deft import __main__ as command
from deft.folders import verify
from deft.training import launch
from deft.training.launch import Place, place_of, see_own_gpu
from tests.deft import small_runs

TOLD = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}


def test_the_place_is_what_torchruns_variables_say() -> None:
    assert place_of({}) is None
    assert place_of({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}) is None
    assert place_of(TOLD) == Place(1, 1, 2)


@pytest.mark.parametrize(
    ("shown", "own"), [({}, "1"), ({"CUDA_VISIBLE_DEVICES": "4,7"}, "7"), ({"CUDA_VISIBLE_DEVICES": ""}, "")]
)
def test_a_process_sees_its_own_gpu_of_those_that_it_may_see(shown: dict[str, str], own: str) -> None:
    see_own_gpu(shown, Place(1, 1, 2))
    assert shown["CUDA_VISIBLE_DEVICES"] == own


def test_only_training_runs_in_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "select", "scoring": "sc_1"}))
    (tmp_path / "scores.parquet").touch()
    for name, value in {**TOLD, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    arguments = [str(tmp_path / "spec.json"), "--input", f"scoring={tmp_path}", "--out", str(tmp_path / "out")]
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert command.main(arguments) == command.FAILED
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    assert "only train runs in several" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a small training, without its output folder."""
    root = tmp_path_factory.mktemp("order")
    inputs = small_runs.make_inputs(root / "inputs")
    spec = small_runs.spec_of(optimisation={"epochs": 1})
    (root / "spec.json").write_text(spec.model_dump_json())
    return [str(root / "spec.json"), *(part for name, path in inputs.items() for part in ("--input", f"{name}={path}"))]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("starter", "more"),
    [
        pytest.param(["-m", "deft"], ["--processes", "2", "--events"], id="our own launcher, as a worker starts it"),
        pytest.param(
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "deft"], [], id="torchrun"
        ),
    ],
)
def test_two_processes_speak_with_one_voice_and_write_one_adapter(
    starter: list[str], more: list[str], order: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, *starter, *order, "--out", str(out), *more],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((out / "training.json").read_text())
    assert record["processes"] == 2
    if "--events" in more:
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["event"] for event in events].count("done") == 1
        assert [event["step"] for event in events if event["event"] == "metrics"] == [0, 1, 2, 3, 4]
    else:
        assert verify(out)["summary"]["processes"] == 2
        assert done.stdout.count("step 4: loss") == 1


RANK_ONE_FAILS = """
import os
if os.environ.get("RANK") == "1":
    from deft.errors import ModelNotUsable
    from deft.training import run
    def refuse(*_arguments, **_options):
        raise ModelNotUsable("this process has no model")
    run.prepare = refuse
"""


def test_the_failure_of_another_process_than_the_first_is_the_jobs(order: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(RANK_ONE_FAILS)
    paths = os.pathsep.join((str(tmp_path), str(Path(command.__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, "-m", "deft", *order, "--out", str(tmp_path / "out"), "--processes", "2", "--events"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**environment(), "PYTHONPATH": paths},
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == command.FAILED
    assert [event["event"] for event in events].count("failed") == 1
    told = events[-1]["failure"]
    assert (told["category"], told["code"]) == ("user", "model_not_usable")
    assert told["message"] == "in process 1: this process has no model"


def test_of_several_failures_the_first_to_be_left_stays(tmp_path: Path) -> None:
    meeting = f"file://{tmp_path}/meeting"
    launch.leave_failure(meeting, 2, {"message": "in process 1: no memory"})
    launch.leave_failure(meeting, 1, {"message": "late"})
    launch.leave_failure("env://", 1, {"message": "torchrun's processes have no such place"})
    assert json.loads((tmp_path / "failure.json").read_text()) == {"message": "in process 1: no memory"}


def test_a_stop_reaches_all_processes_through_the_first(order: list[str], tmp_path: Path) -> None:
    spec = json.loads(Path(order[0]).read_text())
    spec["optimisation"]["epochs"] = 500
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    folders = ["--out", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "checkpoints")]
    command_line = ["-m", "deft", str(tmp_path / "spec.json"), *order[1:], *folders, "--processes", "2", "--events"]
    child = subprocess.Popen(
        [sys.executable, *command_line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
    )
    assert child.stdout is not None
    reached = 0
    for line in child.stdout:
        event = json.loads(line)
        if event["event"] == "metrics" and event["step"] == 2:
            child.send_signal(signal.SIGTERM)
        reached = event["step"] if event["event"] == "checkpoint" else reached
    assert child.wait(60) == command.STOPPED
    assert 2 < reached < 2000
    assert verify(tmp_path / "checkpoints" / f"step-{reached:06d}")["step"] == reached


def test_when_one_process_dies_the_others_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LEAVE_SECONDS", 0.3)
    sleeps, dies = "import time; time.sleep(600)", "import os; os.kill(os.getpid(), 9)"
    children = [subprocess.Popen([sys.executable, "-c", code]) for code in (sleeps, dies, sleeps)]
    started = time.monotonic()
    assert launch._wait(children) == (137, None, "process 1 of 3 of this training was killed by signal 9")
    assert time.monotonic() - started < 60
    assert all(child.poll() is not None for child in children)


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [("step-000002", "continues from its last checkpoint"), (None, "starts over: there is no checkpoint yet")],
)
def test_a_killed_process_is_told_with_how_the_command_goes_on(
    checkpoint: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = ["--out", str(tmp_path / "out"), "--checkpoints", str(tmp_path / "kept")]
    (tmp_path / "kept" / (checkpoint or "")).mkdir(parents=True)
    monkeypatch.setattr(launch, "run_all", lambda *_: launch.End(137, death="process 1 of 2 was killed by signal 9"))
    assert command.main(["spec.json", *folders, "--processes", "2"]) == 137
    assert capsys.readouterr().err == f"process 1 of 2 was killed by signal 9; the same command {words}\n"


@pytest.mark.parametrize("status", [0, 1, 3])
def test_what_the_first_process_has_said_stands_when_another_is_killed_after_it(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os; os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else os._exit({status})"
    (tmp_path / "deft").mkdir()
    (tmp_path / "deft" / "__init__.py").touch()
    (tmp_path / "deft" / "__main__.py").write_text(code)
    monkeypatch.setattr(launch.signal, "signal", lambda *_: None)  # this process keeps its own handlers
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert launch.run_all([], 2) == (status, None, None)


def test_the_end_of_the_first_process_is_the_end_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_with(*codes: str) -> Any:
        return launch._wait([subprocess.Popen([sys.executable, "-c", code]) for code in codes]).status

    monkeypatch.setattr(launch, "LEAVE_SECONDS", 0.3)
    assert ends_with("raise SystemExit(75)", "import time; time.sleep(600)") == 75
    assert ends_with("raise SystemExit(0)", "raise SystemExit(0)") == 0
    assert ends_with("import os; os.kill(os.getpid(), 9)", "raise SystemExit(1)") == 128 + 9
