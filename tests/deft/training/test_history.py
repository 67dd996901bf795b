"""What a run told: kept over a resume, read by TensorBoard, passed to experiment trackers."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from deft.errors import InvalidInput
from deft.training.history import History, write_events
from tests.deft import small_runs


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_history_comes_back_from_its_parts_and_tensorboard_reads_it(tmp_path: Path) -> None:
    report = small_runs.Record()
    first = History(report)
    first.add(0, {"probe": 1.0})
    first.add(1, {"loss": 0.1, "probe": 1 / 3})
    first.add(2, {"loss": 0.2})
    tensors, names = first.parts()
    save_file(tensors, tmp_path / "history.safetensors")
    told = small_runs.Record()
    second = History(told)
    second.restore(load_file(tmp_path / "history.safetensors"), names)
    assert second.points == first.points
    assert told.steps == {}
    second.add(3, {"loss": 0.3})
    assert told.steps == {3: {"loss": 0.3}}
    write_events(second.points, tmp_path / "events")
    found = scalars(tmp_path / "events")
    assert found["train/loss"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, pytest.approx(0.3))]
    assert found["train/probe"] == [(0, 1.0), (1, pytest.approx(1 / 3))]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def test_the_event_file_of_a_resumed_run_has_every_step(inputs: dict[str, Path], tmp_path: Path) -> None:
    class Stops(small_runs.Record):
        is_stopping = False

        def progress(self, done: int, total: int, unit: str) -> None:
            self.is_stopping = unit == "steps" and done >= 3

    from deft.errors import Interrupted

    spec, checkpoints = small_runs.spec_of(optimisation={"epochs": 1}), tmp_path / "checkpoints"
    first, second = Stops(), small_runs.Record()
    with pytest.raises(Interrupted):
        small_runs.train(spec, inputs, tmp_path / "first", checkpoints, first)
    small_runs.train(spec, inputs, tmp_path / "out", checkpoints, second)
    steps = {**first.steps, **second.steps}
    assert sorted(second.steps) == [4]
    found = scalars(tmp_path / "out" / "tensorboard")
    assert found["train/loss"] == [(step, pytest.approx(steps[step]["loss"], rel=1e-6)) for step in range(1, 5)]
    assert [step for step, _ in found["train/deft/probe_kl"]] == [0, 4]


def test_a_tracker_gets_what_is_told(inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.integrations.integration_utils as integrations
    from transformers import TrainerCallback

    seen: list[tuple[int, dict[str, Any], str | None]] = []

    class Tracker(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append((state.global_step, logs, args.run_name))

    monkeypatch.setitem(integrations.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json" if name == "trackio" else name))
    report = small_runs.Record()
    spec = small_runs.spec_of(report_to=["trackio"], name="a run", optimisation={"epochs": 1})
    small_runs.train(spec, inputs, tmp_path / "out", report=report)
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4]
    assert [logs for _, logs, _ in seen] == [report.at_start, *(report.steps[step] for step in range(1, 5))]
    assert {name for *_, name in seen} == {"a run"}


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    spec = small_runs.spec_of(report_to=["wandb"])
    with pytest.raises(InvalidInput, match="wandb, which is not installed") as caught:
        small_runs.train(spec, {}, tmp_path / "out")
    (finding,) = caught.value.findings
    assert finding.pointer == "/report_to"
    assert "install wandb" in finding.fix
