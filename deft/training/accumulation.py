"""The gradient of one optimiser step, added up over its forward passes.

Knows the objective, M9 and the layout of passes on the device; it must not know the optimiser, its schedule or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from deft.lanes import in_lanes
from deft.losses import with_reward_term
from deft.training.loss_scale import LossScale
from deft.training.methods import StepSize
from deft.training.objective import Objective, Parts
from deft.training.policy import draws_dropout
from deft.training.step_totals import StepTotals


@dataclass(frozen=True, slots=True)
class Accumulation:
    """How a step's gradient comes about: of which *objective*, with which *omega*, at which *scale*."""

    objective: Objective
    omega: float
    scale: LossScale

    def of(self, step: Sequence[int], model: nn.Module, device: torch.device) -> StepTotals:
        """Add this process's share of the gradient of *step*, from zero, to *model*; return what its passes gave.

        The gradient is still multiplied by the scale.
        """
        totals = StepTotals(torch.zeros((), device=device))
        batches, size = self.objective.passes(step), self.objective.size_of(step)
        model.zero_grad()
        is_busy = device.type != "cpu" or self.objective.is_sharded
        if is_busy or draws_dropout(model):  # a GPU is busy, shards wait for each other; dropout's draws have an order
            for indices in batches:
                parts = self.objective.parts(model, indices or self.objective.along, size)
                loss = self.loss(parts, size)
                torch.autograd.backward(self.scale.scaled(loss if indices else 0 * loss))
                if indices:
                    totals.add(parts, loss, size.examples)
            return totals
        self._in_lanes(batches, size, model, totals)
        return totals

    def loss(self, parts: Parts, size: StepSize) -> Tensor:
        """M9 of one forward pass: its share of the mean over the optimiser step."""
        return with_reward_term(
            parts.base, parts.r_d, self.omega, examples_in_step=size.examples, weights=parts.weights
        )

    def _in_lanes(self, batches: Sequence[Sequence[int]], size: StepSize, model: nn.Module, totals: StepTotals) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        passes = in_lanes(partial(self._pass, model, size, parameters), batches, totals.loss.device)
        with closing(passes):
            for parts, loss, gradients in passes:
                totals.add(parts, loss, size.examples)
                _add(parameters, gradients)

    def _pass(
        self, model: nn.Module, size: StepSize, parameters: Sequence[nn.Parameter], indices: Sequence[int]
    ) -> tuple[Parts, Tensor, Sequence[Tensor | None]]:
        """Return what one forward pass gives, its share of M9, and its scaled gradients; nothing shared changes."""
        parts = self.objective.parts(model, indices, size)
        loss = self.loss(parts, size)
        gradients = torch.autograd.grad(self.scale.scaled(loss), parameters, allow_unused=True)
        return replace(parts, base=parts.base.detach(), r_d=None), loss.detach(), gradients


def gradients_of(model: nn.Module) -> list[Tensor]:
    """Return the gradients of all trained parameters: zero where this process had no example of the step."""
    found = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


def _add(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
