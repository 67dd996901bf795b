"""The losses as pure functions of tensors: M7 (DPO), M8 (PRO), SFT, M9 (the DEFT term), log-probabilities in chunks.

Knows no model, batch layout, optimiser or file. Shape letters: B examples of a micro-batch, N responses of the longest
list among them, P response positions (flat, of all sequences), V vocabulary, D hidden width. Log-probabilities are in
nats and float32. Every mean is one over the examples of the whole optimiser step, weighted by row where *weights* [B]
are given; then *examples_in_step* is the sum of the weights of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deft.budgets import TRAINING_POSITIONS


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


def sum_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """Add up *values* [P] by their *sequence* number [P] (int64, 0..S-1) to [S], in float32."""
    return torch.zeros(sequences, dtype=torch.float32, device=values.device).index_add(0, sequence, values.float())


def mean_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """Mean of *values* [P] or [P, D] by their *sequence* number [P] to [S] or [S, D], in float32."""
    shape = (sequences, *values.shape[1:])
    total = torch.zeros(shape, dtype=torch.float32, device=values.device).index_add(0, sequence, values.float())
    count = torch.bincount(sequence, minlength=sequences).clamp(min=1).to(total.dtype)
    return total / count.view(-1, *[1] * (values.dim() - 1))


def response_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    positions_per_chunk: int = TRAINING_POSITIONS,
) -> Tensor:
    """Log-probability of each target token, from the hidden state at the position that predicts it.

    Logits exist for *positions_per_chunk* positions at a time and are not kept for the backward pass: the gradient
    of log p(target) by its hidden state, W[target] - sum_v p(v) W[v] for a plain head, is one D-vector a position and
    is computed along with the value. Softmax is float32.

    Args:
        hidden: [P, D] states after the final norm.
        weight: [V, D] of the head; no gradient flows to it.
        targets: [P] int64.
        bias: [V] of the head.
        scale: what the logits are multiplied by.
        softcap: c of c * tanh(logit / c), applied after the scale.
        positions_per_chunk: chunk size.

    Returns:
        [P] float32.

    Raises:
        ValueError: the head's weight wants a gradient.
    """
    if weight.requires_grad and torch.is_grad_enabled():
        raise ValueError("response_logps gives no gradient to the head: freeze it, or use logps_from_logits")
    parts = [
        _ChunkLogps.apply(h, weight, t, bias, scale, softcap)  # type: ignore[no-untyped-call]
        for h, t in zip(
            torch.split(hidden, positions_per_chunk), torch.split(targets, positions_per_chunk), strict=True
        )
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def logps_from_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [P] float32 of *targets* [P] under *logits* [P, V]: the plain way, gradients everywhere."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def head_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None = None, scale: float = 1.0, softcap: float | None = None
) -> Tensor:
    """Logits [P, V] float32 of *hidden* [P, D] under a head, scaled, then soft-capped."""
    logits = functional.linear(hidden.to(weight.dtype), weight, bias).float()
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


class _ChunkLogps(torch.autograd.Function):
    """log p(target) for one chunk; the forward pass keeps only d log p / d hidden, [P, D]."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 -- torch gives it no type
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        logits = head_logits(hidden, weight, bias, scale, softcap)
        at = targets.unsqueeze(-1)
        has_gradient = ctx.needs_input_grad[0]
        slope = 1 - (logits / softcap).square() if softcap is not None and has_gradient else None
        odds = logits.sub_(logits.amax(dim=-1, keepdim=True))  # in place from here: [P, V] is much to write
        of_target = odds.gather(-1, at)
        total = odds.exp_().sum(dim=-1, keepdim=True)
        logps = (of_target - total.log()).squeeze(-1)
        if has_gradient:
            by_logit = odds.div_(total).scatter_add_(-1, at, of_target.new_full(of_target.shape, -1))
            if slope is not None:
                by_logit *= slope
            ctx.save_for_backward((by_logit.to(weight.dtype) @ weight).mul_(-scale))
        return logps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 -- as above
        (by_hidden,) = ctx.saved_tensors
        return (grads[0].unsqueeze(-1) * by_hidden).to(by_hidden.dtype), None, None, None, None, None


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
