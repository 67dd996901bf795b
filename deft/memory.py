"""What happens when memory runs out in a pass: it is done again with less at a time, on record.

An optimiser step is done once again with half the micro-batch; a pass that only looks is divided until it fits. Knows
who listens; what counts as running out of memory is in `deft.failures`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from deft.failures import is_out_of_memory
from deft.reports import Report

if TYPE_CHECKING:
    from deft.training.objective import Objective

Item = TypeVar("Item")
Result = TypeVar("Result")

OnHalving = Callable[[int], None]
"""Told how many examples at once did not fit."""


def with_one_retry(work: Callable[[], Result], *, objective: Objective, place: str, report: Report) -> Result:
    """Return the result of *work*, which is done anew with half the micro-batch if memory runs out.

    Args:
        work: may be done twice; gradients that its first try left behind are its own to drop.
        objective: its micro-batches are halved from then on, for the rest of the run; once only.
        place: where it happens, for the record.
        report: told of the retry.

    Raises:
        RuntimeError, MemoryError: memory ran out again, or a micro-batch is one example already.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or not objective.halve(place):
            raise
        report.note(f"out of memory in {place}: once again with half the micro-batch")
    # Only here, past the except clause: the error's frames hold the tensors that filled the memory.
    release_memory()
    return work()


def in_halves(batch: Sequence[Item], work: Callable[[Sequence[Item]], None], on_halving: OnHalving) -> None:
    """Do *work* on *batch*, or, where memory runs out, on its halves, in their order, and so on down to one.

    Raises:
        RuntimeError, MemoryError: memory ran out with a single one.
    """
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
        on_halving(len(batch))
    release_memory()
    middle = len(batch) // 2
    in_halves(batch[:middle], work, on_halving)
    in_halves(batch[middle:], work, on_halving)
    return None


def noted(report: Report) -> OnHalving:
    """Return what puts each halving on the record of *report*."""

    def on_halving(examples: int) -> None:
        report.note(f"out of memory with {examples} examples at once: in two halves")

    return on_halving


def unheard(examples: int) -> None:
    """Tell nobody: the default of the library functions."""
    del examples


def release_memory() -> None:
    """Give back what nobody uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
