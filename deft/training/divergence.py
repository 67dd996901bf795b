"""When a training run is past saving: numbers that are not finite, a loss far above its start, no margin at all.

Pure: reads the numbers of one optimiser step after another and says, in words, why to end and what to change. It knows
no model, no optimiser and no file. The limits are ours (`docs/method.md`).
"""

import math
from collections.abc import Mapping
from typing import Any

from deft.errors import TrainingDiverged

PATIENCE = 50
"""Steps in a row without a margin that end the run."""

WINDOW = 20
"""Steps over which the loss is averaged, at the start and now."""

FACTOR, OFFSET = 3.0, 3.0
"""The loss has exploded when its mean over WINDOW steps is above FACTOR * its mean over the first ones + OFFSET."""


class DivergenceGuard:
    """Sees every optimiser step of a run, once each and in order."""

    def __init__(self) -> None:
        self._without_margin = 0
        self._first: list[float] = []
        self._last: list[float] = []

    def see(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the *metrics* of *step*: `deft/base_loss` and `grad_norm`, and `rewards/margins` where there are any.

        Raises:
            TrainingDiverged: the run is not worth going on with; the message says what to change.
        """
        if not math.isfinite(metrics["grad_norm"]):
            raise not_finite("gradient", metrics["grad_norm"], step)
        self._see_loss(step, metrics["deft/base_loss"])
        if "rewards/margins" in metrics:
            self._see_margin(step, metrics["rewards/margins"])

    def state(self) -> dict[str, Any]:
        """Return what it has counted, as JSON."""
        return {
            "without_margin": self._without_margin,
            "first": self._first,
            "last": self._last,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        self._without_margin = state["without_margin"]
        self._first, self._last = list(state["first"]), list(state["last"])

    def _see_loss(self, step: int, loss: float) -> None:
        if len(self._first) < WINDOW:
            self._first.append(loss)
            return
        self._last = [*self._last[-(WINDOW - 1) :], loss]
        start, now = (sum(losses) / WINDOW for losses in (self._first, self._last))
        if len(self._last) == WINDOW and now > FACTOR * start + OFFSET:
            raise TrainingDiverged(
                f"the loss exploded: its mean over the {WINDOW} optimiser steps up to {step} is {now:.4g}, over the "
                f"first {WINDOW} it was {start:.4g}: lower optimisation.learning_rate (to a tenth, say), lower "
                "deft.omega, or add optimisation.warmup_fraction"
            )

    def _see_margin(self, step: int, margin: float) -> None:
        self._without_margin = self._without_margin + 1 if margin == 0 else 0
        if self._without_margin >= PATIENCE:
            raise TrainingDiverged(
                f"the margin between chosen and rejected was 0 in each of the {PATIENCE} optimiser steps up to {step}: "
                "the adapter does not learn; raise optimisation.learning_rate, use optimisation.precision bf16 or fp32 "
                "instead of fp16, and see that chosen and rejected differ (`deft data check`)"
            )


def not_finite(what: str, value: float, step: int) -> TrainingDiverged:
    """Return the error of a loss or gradient (*what*) that is NaN or infinite."""
    return TrainingDiverged(
        f"the {what} of optimiser step {step} is {value}: lower optimisation.learning_rate (to a tenth, say), lower "
        "deft.omega, add optimisation.warmup_fraction, or use optimisation.precision bf16 or fp32 instead of fp16"
    )
