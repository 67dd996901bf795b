"""The losses of a step: M7 (DPO), M8 (PRO), SFT, and M9 (the DEFT term).

Knows no model, batch layout, optimiser or file. Shape letters: B examples of a micro-batch, N responses of the longest
list among them, P response positions (flat, of all sequences). Every mean is one over the examples of the whole
optimiser step, weighted by row where *weights* [B] are given; then *examples_in_step* is the sum of the weights of the
step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deft.losses.sequences import sum_by_sequence


@dataclass(frozen=True, slots=True)
class Loss:
    """A scalar to call `backward` on, and the detached numbers of each example, by name, each of shape [B]."""

    value: Tensor
    per_example: dict[str, Tensor]


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    examples_in_step: float | None = None,
    weights: Tensor | None = None,
) -> Loss:
    """M7: -log sigmoid(beta * [(log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-))]).

    Args:
        policy_chosen: [B] log-probabilities of the responses, summed over their positions; likewise the other three.
        policy_rejected: [B].
        reference_chosen: [B], without gradient.
        reference_rejected: [B], without gradient.
        beta: strength of the pull to the reference.
        examples_in_step: examples of the whole optimiser step, when it is accumulated over several micro-batches
            (their losses are then to be added up); None means that this batch is the step.
        weights: [B] row weights; None: every example counts alike.

    Returns:
        The mean over the examples of the step; per example `loss`, `margin` (the implicit reward of chosen minus that
        of rejected), `reward_chosen` and `reward_rejected`.

    Source: Rafailov et al., arXiv 2305.18290, eq. 7.
    """
    reward_chosen = beta * (policy_chosen - reference_chosen)
    reward_rejected = beta * (policy_rejected - reference_rejected)
    margin = beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))
    losses = -functional.logsigmoid(margin)
    facts = {"loss": losses, "margin": margin, "reward_chosen": reward_chosen, "reward_rejected": reward_rejected}
    return _loss(losses, facts, examples_in_step, weights)


def pro_loss(
    logps: Tensor,
    positions: Tensor,
    rewards: Tensor,
    *,
    sft_weight: float = 0.05,
    examples_in_step: float | None = None,
    weights: Tensor | None = None,
) -> Loss:
    """M8: sum_k -log( exp(s_k T_kk) / (exp(s_k T_kk) + sum_{i>k} exp(s_i T_ki)) ) + w * (N-1)^2 * NLL(y_1).

    s is the mean log-probability of a position, T_ki = r_k - r_i, T_kk = max_i T_ki over i > k, NLL a sum over
    positions. For N = 2 this is softplus(-(r_1 - r_2)(s_1 - s_2)) + w * NLL(y_1). Responses whose rewards tie push
    nobody: of two with one reward the loss is log 2, without gradient. Computed in float64.

    Args:
        logps: [B, N] log-probabilities of the responses, best first, summed over their positions (with the end token).
        positions: [B, N] int64, how many positions that was; 0 where an example has fewer than N responses.
        rewards: [B, N] training rewards r_k, finite and never rising, without gradient.
        sft_weight: w.
        examples_in_step: as in `dpo_loss`.
        weights: as in `dpo_loss`.

    Returns:
        The mean over the examples of the step; per example `loss` and its parts `ranking_loss` and `sft_loss`,
        `reward_chosen` (s of the first response), `reward_rejected` (mean s of the others), `margin` between these,
        and `accuracy`, the share of its pairs that s orders as the rewards do (pairs of one reward count one half).

    Raises:
        ValueError: N is 1.

    Source: Song et al., arXiv 2306.17492, as its published code computes it, less that code's 1e-10 inside the
    logarithm: where all s T are below -23, it would outweigh the responses and nothing would push the others down.
    """
    if logps.shape[1] < 2:
        raise ValueError("PRO ranks at least two responses")
    is_there = positions > 0
    s = logps.double() / positions.clamp(min=1)
    ranking = _ranking_losses(s, rewards.double(), is_there)
    others = is_there.sum(dim=1) - 1
    sft = sft_weight * others.square() * -logps[:, 0].double()
    rejected = s[:, 1:].masked_fill(~is_there[:, 1:], 0).sum(dim=1) / others.clamp(min=1)
    facts = {
        "loss": ranking + sft,
        "ranking_loss": ranking,
        "sft_loss": sft,
        "reward_chosen": s[:, 0],
        "reward_rejected": rejected,
        "margin": s[:, 0] - rejected,
        "accuracy": _share_in_order(s.detach(), rewards, is_there),
    }
    facts = {name: value.to(logps.dtype) for name, value in facts.items()}
    return _loss(facts["loss"], facts, examples_in_step, weights)


def sft_loss(
    logps: Tensor,
    sequence: Tensor,
    examples: int,
    *,
    tokens_in_step: float | None = None,
    weights: Tensor | None = None,
) -> Loss:
    """Negative log-likelihood of the chosen responses: the sum over their tokens / number of tokens in the step.

    Args:
        logps: [P] log-probability of every response token (with the end token).
        sequence: [P] int64, the example (0..B-1) that each belongs to.
        examples: B.
        tokens_in_step: response tokens of the whole optimiser step, each with its row's weight; None means that this
            batch is the step.
        weights: [B] row weights, of every token of the row; None: all tokens count alike.

    Returns:
        The scalar; per example `loss`, the mean over its own tokens.
    """
    summed = sum_by_sequence(logps, sequence, examples)
    lengths = sum_by_sequence(torch.ones_like(logps), sequence, examples)
    total, tokens = (summed, lengths) if weights is None else (summed * weights, lengths * weights)
    value = -total.sum() / (tokens_in_step if tokens_in_step is not None else tokens.sum())
    return Loss(value, {"loss": (-summed / lengths.clamp(min=1)).detach()})


def with_reward_term(
    loss: Tensor,
    r_d: Tensor | None,
    omega: float,
    *,
    examples_in_step: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """M9: L = L_base - omega * mean R_d(x, y+), the mean over the examples of the step.

    With omega = 0 the very same tensor *loss* is returned: nothing is computed or added, so that the plain objective
    is reproduced bit for bit.

    Args:
        loss: scalar, L_base.
        r_d: [B] distribution reward of the chosen responses, from the same forward pass; None when there is no term.
        omega: weight of the term, finite and >= 0.
        examples_in_step: as in `dpo_loss`.
        weights: as in `dpo_loss`.

    Raises:
        ValueError: omega is negative or not finite.
    """
    if not 0 <= omega < math.inf:
        raise ValueError(f"omega must be a finite number >= 0, not {omega}")
    if omega == 0 or r_d is None:
        return loss
    return loss - omega * mean_over_step(r_d, examples_in_step, weights)


def mean_over_step(values: Tensor, examples_in_step: float | None = None, weights: Tensor | None = None) -> Tensor:
    """Return this batch's share of the mean of *values* [B] over an optimiser step, each with its row's weight.

    The arguments are those of `dpo_loss`; without weights and step it is the plain mean of the batch.
    """
    if weights is not None:
        return (values * weights).sum() / (weights.sum() if examples_in_step is None else examples_in_step)
    return values.mean() if examples_in_step is None else values.sum() / examples_in_step


def _loss(losses: Tensor, facts: dict[str, Tensor], examples_in_step: float | None, weights: Tensor | None) -> Loss:
    detached = {name: value.detach() for name, value in facts.items()}
    return Loss(mean_over_step(losses, examples_in_step, weights), detached)


def _ranking_losses(s: Tensor, rewards: Tensor, is_there: Tensor) -> Tensor:
    """Return sum_k L_k of M8, [B], of mean log-probabilities *s* [B, N] and *rewards* [B, N]."""
    gaps = rewards.unsqueeze(2) - rewards.unsqueeze(1)
    is_later = _is_later(is_there)
    largest = gaps.masked_fill(~is_later, -torch.inf).amax(dim=2)
    has_later = is_later.any(dim=2)
    own = s * largest.where(has_later, 0)
    others = (s.unsqueeze(1) * gaps).masked_fill(~is_later, -torch.inf)
    everyone = torch.cat([own.unsqueeze(2), others], dim=2)
    return ((torch.logsumexp(everyone, dim=2) - own) * has_later).sum(dim=1)


def _share_in_order(s: Tensor, rewards: Tensor, is_there: Tensor) -> Tensor:
    """Return [B], the share of pairs (k, i > k) with s_k > s_i; a tie of s or of rewards counts one half."""
    is_later = _is_later(is_there)
    ahead = (s.unsqueeze(2) - s.unsqueeze(1)).sign() * (rewards.unsqueeze(2) - rewards.unsqueeze(1)).sign()
    return (0.5 * (ahead + 1) * is_later).sum(dim=(1, 2)) / is_later.sum(dim=(1, 2)).clamp(min=1)


def _is_later(is_there: Tensor) -> Tensor:
    """Return [B, N, N]: whether i > k, and response i is there."""
    size = is_there.shape[1]
    return torch.ones(size, size, dtype=torch.bool, device=is_there.device).triu(1) & is_there.unsqueeze(1)
