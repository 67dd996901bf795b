"""Several processes give what one gives: losses, omega, resume; and they fail, stop and pause together."""

import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest

from deft.errors import DeftError, Finding, Interrupted, InvalidInput
from deft.failures import failure_of
from deft.folders import sha256_of
from deft.training.ranks import Ranks
from tests.deft import small_runs

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deft.training.run", "tests.deft.small_runs"])
LOSS_TOLERANCE, TOLERANCE = 2e-6, 5e-5
"""Of losses, and of other numbers (absolute and relative): a step's sums are taken in another order, in float32."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def test_every_example_of_a_step_goes_to_one_process_and_the_long_ones_to_different_ones() -> None:
    lengths = [9, 1, 8, 2, 7]
    shares = [Ranks(rank, 2).share([4, 2, 0, 1, 3], lengths) for rank in range(2)]
    assert shares == [[0, 4, 1], [2, 3]]
    assert Ranks().share([4, 2, 0], lengths) == [4, 2, 0]
    assert Ranks(2, 3).share([0, 1], lengths) == []


class Told(small_runs.Record):
    """Asks for a stop once *after* steps are done."""

    is_stopping = False

    def __init__(self, after: int | None) -> None:
        super().__init__()
        self.after = after

    def progress(self, done: int, total: int, unit: str) -> None:
        self.is_stopping = self.after is not None and unit == "steps" and done >= self.after


def one_of_many(
    rank: int, size: int, root: Path, document: dict[str, Any], inputs: Any, fault: str, after: int | None
) -> None:
    """Body of a child: train as process *rank* of *size* and leave what was told beside *root*."""
    from deft.training.ranks import joined

    report = Told(after) if rank == 0 else small_runs.Record()
    if fault and rank == 1:
        break_fifth_pass(fault)
    end: Any = None
    with joined(rank, size, f"file://{root}/meeting"):
        try:
            checkpoints = root.parent / "checkpoints" if "optimisation" in document else None
            end = small_runs.train(small_runs.spec_of(**document), inputs, root / f"out{rank}", checkpoints, report)
        except (DeftError, MemoryError, Interrupted) as error:
            end = (type(error).__name__, str(error))
    (root / f"told{rank}").write_bytes(pickle.dumps((report.steps, report.phases, end)))


def break_fifth_pass(fault: str) -> None:
    """Let the fifth forward pass and later ones run out of memory, or kill the process."""
    from deft.training.objective import Objective

    parts, seen = Objective.parts, 0

    def burst(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen > 4 and fault == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if seen > 4:
            raise MemoryError
        return parts(self, *arguments, **options)

    Objective.parts = burst  # type: ignore[method-assign]


def run_two(
    root: Path, document: dict[str, Any], inputs: Any, *, fault: str = "", after: int | None = None
) -> list[tuple[Any, Any, Any]]:
    root.mkdir(parents=True)
    children = [
        CONTEXT.Process(target=one_of_many, args=(rank, 2, root, document, inputs, fault, after)) for rank in range(2)
    ]
    for child in children:
        child.start()
    for rank, child in enumerate(children):
        child.join(120)
        expected = -signal.SIGKILL if fault == "death" and rank == 1 else 0
        assert child.exitcode == expected, "a process hangs or broke off"
    if fault == "death":
        children = children[:1]
    return [pickle.loads((root / f"told{rank}").read_bytes()) for rank in range(len(children))]  # noqa: S301 -- our own


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="dpo with the term"),
        pytest.param({"method": {"type": "sft"}, "deft": {"omega": "auto"}}, id="sft, omega measured"),
    ],
)
def test_two_processes_train_what_one_trains(document: dict[str, Any], inputs: dict[str, Path], tmp_path: Path) -> None:
    alone = small_runs.Record()
    expected = small_runs.train(small_runs.spec_of(**document), inputs, tmp_path / "alone", report=alone)
    (steps, phases, summary), (others, _, nothing) = run_two(tmp_path / "two", document, inputs)
    assert sorted(steps) == sorted(alone.steps) == list(range(1, 9))
    for step, values in alone.steps.items():
        assert steps[step] == pytest.approx(values, abs=TOLERANCE, rel=TOLERANCE), step
        assert steps[step]["loss"] == pytest.approx(values["loss"], abs=LOSS_TOLERANCE, rel=0)
    assert {name: values["loss"] for name, values in others.items()} == {s: v["loss"] for s, v in steps.items()}
    assert summary["omega"] == pytest.approx(expected["omega"], rel=1e-5)
    assert (summary["processes"], expected["processes"]) == (2, 1)
    assert "save" in phases
    assert nothing == {}
    assert not (tmp_path / "two" / "out1").exists() or not list((tmp_path / "two" / "out1").iterdir())


def test_a_run_of_two_that_stops_goes_on_with_the_same_bits_and_one_process_can_take_over(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    document = {"lora": {"dropout": 0.2}, "optimisation": {"checkpoint_steps": 3}}
    straight, broken = tmp_path / "a" / "straight", tmp_path / "b" / "first"
    run_two(straight, document, inputs)
    stopped = run_two(broken, document, inputs, after=3)
    assert [end[0] for *_, end in stopped] == ["Interrupted", "Interrupted"]
    (steps, *_), _ = run_two(tmp_path / "b" / "second", document, inputs)
    assert sorted(steps) == [5, 6, 7, 8]
    weights = "out0/adapter_model.safetensors"
    assert sha256_of(tmp_path / "b" / "second" / weights) == sha256_of(straight / weights)

    without = {"optimisation": {"checkpoint_steps": 3}}
    run_two(tmp_path / "c" / "first", without, inputs, after=3)
    report, spec = small_runs.Record(), small_runs.spec_of(**without)
    small_runs.train(spec, inputs, tmp_path / "c" / "alone", tmp_path / "c" / "checkpoints", report)
    whole = small_runs.Record()
    small_runs.train(spec, inputs, tmp_path / "c" / "whole", report=whole)
    assert sorted(report.steps) == [5, 6, 7, 8]
    assert report.steps[8]["loss"] == pytest.approx(whole.steps[8]["loss"], abs=LOSS_TOLERANCE)


def test_memory_that_runs_out_in_one_process_fails_the_run_in_all(inputs: dict[str, Path], tmp_path: Path) -> None:
    first, second = run_two(tmp_path / "two", {"deft": None}, inputs, fault="memory")
    assert first[2][0] == second[2][0] == "MemoryError"
    assert "in process 1" in first[2][1]
    assert sorted(first[0]) == sorted(second[0]) == [1, 2]


def test_a_process_that_dies_is_no_failure_of_the_job(inputs: dict[str, Path], tmp_path: Path) -> None:
    ((steps, _, end),) = run_two(tmp_path / "two", {"deft": None}, inputs, fault="death")
    assert end[0] == "ProcessLost"
    assert 1 <= len(steps) < 8


def test_a_failure_elsewhere_keeps_its_category_and_its_findings() -> None:
    from deft.training.ranks import _error_of

    memory = _error_of(failure_of(MemoryError("no room")), 3)
    assert failure_of(memory)["code"] == "out_of_memory"
    error = _error_of(failure_of(RuntimeError("no room")), 3)
    assert type(error) is DeftError
    assert (error.error_code, error.message) == ("internal", "in process 3: RuntimeError: no room")
    finding = Finding("bad", "a", "b", "c", pointer="/d")
    told = failure_of(_error_of(failure_of(InvalidInput("no", code="bad", findings=[finding])), 1))
    assert (told["category"], told["code"], told["findings"]) == ("user", "bad", [finding.as_dict()])
