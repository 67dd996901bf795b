"""M10: how large omega must be for the reward term to be felt as a tenth of the base loss, measured once at step 0.

Knows gradients and norms; the batches come from `deft.training.preparation`, so that a calibration and the training
that uses it see the same ones.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deft.errors import ArtifactCorrupt, Interrupted, InvalidInput
from deft.losses import mean_over_step
from deft.memory import with_one_retry
from deft.reports import Report, stop_if_asked
from deft.sharding import whole
from deft.specs import MeasureOmegaSpec
from deft.training.loss_scale import gradients_by
from deft.training.methods import StepSize
from deft.training.objective import Objective, Parts
from deft.training.preparation import exact_arithmetic, prepare

Gradients = Sequence[Tensor | None]

SHARE = 0.1
BATCHES = 8


@dataclass(frozen=True, slots=True)
class Calibration:
    """omega, and the norms (over all trainable parameters) of the mean gradients of L_base and R_d it comes from."""

    omega: float
    base_gradient_norm: float
    term_gradient_norm: float
    batches: int


def run_measure_omega(
    spec: MeasureOmegaSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,
    report: Report,
) -> dict[str, Any]:
    """Measure omega for a training with these settings and write `omega.json` into *out*.

    Raises:
        InvalidInput: inputs that do not fit, or a gradient that is zero or not finite.
        Interrupted: it was asked to stop.
    """
    del checkpoints
    with exact_arithmetic():
        prepared = prepare(spec, inputs=inputs, report=report, needs_distribution=True)
        calibration = measure_omega(prepared.model, prepared.objective, prepared.steps, report=report)
    summary = asdict(calibration)
    (out / "omega.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def measure_omega(
    model: nn.Module, objective: Objective, steps: Sequence[Sequence[int]], *, report: Report
) -> Calibration:
    """M10: omega = 0.1 * |mean gradient of L_base| / |mean gradient of R_d| over the first 8 of *steps*.

    The policy is its own reference, dropout is off, and nothing of the model changes. A fresh LoRA adapter has B = 0,
    so that only B has a gradient here; its norm counts.

    Raises:
        InvalidInput: one of the norms is zero or not finite.
        Interrupted: the operation was asked to stop.
    """
    report.phase("measure_omega")
    first = steps[:BATCHES]
    was_training = model.training
    model.eval()
    norms = _sharded_norms if objective.is_sharded else _summed_norms
    base, term = with_one_retry(
        lambda: norms(model, objective, first, report), objective=objective, place="omega", report=report
    )
    model.train(was_training)
    return calibration_of(base / len(first), term / len(first), batches=len(first))


def _summed_norms(
    model: nn.Module, objective: Objective, steps: Sequence[Sequence[int]], report: Report
) -> tuple[float, float]:
    """Return the norms of the gradients of L_base and of R_d, each added up over *steps*."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    base, term = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for number, step in enumerate(steps):
        size = objective.size_of(step)
        find = partial(_gradients, model, objective, size, parameters)
        with closing(objective.each(find, objective.micro_batches(step))) as passes:
            for of_base, of_term in passes:
                _add(base, of_base)
                _add(term, of_term)
        report.progress(number + 1, len(steps), "batches")
        stop_if_asked(report)
    objective.ranks.add([*base, *term])
    return _norm(base), _norm(term)


def _sharded_norms(
    model: nn.Module, objective: Objective, steps: Sequence[Sequence[int]], report: Report
) -> tuple[float, float]:
    """Return the same over a sharded model, whose gradients are where a backward pass leaves them: a round for each."""
    return _round(model, objective, steps, report, False), _round(model, objective, steps, report, True)


def _round(
    model: nn.Module, objective: Objective, steps: Sequence[Sequence[int]], report: Report, is_term: bool
) -> float:
    """Return the norm of the gradient of L_base, or of R_d, added up over *steps* and all processes."""
    model.zero_grad()
    for number, step in enumerate(steps):
        size = objective.size_of(step)
        for indices in objective.passes(step):
            parts = objective.parts(model, indices or objective.along, size, at_start=True)
            value = _mean_reward(parts, size) if is_term else parts.base
            torch.autograd.backward(value if indices else 0 * value)
        report.progress(number + 1 + is_term * len(steps), 2 * len(steps), "batches")
        if any(objective.ranks.gather(report.is_stopping)):
            raise Interrupted
    found = [whole(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return _norm(found)


def _mean_reward(parts: Parts, size: StepSize) -> Tensor:
    if parts.r_d is None:
        raise RuntimeError("omega is measured against a distribution, and there is none")
    return mean_over_step(parts.r_d, size.examples, parts.weights)


def calibration_of(base_norm: float, term_norm: float, *, batches: int) -> Calibration:
    """Return the omega of two gradient norms.

    Raises:
        InvalidInput: one is zero or not finite, so that no omega follows.
    """
    for norm, of in ((base_norm, "the base loss"), (term_norm, "the distribution reward")):
        if not math.isfinite(norm) or norm == 0:
            raise InvalidInput(
                f"omega cannot be measured: the gradient norm of {of} is {norm} at step 0; give deft.omega as a number",
                code="omega_not_measurable",
            )
    return Calibration(SHARE * base_norm / term_norm, base_norm, term_norm, batches)


def read_omega(folder: Path) -> float:
    """Return the omega of the calibration in *folder*.

    Raises:
        ArtifactCorrupt: the file holds no finite number >= 0.
    """
    try:
        omega = float(json.loads((folder / "omega.json").read_text(encoding="utf-8"))["omega"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt("omega.json is not a calibration") from error
    if not 0 <= omega < math.inf:
        raise ArtifactCorrupt(f"omega.json holds {omega}; expected a finite number >= 0: measure omega again")
    return omega


def _gradients(
    model: nn.Module,
    objective: Objective,
    size: StepSize,
    parameters: Sequence[nn.Parameter],
    indices: Sequence[int],
) -> tuple[Gradients, Gradients]:
    """Return the gradients of a micro-batch's L_base and of its mean R_d, from one forward pass."""
    parts = objective.parts(model, indices, size, at_start=True)
    rewards = _mean_reward(parts, size)
    dtype = objective.computed_in
    return gradients_by(parts.base, parameters, dtype), gradients_by(rewards, parameters, dtype)


def _add(totals: Sequence[Tensor], gradients: Gradients) -> None:
    for total, gradient in zip(totals, gradients, strict=True):
        if gradient is not None:
            total += gradient


def _norm(gradients: Sequence[Tensor]) -> float:
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients))
