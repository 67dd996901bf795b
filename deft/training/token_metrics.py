"""Metrics of response tokens that cost no logits, under TRL's names. Pure.

Letters: P response positions, S responses, V vocabulary, D hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deft.reward import Head

Pooled = dict[str, tuple[Tensor, Tensor]]
"""Sum over tokens and number of tokens of each metric: the metric of a step is the ratio of their totals."""


@dataclass(frozen=True, slots=True)
class MeanLogit:
    """The mean over V of the logits as a function of the hidden state: *direction* float32 [D] . h + *offset*."""

    direction: Tensor
    offset: float

    def pooled(self, hidden: Tensor, sequence: Tensor, is_chosen: Tensor) -> Pooled:
        """Return `logits/chosen` and `logits/rejected` (where there are any) of hidden states [P, D].

        *sequence* [P] int64 is each position's response, *is_chosen* [S] bool says which are.
        """
        values = hidden.detach().float() @ self.direction + self.offset
        chosen = is_chosen[sequence]
        found = {"logits/chosen": (values[chosen].sum(), chosen.sum())}
        if not is_chosen.all():
            found["logits/rejected"] = (values[~chosen].sum(), (~chosen).sum())
        return found


def mean_logit(head: Head) -> MeanLogit | None:
    """Return the mean logit of *head*; None for a soft-capped one, whose mean is not linear in the hidden state."""
    if head.softcap is not None:
        return None
    direction = head.weight.detach().mean(dim=0, dtype=torch.float32)
    offset = 0.0 if head.bias is None else head.bias.detach().float().mean().item()
    return MeanLogit(head.scale * direction, head.scale * offset)
