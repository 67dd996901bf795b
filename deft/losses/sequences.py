"""Sums and means of values by the sequence that they belong to: P positions, flat, of S sequences."""

import torch
from torch import Tensor


def sum_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """Add up *values* [P] by their *sequence* number [P] (int64, 0..S-1) to [S], in float32."""
    return torch.zeros(sequences, dtype=torch.float32, device=values.device).index_add(0, sequence, values.float())


def mean_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """Mean of *values* [P] or [P, D] by their *sequence* number [P] to [S] or [S, D], in float32."""
    shape = (sequences, *values.shape[1:])
    total = torch.zeros(shape, dtype=torch.float32, device=values.device).index_add(0, sequence, values.float())
    count = torch.bincount(sequence, minlength=sequences).clamp(min=1).to(total.dtype)
    return total / count.view(-1, *[1] * (values.dim() - 1))
