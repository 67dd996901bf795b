"""The table of objectives: which responses a method looks at, and how their log-probabilities become its loss.

One entry a method, each with or without the DEFT term (M9), which the caller adds from the same forward pass. The
formulas are in `deft.losses`; this module knows no model, no layout and no step. Letters: B examples, S responses of
theirs, P response positions. Log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from deft.losses import Loss, dpo_loss, pro_loss, sft_loss, sum_by_sequence
from deft.specs import DpoMethod, ProMethod, SftMethod

AnyMethod = SftMethod | DpoMethod | ProMethod


@dataclass(frozen=True, slots=True)
class StepSize:
    """What the losses of an optimiser step are divided by, however the step is cut into micro-batches.

    Its number of *examples* and of response *tokens*; with row weights their sums, each with its row's weight.
    """

    examples: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """What one forward pass says of B examples, in the order of example, then response (best first)."""

    logps: Tensor
    """[P] log-probability of every response token, with the end token."""
    sequence: Tensor
    """[P] int64, the response (0..S-1) that each belongs to."""
    responses: Sequence[int]
    """N of each example; they sum to S."""
    size: StepSize
    rewards: Tensor | None = None
    """[S] training rewards r_k, where the method has them."""
    reference: Tensor | None = None
    """[B, 2] summed log-probabilities of chosen and rejected under the reference, where the method has one."""
    weights: Tensor | None = None
    """[B] row weights; None: every example counts alike."""

    @property
    def sums(self) -> Tensor:
        """Return [S] log-probabilities, summed over the positions of each response."""
        return sum_by_sequence(self.logps, self.sequence, sum(self.responses))

    @property
    def chosen(self) -> Tensor:
        """Return [B] int64, the place of each example's first response among the S."""
        counts = torch.tensor(self.responses, device=self.logps.device)
        return counts.cumsum(0) - counts


Facts = dict[str, Tensor]
"""Metrics of each example, [B], under TRL's names; their mean over the step is what is logged."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What training must know of one method.

    *picks* gives the places, best first, of the responses that it looks at in a list of N. *loss* gives the share of
    the micro-batch in the step's L_base, and the metrics. A method without a reference needs no reference pass.
    """

    picks: Callable[[Any, int], list[int]]
    loss: Callable[[Any, Likelihoods], tuple[Tensor, Facts]]
    has_reference: bool = False
    has_rewards: bool = False


def criterion_of(method: AnyMethod) -> Criterion:
    """Return the entry of *method*."""
    return CRITERIA[method.type]


def _first(method: SftMethod, responses: int) -> list[int]:
    del method, responses
    return [0]


def _pair(method: DpoMethod, responses: int) -> list[int]:
    """The best and one other: of a pair always the second."""
    return [0, 1 if method.rejected == "second" else responses - 1]


def _every(method: ProMethod, responses: int) -> list[int]:
    del method
    return list(range(responses))


def _sft(method: SftMethod, found: Likelihoods) -> tuple[Tensor, Facts]:
    del method
    size, examples = found.size, len(found.responses)
    loss = sft_loss(found.logps, found.sequence, examples, tokens_in_step=size.tokens, weights=found.weights)
    return loss.value, {"logps/chosen": found.sums}


def _dpo(method: DpoMethod, found: Likelihoods) -> tuple[Tensor, Facts]:
    if found.reference is None:
        raise RuntimeError("the reference log-probabilities were not computed before training")
    policy, reference = found.sums.view(-1, 2), found.reference
    loss = dpo_loss(
        policy[:, 0],
        policy[:, 1],
        reference[:, 0],
        reference[:, 1],
        beta=method.beta,
        examples_in_step=found.size.examples,
        weights=found.weights,
    )
    accuracies = (loss.per_example["margin"] > 0).float()
    return loss.value, _preference_facts(loss, accuracies, policy[:, 0], policy[:, 1])


def _pro(method: ProMethod, found: Likelihoods) -> tuple[Tensor, Facts]:
    if found.rewards is None:
        raise RuntimeError("PRO was given no training rewards")
    sums, counts = found.sums, found.responses
    positions = torch.bincount(found.sequence, minlength=len(sums))
    loss = pro_loss(
        _lists(sums, counts),
        _lists(positions, counts),
        _lists(found.rewards, counts),
        sft_weight=method.sft_weight,
        examples_in_step=found.size.examples,
        weights=found.weights,
    )
    chosen = sums[found.chosen]
    others = (_lists(sums, counts).sum(dim=1) - chosen) / (torch.tensor(counts, device=sums.device) - 1)
    facts = _preference_facts(loss, loss.per_example["accuracy"], chosen, others)
    facts |= {f"deft/{name}": loss.per_example[name] for name in ("ranking_loss", "sft_loss")}
    return loss.value, facts


def _preference_facts(loss: Loss, accuracies: Tensor, chosen: Tensor, rejected: Tensor) -> Facts:
    return {
        "rewards/chosen": loss.per_example["reward_chosen"],
        "rewards/rejected": loss.per_example["reward_rejected"],
        "rewards/margins": loss.per_example["margin"],
        "rewards/accuracies": accuracies,
        "logps/chosen": chosen,
        "logps/rejected": rejected,
    }


def _lists(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Return [B, N] of *values* [S]: a row an example, 0 behind its last response."""
    return pad_sequence(list(torch.split(values, list(counts))), batch_first=True)


CRITERIA: dict[str, Criterion] = {
    "sft": Criterion(_first, _sft),
    "dpo": Criterion(_pair, _dpo, has_reference=True),
    "pro": Criterion(_every, _pro, has_rewards=True),
}
