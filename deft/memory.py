"""What happens when memory runs out in a forward or backward pass: once again with half the micro-batch, on record.

Knows an objective and who listens; what counts as running out of memory is in `deft.failures`.
"""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from deft.failures import is_out_of_memory
from deft.objective import Objective
from deft.reports import Report

Result = TypeVar("Result")


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
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return work()
