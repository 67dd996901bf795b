"""What the forward passes of one optimiser step add up to: its loss and the sums behind its metrics.

Pure but for one wait for the device. Sums of several processes add up like those of several passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deft.losses import mean_over_step
from deft.training.objective import Parts


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """Sums over the passes of a step: its *loss*, of each metric its share of the *means*, or *sums* and *counts*."""

    loss: float
    means: Mapping[str, float]
    sums: Mapping[str, float]
    counts: Mapping[str, float]

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name: means over examples, and ratios of sums and numbers of tokens."""
        ratios = {name: total / self.counts[name] for name, total in self.sums.items()}
        return {**self.means, **ratios}


@dataclass(slots=True)
class StepTotals:
    """The same as it grows, on the device."""

    loss: Tensor
    means: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, parts: Parts, loss: Tensor, examples: float) -> None:
        """Add a pass whose share of the step's loss is *loss*; the step has *examples* (the sum of their weights)."""
        self.loss += loss.detach()
        _add(self.means, "deft/base_loss", parts.base.detach())
        for name, values in parts.facts.items():
            _add(self.means, name, mean_over_step(values, examples, parts.weights))
        for name, (total, count) in parts.pooled.items():
            _add(self.sums, name, total)
            _add(self.counts, name, count)

    def numbers(self) -> StepNumbers:
        """Return the totals as numbers, in one transfer."""
        groups = [self.means, self.sums, self.counts]
        values = [value.float() for group in groups for value in group.values()]
        loss, *rest = torch.stack([self.loss.float(), *values]).tolist()
        found = iter(rest)
        means, sums, counts = ({name: next(found) for name in group} for group in groups)
        return StepNumbers(loss, means, sums, counts)


def added_up(parts: Sequence[StepNumbers]) -> StepNumbers:
    """Return the sum of *parts*; a process that had no example of the step has no names either."""
    groups = [[getattr(part, group) for part in parts] for group in ("means", "sums", "counts")]
    names = [dict.fromkeys(name for each in group for name in each) for group in groups]
    totals = [
        {name: sum(each.get(name, 0.0) for each in group) for name in own}
        for group, own in zip(groups, names, strict=True)
    ]
    return StepNumbers(sum(part.loss for part in parts), *totals)


def _add(totals: dict[str, Tensor], name: str, value: Tensor) -> None:
    totals[name] = totals[name] + value if name in totals else value
