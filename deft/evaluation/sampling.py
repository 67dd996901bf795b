"""Sampled decoding in which a row's tokens depend on its own seed alone, whatever stands beside it in the batch.

Gumbel-max: argmax(logits / temperature + noise) is a draw from the softmax (Maddison et al. 2014, arXiv 1411.0030); the
noise of a row comes from a generator of its own. Knows logits, no prompts and no tokenizer.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from deft.evaluation.generation import Choose
from deft.specs import Sampling

RECIPE = "gumbel-1"
"""Name and version of this decoding."""


def sampled(sampling: Sampling, seeds: Sequence[int]) -> Choose:
    """Return what draws the next token of each row, by the rows' *seeds*."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(logits: Tensor) -> Tensor:
        """Logits [B, V] of any float type to ids [B]."""
        scaled = logits.float().log_softmax(dim=-1) / sampling.temperature
        kept = in_nucleus(scaled.log_softmax(dim=-1), sampling.top_p) if sampling.top_p < 1 else scaled
        uniform = torch.stack([torch.rand(logits.shape[-1], generator=each) for each in generators])
        noise = -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
        return (kept + noise.to(kept.device)).argmax(dim=-1)

    return choose


def in_nucleus(logps: Tensor, share: float) -> Tensor:
    """Return *logps* [B, V] with all but the likeliest tokens that hold *share* together at -inf.

    At least the likeliest stays (Holtzman et al. 2020, arXiv 1904.09751).
    """
    ordered, places = logps.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    return logps.masked_fill((before >= share).scatter(-1, places, before >= share), -torch.inf)


def seed_of(*parts: object) -> int:
    """Return a seed made of *parts*: equal on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
