"""The Bradley-Terry loss of ranked lists. A pure function of tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(rewards: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return [n] float32: each row's mean of -log sigmoid(r_i - r_k) over all pairs i before k of its list.

    Bradley and Terry 1952 (doi 10.1093/biomet/39.3-4.324), as reward models are trained (arXiv 1706.03741, 2203.02155
    eq. 1: a list of K gives K(K-1)/2 pairs, divided by their number, so that each row weighs one). Unit: nats.

    Args:
        rewards: [S] logits, those of one row side by side, best first.
        sizes: how many of them each of the n rows has, two or more; they sum to S.
    """
    return torch.stack([_row(own) for own in torch.split(rewards.float(), list(sizes))])


def _row(rewards: Tensor) -> Tensor:
    better, worse = torch.triu_indices(len(rewards), len(rewards), offset=1, device=rewards.device)
    return -logsigmoid(rewards[better] - rewards[worse]).mean()
