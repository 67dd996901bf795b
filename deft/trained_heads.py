"""Log-probabilities under a head that is trained itself: the gradient goes to its weight and bias too, in chunks.

Pure functions of tensors. Letters: P response positions, V vocabulary, D hidden width. Nats, float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deft.budgets import TRAINING_POSITIONS
from deft.losses import head_logits, logps_from_logits


def trained_head_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    dtype: torch.dtype | None = None,
    positions_per_chunk: int = TRAINING_POSITIONS,
) -> Tensor:
    """Log-probability of each target token, with exact gradients to the states and to the head.

    Logits exist for *positions_per_chunk* positions at a time, in the forward pass and again in the backward pass,
    where they are computed anew: one product more than under a frozen head. Softmax and the sum of the weight's
    gradient over the chunks are float32.

    Args:
        hidden: [P, D] states after the final norm.
        weight: [V, D] of the head.
        targets: [P] int64.
        bias: [V] of the head.
        scale: what the logits are multiplied by.
        softcap: c of c * tanh(logit / c), applied after the scale.
        dtype: what the products with the weight are computed in; None: the weight's own.
        positions_per_chunk: chunk size.

    Returns:
        [P] float32.
    """
    found: Tensor = _HeadLogps.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, scale, softcap, dtype or weight.dtype, positions_per_chunk
    )
    return found


class _HeadLogps(torch.autograd.Function):
    """log p(target) for all chunks; the forward pass keeps its inputs alone."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 -- torch gives it no type
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        dtype: torch.dtype,
        chunk: int,
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = scale, softcap, dtype, chunk
        own, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
        found = [
            logps_from_logits(head_logits(states, own, offset, scale, softcap), ids)
            for states, ids in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
        ]
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 -- as above
        hidden, weight, bias, targets = ctx.saved_tensors
        scale, softcap, dtype, chunk = ctx.settings
        own, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
        by_weight = torch.zeros_like(weight, dtype=torch.float32)
        by_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        by_hidden = []
        for states, ids, grad in zip(*(torch.split(each, chunk) for each in (hidden, targets, grads[0])), strict=True):
            by_logit = _by_logit(head_logits(states, own, offset, scale, softcap), ids, grad, softcap).mul_(scale)
            if by_bias is not None:
                by_bias += by_logit.sum(0)
            rounded = by_logit.to(dtype)
            by_weight += rounded.T @ states.to(dtype)
            by_hidden.append((rounded @ own).to(hidden.dtype))
        of_hidden = torch.cat(by_hidden) if by_hidden else torch.zeros_like(hidden)
        of_bias = None if bias is None or by_bias is None else by_bias.to(bias.dtype)
        return of_hidden, by_weight.to(weight.dtype), of_bias, None, None, None, None, None


def _by_logit(logits: Tensor, targets: Tensor, grad: Tensor, softcap: float | None) -> Tensor:
    """Return [p, V]: d(sum grad * log p(target)) / d(what is soft-capped, else the logits themselves)."""
    slope = None if softcap is None else 1 - (logits / softcap).square()
    found = torch.softmax(logits, dim=-1).neg_()
    found.scatter_add_(-1, targets.unsqueeze(-1), torch.ones_like(targets, dtype=found.dtype).unsqueeze(-1))
    found *= grad.unsqueeze(-1)
    return found if slope is None else found.mul_(slope)
