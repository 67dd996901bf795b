"""Steps are done once, in sealed folders; what fails is said with its log."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.experiment import steps as module
from bench.experiment.design import TWO_BY_TWO, Run
from bench.experiment.steps import StepFailed, Steps
from deft.folders import seal
from deft.specs import job_spec

DEFT, PLAIN = TWO_BY_TWO[:2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of `python -m deft`, each of which seals an output at once."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(command)
        out = Path(command[command.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "omega.json").write_text(json.dumps({"omega": 3.0}))
        seal(out, {})
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", run)
    return seen


def steps_in(folder: Path) -> Steps:
    return Steps(folder, folder / "data", folder / "model", seconds=folder / "seconds.jsonl")


def names(started: list[list[str]]) -> list[str]:
    return [Path(command[3]).stem for command in started]


def test_everything_that_a_run_needs_comes_first_and_once(tmp_path: Path, started: list[list[str]]) -> None:
    steps = steps_in(tmp_path)
    omega = steps.omega(DEFT)
    runs = [Run(DEFT, 1e-4, 0), Run(PLAIN, 1e-4, 0)]
    steps.evaluate("two", "test", runs, omega)
    expected = ["scoring", "subset-lowest-0.05-0", "omega", *(f"run-{run.name}" for run in runs), "test-two"]
    assert names(started) == expected
    told = (tmp_path / "seconds.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in told] == expected
    steps_in(tmp_path).evaluate("two", "test", runs, omega)
    assert names(started) == expected


def test_specs_are_valid_and_differ_where_cells_do(tmp_path: Path, started: list[list[str]]) -> None:
    steps = steps_in(tmp_path)
    for run in (Run(DEFT, 1e-4, 1), Run(PLAIN, 1e-4, 1)):
        steps.train(run, 3.0)
    specs = [job_spec.validate_json(Path(command[3]).read_bytes()) for command in started if "run-" in command[3]]
    with_term, without = (spec.model_dump(exclude={"name"}) for spec in specs)
    assert with_term.pop("deft")["omega"] == 3.0
    assert without.pop("deft") is None
    assert with_term == without
    assert with_term["optimisation"]["seed"] == 1


def test_a_step_without_a_sealed_folder_is_done_again(tmp_path: Path, started: list[list[str]]) -> None:
    steps = steps_in(tmp_path)
    half_done = tmp_path / "scoring"
    half_done.mkdir()
    (half_done / "litter").write_text("x")
    steps.scoring()
    assert names(started) == ["scoring"]
    assert not (half_done / "litter").exists()


def test_a_step_that_fails_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(StepFailed, match="scoring ended with status 1; see "):
        steps_in(tmp_path).scoring()
