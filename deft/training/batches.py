"""Which examples make up an optimiser step, and how a step is cut into forward passes.

Pure: a function of lengths, settings and (seed, epoch). Knows no model, no tensors of one, no loss; the layout of a
forward pass is `deft.packing`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from deft.budgets import TRAINING_TOKENS
from deft.tokens import TokenizedExample


def with_responses(example: TokenizedExample, places: Sequence[int]) -> TokenizedExample:
    """Return *example* with the responses at *places* (0 is the best) only, in that order."""
    return replace(
        example,
        response_ids=[example.response_ids[place] for place in places],
        is_cut=[example.is_cut[place] for place in places],
    )


def trained_tokens(example: TokenizedExample) -> int:
    """Return the number of response tokens that the losses see: with the end token of each response that is whole."""
    return sum(len(ids) + (not is_cut) for ids, is_cut in zip(example.response_ids, example.is_cut, strict=True))


def read_tokens(example: TokenizedExample) -> int:
    """Return the number of tokens that `separate` rows of *example* hold: its prompt once a response."""
    return len(example.prompt_ids) * len(example.response_ids) + trained_tokens(example)


def epoch_order(examples: int, *, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch visits its examples: a function of (seed, epoch) and of nothing else."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order: list[int] = torch.randperm(examples, generator=generator).tolist()
    return order


def optimiser_steps(examples: int, *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Return the examples of every optimiser step of the run; the last, shorter batch of an epoch is kept."""
    return [
        order[start : start + batch_size]
        for epoch in range(epochs)
        for order in [epoch_order(examples, seed=seed, epoch=epoch)]
        for start in range(0, examples, batch_size)
    ]


def micro_batches(
    step: Sequence[int],
    lengths: Sequence[int],
    *,
    size: int | None,
    rows: Sequence[int] | None = None,
    padded_tokens: int = TRAINING_TOKENS,
) -> Iterator[list[int]]:
    """Cut the examples of one optimiser *step* into forward passes, similar *lengths* (by example) together.

    *size* examples each; None: as many as fit in *padded_tokens* with their padding, at least one. *rows* (by example)
    says how many rows of its length each takes; None: one.
    """
    batch: list[int] = []
    taken = 0
    for index in sorted(step, key=lambda i: (lengths[i], i)):
        own = 1 if rows is None else rows[index]
        is_full = len(batch) == size if size is not None else (taken + own) * lengths[index] > padded_tokens
        if batch and is_full:
            yield batch
            batch, taken = [], 0
        batch.append(index)
        taken += own
    if batch:
        yield batch
