"""The loss scale of float16: losses are multiplied before the backward pass, so that small gradients do not vanish.

Only what is computed in float16 needs it: the adapter and its gradients are float32, and are divided again before
anything reads them. A step whose gradient overflows is done again at half the scale, so that no step is left out and
no row is lost. Knows gradients; no model, optimiser or file. Start and growth are those of torch.amp.GradScaler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

START = 2.0**16
GROWTH_STEPS = 2000
"""Steps in a row without an overflow after which the scale is doubled."""


@dataclass(slots=True)
class LossScale:
    """*value* that losses are multiplied by, a power of two (1: not at all), and the *steps* since it changed."""

    value: float = 1.0
    steps: int = 0
    is_on: bool = False

    def scaled(self, loss: Tensor) -> Tensor:
        """Return what to call `backward` on: *loss* itself where nothing is scaled."""
        return loss * self.value if self.is_on else loss

    def settle(self, gradients: Sequence[Tensor]) -> bool:
        """Divide *gradients* in place by the scale; False: they overflowed, and are to be computed at half the scale.

        At a scale of 1 they are what they are, finite or not.
        """
        if not self.is_on:
            return True
        if self.value > 1 and not are_finite(gradients):
            self.value, self.steps = self.value / 2, 0
            return False
        for gradient in gradients:
            gradient.div_(self.value)
        self.steps += 1
        if self.steps == GROWTH_STEPS:
            self.value, self.steps = self.value * 2, 0
        return True

    def state(self) -> dict[str, float]:
        """Return it as JSON."""
        return {"value": self.value, "steps": self.steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Put back what `state` gave."""
        self.value, self.steps = state["value"], int(state["steps"])


def loss_scale_of(dtype: torch.dtype) -> LossScale:
    """Return the scale that a run starts with whose frozen base is computed in *dtype*."""
    return LossScale(START, is_on=True) if dtype == torch.float16 else LossScale()


def are_finite(gradients: Sequence[Tensor | None]) -> bool:
    """Whether no element of *gradients* is NaN or infinite."""
    found = [gradient.isfinite().all() for gradient in gradients if gradient is not None]
    return not found or bool(torch.stack(found).all())


def gradients_by(value: Tensor, parameters: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor | None]:
    """Return the gradients of the scalar *value* by *parameters*, at the largest scale that does not overflow.

    The graph is kept; nothing shared changes.
    """
    scale = loss_scale_of(dtype)
    while True:
        found = torch.autograd.grad(scale.scaled(value), parameters, retain_graph=True, allow_unused=True)
        if scale.settle([gradient for gradient in found if gradient is not None]):
            return list(found)
