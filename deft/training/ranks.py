"""The processes that share one training: which one this is, and what they add up, gather and agree on.

Whoever starts them (`deft.training.launch`, torchrun) tells each its place; from then on torch.distributed knows it.
Every loss is a share of the mean over the whole optimiser step, so gradients are added and never averaged, once a
step and whatever number of passes each process made: DistributedDataParallel, which averages and counts passes, is
not used. This module knows processes and tensors; it must not know losses, data or files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed
from torch import Tensor

from deft.errors import DeftError, Finding, InvalidInput, OutOfMemory, ProcessLost
from deft.failures import failure_of

Value = TypeVar("Value")

log = logging.getLogger(__name__)

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others: one of them may be writing a checkpoint."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's *rank* among *size* of them. Every method but `share` is to be called by all of them together.

    Where one of them has died, the call ends in `ProcessLost`: nothing is wrong with the job, it can be tried again.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that tells, writes and is told."""
        return self.rank == 0

    def share(self, step: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Return this process's examples of an optimiser *step*: dealt out by *lengths* (by example), longest first."""
        if self.size == 1:
            return list(step)
        return sorted(step, key=lambda index: (-lengths[index], index))[self.rank :: self.size]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace every one of *tensors* (of one dtype and device) by its sum over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _all_there():
            distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, value: Value) -> list[Value]:
        """Return the *value* of every process, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _all_there():
            distributed.all_gather_object(values, value)
        return values

    def first(self, value: Value) -> Value:
        """Return the *value* of the first process."""
        if self.size == 1:
            return value
        values = [value]
        with _all_there():
            distributed.broadcast_object_list(values)
        return values[0]

    def together(self, work: Callable[[], Value]) -> list[Value]:
        """Do *work* in every process and return all results; if it fails in one, fail in all.

        Raises:
            Exception: what *work* raised here, else what it raised elsewhere as one of our errors.
        """
        if self.size == 1:
            return [work()]
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised again once the others know
            failure = error
        told = self.gather((result, None if failure is None else failure_of(failure)))
        if failure is not None:
            raise failure
        for rank, (_, other) in enumerate(told):
            if other is not None:
                raise _error_of(other, rank)
        return [cast(Value, value) for value, _ in told]


ALONE = Ranks()


def present() -> Ranks:
    """Return the place of this process, as torch.distributed knows it."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return ALONE


@contextmanager
def joined(rank: int, size: int, meeting: str) -> Iterator[Ranks]:
    """Be process *rank* of *size* that meet at *meeting* (`env://` or `file://...`).

    Raises:
        InvalidInput: some of the processes have a GPU and some have none.
    """
    has_gpu = torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        ranks = present()
        gpus = sum(ranks.gather(has_gpu))
        if gpus not in (0, size):
            raise _too_few_gpus(gpus, size)
        yield ranks
    finally:
        distributed.destroy_process_group()


@contextmanager
def _all_there() -> Iterator[None]:
    """Take a broken connection for the death of another process."""
    try:
        yield
    except RuntimeError as error:  # gloo has no type of its own
        log.error("another process of this training is gone: %s", error)
        raise ProcessLost from error


def _error_of(failure: dict[str, Any], rank: int) -> Exception:
    """Return the *failure* of the process *rank* as what it would be here: no memory is no memory wherever it is."""
    message = f"in process {rank}: {failure['message']}"
    if failure["code"] == OutOfMemory.code:
        return MemoryError(message)
    findings = [Finding(**finding) for finding in failure["findings"]]
    kind = InvalidInput if failure["category"] == "user" else DeftError
    return kind(message, code=failure["code"], findings=findings)


def _too_few_gpus(gpus: int, size: int) -> InvalidInput:
    finding = Finding(
        code="too_few_gpus",
        found=f"{gpus} GPUs",
        expected=f"one for each of {size} processes, or none at all",
        fix="start at most as many processes as there are GPUs",
    )
    return InvalidInput(f"{size} processes were started with {gpus} GPUs", code="too_few_gpus", findings=[finding])
