"""The head through which a forward pass of the policy is read: frozen beside an adapter, or trained with the rest.

Knows heads, Q_diff and tensors; it must not know layouts, methods or the optimiser. Letters: P response positions,
V vocabulary, D hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deft.losses import response_logps
from deft.models.loading import causal_model
from deft.reward import Direction, Head, check_fit, learning_direction
from deft.sharding import whole
from deft.trained_heads import trained_head_logps
from deft.training.token_metrics import MeanLogit, mean_logit


@dataclass(frozen=True, slots=True)
class Reading:
    """A head as it is in one forward pass, and what follows from it: the direction of Q_diff, the mean logit."""

    head: Head
    direction: Direction | None
    mean_logit: MeanLogit | None
    dtype: torch.dtype | None = None
    """What the products of a trained head are computed in; None: the head is frozen."""

    @property
    def computed(self) -> Head:
        """The head with its weight as it is multiplied with."""
        return self.head if self.dtype is None else _as(self.head, dtype=self.dtype)

    def logps(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return [P] log-probabilities of *targets* [P] from *hidden* [P, D], in chunks of positions."""
        head = self.head
        if self.dtype is None:
            return response_logps(hidden, head.weight, targets, bias=head.bias, scale=head.scale, softcap=head.softcap)
        return trained_head_logps(
            hidden, head.weight, targets, bias=head.bias, scale=head.scale, softcap=head.softcap, dtype=self.dtype
        )


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """Where the head is found that every optimiser step changes: its *module*, scale and soft-cap as of *like*.

    With Q_diff the direction W^T Q_diff is computed from W in every pass, with its gradient (M9 through the head).
    """

    module: nn.Module
    scale: float
    softcap: float | None
    dtype: torch.dtype
    q_diff: NDArray[np.float64] | None = None

    @property
    def head(self) -> Head:
        """The head as it is now."""
        weight = self.module.weight
        if not isinstance(weight, Tensor):
            raise TypeError("a head has a weight")
        bias = getattr(self.module, "bias", None)
        return Head(weight, bias, self.scale, self.softcap)

    def read(self) -> Reading:
        """Return the head as it is now; of a sharded model between a forward pass and its end."""
        head = self.head
        direction = None if self.q_diff is None else learning_direction(head, self.q_diff)
        return Reading(head, direction, mean_logit(head), self.dtype)

    def kept(self) -> Head:
        """Return a copy of the head on the host, as it is multiplied with: the reference's, for later comparison."""
        head = self.head
        bias = None if head.bias is None else whole(head.bias).clone()
        return _as(replace(head, weight=whole(head.weight).clone(), bias=bias), dtype=self.dtype, device="cpu")


def trained_head(model: nn.Module, like: Head, dtype: torch.dtype, q_diff: NDArray[np.float64] | None) -> TrainedHead:
    """Return the head of *model*, which was found to be *like* this before it was freed and divided.

    Raises:
        ModelNotUsable, ValueError: Q_diff has another size than the head, or does not sum to 0.
    """
    if q_diff is not None:
        check_fit(q_diff, like)
    module = causal_model(model).get_output_embeddings()
    return TrainedHead(module, like.scale, like.softcap, dtype, q_diff)


def on_device(head: Head, device: torch.device) -> Head:
    """Return *head* on *device*."""
    return _as(head, device=device)


def _as(head: Head, **place: Any) -> Head:  # noqa: ANN401 -- what Tensor.to takes
    bias = None if head.bias is None else head.bias.detach().to(**place)
    return replace(head, weight=head.weight.detach().to(**place), bias=bias)
