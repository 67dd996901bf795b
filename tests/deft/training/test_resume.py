"""A run that is killed and resumed ends with the bits of one that was not."""

import json
import multiprocessing
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deft.errors import Interrupted, InvalidInput, TrainingDiverged
from deft.folders import sha256_of
from tests.deft import small_runs

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["deft.training.run", "tests.deft.small_runs"])
DROPOUT: dict[str, Any] = {"lora": {"dropout": 0.2}}
TWO_FORWARDS: dict[str, Any] = {**DROPOUT, "optimisation": {"micro_batch_size": 2}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def straight(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of uninterrupted runs, by their number of forward passes a step."""
    root = tmp_path_factory.mktemp("straight")
    for name, document in {"one": DROPOUT, "two": TWO_FORWARDS}.items():
        run_child(document, inputs, root / name, root / f"{name}-checkpoints", "never", 0)
    return {name: weights_of(root / name) for name in ("one", "two")}


def run_child(
    document: dict[str, Any], inputs: Any, out: Path, checkpoints: Path, event: str, count: int, threads: int = 1
) -> int:
    shutil.rmtree(out, ignore_errors=True)
    child = CONTEXT.Process(
        target=small_runs.killed_train, args=(document, inputs, out, checkpoints, event, count, threads)
    )
    child.start()
    child.join(120)
    assert child.exitcode is not None, "the child hangs"
    return child.exitcode


def weights_of(out: Path) -> str:
    return sha256_of(out / "adapter_model.safetensors")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("event", "counts"),
    [
        ("step", [1]),  # before any checkpoint
        ("step", [3, 2, 3]),  # again and again: at steps 3, 4 (the end of an epoch) and 5 (the next one's begin)
        ("step", [8]),  # trained, not saved
        ("rename", [2]),  # while a checkpoint was being written
    ],
)
def test_a_killed_run_ends_with_the_same_bits(
    event: str, counts: list[int], inputs: dict[str, Path], straight: dict[str, str], tmp_path: Path
) -> None:
    out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
    for count in counts:
        assert run_child(DROPOUT, inputs, out, checkpoints, event, count) == -signal.SIGKILL
        assert not (out / "adapter_model.safetensors").exists()
    assert run_child(DROPOUT, inputs, out, checkpoints, "never", 0) == 0
    assert weights_of(out) == straight["one"]
    assert not list(checkpoints.glob(".*"))


@pytest.mark.faults
def test_a_run_killed_between_two_forward_passes_of_a_step_ends_with_the_same_bits(
    inputs: dict[str, Path], straight: dict[str, str], tmp_path: Path
) -> None:
    out, checkpoints = tmp_path / "out", tmp_path / "checkpoints"
    assert run_child(TWO_FORWARDS, inputs, out, checkpoints, "forward", 6) == -signal.SIGKILL
    assert run_child(TWO_FORWARDS, inputs, out, checkpoints, "never", 0) == 0
    assert weights_of(out) == straight["two"]
    assert straight["one"] != straight["two"], "dropout was off: the test could not see lost generators"


class StopsAtStep3(small_runs.Record):
    is_stopping = False

    def progress(self, done: int, total: int, unit: str) -> None:
        self.is_stopping = unit == "steps" and done >= 3


def test_a_run_asked_to_stop_writes_a_checkpoint_and_goes_on_from_it(
    inputs: dict[str, Path], straight: dict[str, str], tmp_path: Path
) -> None:
    report, spec = StopsAtStep3(), small_runs.spec_of(**DROPOUT)
    with pytest.raises(Interrupted):
        small_runs.train(spec, inputs, tmp_path / "first", tmp_path / "checkpoints", report)
    assert report.checkpoints == [2, 3]
    assert not list((tmp_path / "first").iterdir())
    resumed = small_runs.Record()
    small_runs.train(spec, inputs, tmp_path / "second", tmp_path / "checkpoints", resumed)
    assert sorted(resumed.steps) == [4, 5, 6, 7, 8]
    assert "reference" not in resumed.phases, "the reference was computed again"
    assert weights_of(tmp_path / "second") == straight["one"]


def test_steps_without_a_margin_are_counted_on_across_a_resume(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deft.training.divergence.PATIENCE", 6)
    spec = small_runs.spec_of(optimisation={"learning_rate": 1e-30}, deft=None)
    with pytest.raises(Interrupted):
        small_runs.train(spec, inputs, tmp_path / "first", tmp_path / "checkpoints", StopsAtStep3())
    with pytest.raises(TrainingDiverged, match="6 optimiser steps up to 6"):
        small_runs.train(spec, inputs, tmp_path / "second", tmp_path / "checkpoints")


def test_a_damaged_checkpoint_is_not_resumed_from(
    inputs: dict[str, Path], straight: dict[str, str], tmp_path: Path
) -> None:
    spec, checkpoints = small_runs.spec_of(**DROPOUT), tmp_path / "checkpoints"
    small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    newest = checkpoints / "step-000008" / "adapter.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\0")
    report = small_runs.Record()
    small_runs.train(spec, inputs, tmp_path / "second", checkpoints, report)
    assert sorted(report.steps) == [7, 8]
    assert "step-000008" in report.notes[0]
    assert weights_of(tmp_path / "second") == straight["one"]


def test_checkpoints_of_another_spec_or_data_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec, checkpoints = small_runs.spec_of(optimisation={"epochs": 1}), tmp_path / "checkpoints"
    small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    with pytest.raises(InvalidInput, match="spec differ"):
        small_runs.train(small_runs.spec_of(), inputs, tmp_path / "second", checkpoints)
    others = {**inputs, "data": small_runs.make_inputs(tmp_path / "others", rows=12)["data"]}
    with pytest.raises(InvalidInput, match="data differ"):
        small_runs.train(spec, others, tmp_path / "third", checkpoints)


def test_checkpoints_are_refused_under_another_distribution(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec, checkpoints = small_runs.spec_of(optimisation={"epochs": 1}), tmp_path / "checkpoints"
    small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    others = {**inputs, "scoring": small_runs.make_inputs(tmp_path / "others", rows=12)["scoring"]}
    with pytest.raises(InvalidInput, match="inputs differ"):
        small_runs.train(spec, others, tmp_path / "second", checkpoints)


def test_checkpoints_are_refused_under_other_settings_of_the_same_weights(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    spec, checkpoints = small_runs.spec_of(optimisation={"epochs": 1}), tmp_path / "checkpoints"
    small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    others = {**inputs, "model": small_runs.with_other_settings(inputs["model"], tmp_path / "model")}
    with pytest.raises(InvalidInput, match="inputs differ"):
        small_runs.train(spec, others, tmp_path / "second", checkpoints)


def test_checkpoints_are_refused_under_another_end_token(inputs: dict[str, Path], tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(inputs["model"], model)
    (model / "chat_template.jinja").unlink()
    spec, own = small_runs.spec_of(optimisation={"epochs": 1}, scoring=None, deft=None), {"data": inputs["data"]}
    small_runs.train(spec, {**own, "model": model}, tmp_path / "first", tmp_path / "checkpoints")
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    assert settings["eos_token"] != settings["bos_token"]
    path.write_text(json.dumps(settings | {"eos_token": settings["bos_token"]}), encoding="utf-8")
    with pytest.raises(InvalidInput, match="end token differ"):
        small_runs.train(spec, {**own, "model": model}, tmp_path / "second", tmp_path / "checkpoints")


def test_checkpoints_are_refused_from_a_start_adapter_with_another_scale(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    small_runs.train(small_runs.spec_of(method={"type": "sft"}, deft=None), inputs, tmp_path / "sft")
    spec, checkpoints = small_runs.spec_of(adapter="ad_1", optimisation={"epochs": 1}), tmp_path / "checkpoints"
    small_runs.train(spec, {**inputs, "adapter": tmp_path / "sft"}, tmp_path / "first", checkpoints)
    config = json.loads((tmp_path / "sft" / "adapter_config.json").read_text(encoding="utf-8"))
    config["lora_alpha"] *= 3
    (tmp_path / "sft" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidInput, match="inputs differ"):
        small_runs.train(spec, {**inputs, "adapter": tmp_path / "sft"}, tmp_path / "second", checkpoints)


def test_a_resumed_run_keeps_the_omega_that_it_measured_and_its_norms(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec, checkpoints = small_runs.spec_of(deft={"omega": "auto"}, optimisation={"epochs": 1}), tmp_path / "checkpoints"
    first = small_runs.train(spec, inputs, tmp_path / "first", checkpoints)
    report = small_runs.Record()
    second = small_runs.train(spec, inputs, tmp_path / "second", checkpoints, report)
    assert "measure_omega" not in report.phases, "omega was measured again"
    assert first["calibration"]["term_gradient_norm"] > 0
    for name in ("omega", "omega_source", "calibration"):
        assert second[name] == first[name]


def test_a_run_resumed_with_loader_processes_ends_with_the_same_bits(
    inputs: dict[str, Path], straight: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No setting asks for them: an item is a list of row numbers, whose order is a function of (seed, epoch) alone."""
    from deft.training import run as training

    spec, made = small_runs.spec_of(**DROPOUT), training.training_arguments
    with pytest.raises(Interrupted):
        small_runs.train(spec, inputs, tmp_path / "first", tmp_path / "checkpoints", StopsAtStep3())

    def with_processes(*given: Any, **options: Any) -> Any:
        arguments = made(*given, **options)
        arguments.dataloader_num_workers = 2
        return arguments

    monkeypatch.setattr(training, "training_arguments", with_processes)
    resumed = small_runs.Record()
    small_runs.train(spec, inputs, tmp_path / "second", tmp_path / "checkpoints", resumed)
    assert sorted(resumed.steps) == [4, 5, 6, 7, 8]
    assert weights_of(tmp_path / "second") == straight["one"]


@pytest.mark.faults
def test_a_killed_run_of_passes_side_by_side_ends_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    lanes: dict[str, Any] = {"optimisation": {"micro_batch_size": 1}}
    for name, threads in (("alone", 1), ("side by side", 3)):
        assert run_child(lanes, inputs, tmp_path / name, tmp_path / f"{name}-checkpoints", "never", 0, threads) == 0
    killed = tmp_path / "killed", tmp_path / "killed-checkpoints"
    assert run_child(lanes, inputs, *killed, "forward", 18, 3) == -signal.SIGKILL
    assert run_child(lanes, inputs, *killed, "never", 0, 3) == 0
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "side by side")
    one_by_one, side_by_side = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "side by side")
    )
    for name, weights in one_by_one.items():  # sums of another number of threads round otherwise
        torch.testing.assert_close(side_by_side[name], weights, atol=1e-5, rtol=1e-5)
