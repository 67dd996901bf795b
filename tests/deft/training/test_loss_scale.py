"""Training in half precision on a CPU: float16's loss scale, and bfloat16, against float32."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.folders import sha256_of
from deft.training import loss_scale
from deft.training.accumulation import Accumulation
from deft.training.loss_scale import LossScale, gradients_by, loss_scale_of
from tests.deft import small_runs

FAINT: dict[str, Any] = {"method": {"type": "dpo", "beta": 1e-8}, "deft": None, "optimisation": {"epochs": 1}}
"""Gradients of hidden states that float16 rounds to zero."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"))


def norms(precision: str, inputs: dict[str, Path], out: Path, **changes: Any) -> list[float]:
    report = small_runs.Record()
    optimisation = {**changes.get("optimisation", {}), "precision": precision}
    small_runs.train(small_runs.spec_of(**{**changes, "optimisation": optimisation}), inputs, out, report=report)
    return [metrics["grad_norm"] for metrics in report.steps.values()]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("bf16", 0.1)])
def test_gradient_norms_are_those_of_float32_however_faint(
    precision: str, tolerance: float, inputs: dict[str, Path], tmp_path: Path
) -> None:
    expected = norms("fp32", inputs, tmp_path / "fp32", **FAINT)
    assert 0 < max(expected) < 1e-5
    assert norms(precision, inputs, tmp_path / precision, **FAINT) == pytest.approx(expected, rel=tolerance)


def test_an_overflow_is_done_again_and_no_step_is_left_out(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    of = Accumulation.of

    def counted(self: Accumulation, *arguments: Any) -> Any:
        nonlocal passes
        passes += 1
        return of(self, *arguments)

    monkeypatch.setattr(Accumulation, "of", counted)
    monkeypatch.setattr(loss_scale, "START", 2.0**26)
    found = norms("fp16", inputs, tmp_path / "fp16", lora={"dropout": 0.2}, optimisation={"epochs": 1})
    assert all(0 < norm < 100 for norm in found)
    assert passes > len(found) == 4


def test_the_scale_is_part_of_a_checkpoint(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    spec = small_runs.spec_of(optimisation={"precision": "fp16"}, lora={"dropout": 0.2})
    small_runs.train(spec, inputs, tmp_path / "straight", tmp_path / "checkpoints")
    last = tmp_path / "checkpoints" / "step-000008"
    expected = json.loads((last / "loss_scale.json").read_text())
    assert expected["steps"] == 2, "it does not change between the last checkpoints: the test shows nothing"
    shutil.rmtree(last)
    small_runs.train(spec, inputs, tmp_path / "resumed", tmp_path / "checkpoints")
    assert json.loads((last / "loss_scale.json").read_text()) == expected
    weights = [sha256_of(tmp_path / run / "adapter_model.safetensors") for run in ("straight", "resumed")]
    assert weights[0] == weights[1]


def test_a_restored_scale_grows_when_the_saved_one_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 3)
    saved, restored = loss_scale_of(torch.float16), loss_scale_of(torch.float16)
    for _ in range(2):
        assert saved.settle([torch.ones(1)])
    restored.restore(saved.state())
    for scale in (saved, restored):
        assert scale.settle([torch.ones(1)])
        assert scale.value == 2 * loss_scale.START


def test_the_scale_halves_grows_and_gives_up_at_one() -> None:
    scale = loss_scale_of(torch.float16)
    gradient = torch.tensor([2.0**15])
    assert scale.settle([gradient])
    assert gradient.item() == 0.5
    assert not scale.settle([torch.tensor([1.0, torch.inf])])
    assert (scale.value, scale.steps) == (2.0**15, 0)
    for _ in range(loss_scale.GROWTH_STEPS):
        scale.settle([torch.ones(1)])
    assert scale.value == 2.0**16
    assert LossScale(1.0, is_on=True).settle([torch.tensor([torch.nan])]), "nothing is left to halve"
    for dtype in (torch.float32, torch.bfloat16):
        loss = torch.ones(())
        assert loss_scale_of(dtype).scaled(loss) is loss


def test_gradients_at_a_scale_are_those_without() -> None:
    weight = torch.full((3,), 2.0, requires_grad=True)
    for factor in (1.0, 1e36):  # times 2^16 the second is beyond float32
        (found,) = gradients_by((factor * weight).sum(), [weight], torch.float16)
        assert found is not None
        assert found.tolist() == pytest.approx([factor] * 3)
