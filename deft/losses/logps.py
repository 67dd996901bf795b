"""Log-probabilities of response tokens from hidden states, without the logits of all positions at one time.

Knows no model, batch layout or loss. P response positions (flat, of all sequences), V vocabulary, D hidden width; nats,
float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deft.budgets import TRAINING_POSITIONS


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
