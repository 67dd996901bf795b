"""Independent passes of a model side by side on a CPU, each with a share of the threads.

A forward pass of a few hundred tokens does not keep many threads busy: they wait for each other after every operation,
and stand still while another process holds one of their cores. Passes that do not need each other use the same cores
without waiting. On a GPU, which is kept busy by one pass, everything stays in the calling thread.

Knows no model and no loss. What runs in a lane must not change anything shared, and must enter gradient or inference
modes by itself: those belong to a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from deft.budgets import LANES

T = TypeVar("T")
R = TypeVar("R")


def lanes_for(items: int, device: torch.device) -> int:
    """Return how many passes run side by side: on a CPU one a thread, at most one an item and LANES; on a GPU one."""
    return max(min(torch.get_num_threads(), items, LANES), 1) if device.type == "cpu" else 1


def threads_of(items: int, device: torch.device) -> int:
    """Return how many threads each of so many passes has, side by side."""
    return torch.get_num_threads() // lanes_for(items, device)


def in_lanes(
    function: Callable[[T], R], items: Sequence[T], device: torch.device, *, lanes: int | None = None
) -> Generator[R, None, None]:
    """Yield function(item) for every item, in order, several at a time.

    *lanes* is how many at a time, each with its share of the threads; None: as `lanes_for` says for so many items. When
    *function* raises, or the caller stops listening, passes that have not begun are dropped and those that run are
    waited for.
    """
    lanes = lanes or lanes_for(len(items), device)
    if lanes == 1:
        yield from map(function, items)
        return
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(lanes, "lane", torch.set_num_threads, (threads // lanes,))
    try:
        yield from _results(pool, function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # a lane's number holds for every thread that begins after it


def _results(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Sequence[T]) -> Generator[R, None, None]:
    futures = [pool.submit(function, item) for item in items]
    futures.reverse()
    while futures:
        yield futures.pop().result()  # popped, so that a result lives no longer than its reader needs it
