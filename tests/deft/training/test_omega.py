"""M10 against gradients taken the plain way, and its refusals."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.errors import InvalidInput
from deft.specs import MeasureOmegaSpec
from deft.training.omega import SHARE, calibration_of, measure_omega, run_measure_omega
from deft.training.preparation import prepare
from tests.deft import small_runs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return small_runs.make_inputs(tmp_path_factory.mktemp("inputs"), rows=35)


def measure_spec(train: Any) -> MeasureOmegaSpec:
    shared = MeasureOmegaSpec.model_fields.keys() - {"kind", "name"}
    return MeasureOmegaSpec.model_validate(train.model_dump(include=shared))


def test_the_term_weighs_a_tenth_of_the_base_loss_on_the_first_eight_batches(inputs: dict[str, Path]) -> None:
    spec = small_runs.spec_of(lora={"dropout": 0.5})
    prepared = prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=True)
    calibration = measure_omega(prepared.model, prepared.objective, prepared.steps, report=small_runs.Record())
    assert calibration.batches == 8

    model = prepared.model.eval()
    norms = []
    for part in ("base", "term"):
        model.zero_grad()
        for step in prepared.steps[:8]:
            size = prepared.objective.size_of(step)
            parts = prepared.objective.parts(model, step, size, at_start=True)
            assert parts.r_d is not None
            (parts.base / 8 if part == "base" else parts.r_d.mean() / 8).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(grad.double().square().sum().item() for grad in grads)))
    assert calibration.base_gradient_norm == pytest.approx(norms[0], rel=1e-4)
    assert calibration.term_gradient_norm == pytest.approx(norms[1], rel=1e-4)
    assert calibration.omega * norms[1] == pytest.approx(SHARE * norms[0], rel=1e-4)


def test_a_run_shorter_than_eight_batches_uses_them_all(inputs: dict[str, Path]) -> None:
    spec = small_runs.spec_of(optimisation={"batch_size": 16, "epochs": 1})
    prepared = prepare(spec, inputs=inputs, report=small_runs.Record(), needs_distribution=True)
    report = small_runs.Record()
    assert measure_omega(prepared.model, prepared.objective, prepared.steps, report=report).batches == 3


def test_calibration_measured_alone_and_read_are_one_value(inputs: dict[str, Path], tmp_path: Path) -> None:
    auto = small_runs.spec_of(deft={"omega": "auto"}, optimisation={"epochs": 1})
    (tmp_path / "calibration").mkdir()
    summary = run_measure_omega(
        measure_spec(auto), inputs=inputs, out=tmp_path / "calibration", report=small_runs.Record()
    )
    stored = json.loads((tmp_path / "calibration" / "omega.json").read_text())
    assert stored == summary
    assert sorted(stored) == ["base_gradient_norm", "batches", "omega", "term_gradient_norm"]

    alone = small_runs.train(auto, inputs, tmp_path / "alone")
    assert (alone["omega"], alone["omega_source"]) == (stored["omega"], "measured")
    assert alone["calibration"] == stored
    shared = small_runs.spec_of(deft={"omega": "auto", "omega_from": "cal_1"}, optimisation={"epochs": 1})
    given = {**inputs, "omega_from": tmp_path / "calibration"}
    read = small_runs.train(shared, given, tmp_path / "read")
    assert (read["omega"], read["omega_source"]) == (stored["omega"], "calibration")
    assert read["adapter_sha256"] == alone["adapter_sha256"]


@pytest.mark.parametrize(("base", "term"), [(0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.inf)])
def test_norms_that_give_no_omega_are_refused(base: float, term: float) -> None:
    with pytest.raises(InvalidInput, match=r"give deft\.omega as a number"):
        calibration_of(base, term, batches=8)


def test_calibration_without_a_distribution_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    spec = measure_spec(small_runs.spec_of())
    without = {name: folder for name, folder in inputs.items() if name != "scoring"}
    with pytest.raises(InvalidInput, match="no distribution"):
        run_measure_omega(spec, inputs=without, out=tmp_path, report=small_runs.Record())
