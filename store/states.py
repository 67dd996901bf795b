"""The states of a job and the one table of how it may get from one to the next (drawn in docs/glossary.md).

Pure: it knows no database. `store.moves` is the only code that applies it.
"""

from typing import Literal, NamedTuple

Status = Literal["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = ("waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled")
FINISHED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
UNFINISHED: frozenset[Status] = frozenset(STATUSES) - FINISHED


class Transition(NamedTuple):
    """One arrow: its *letter* in the drawing, from which states, to which, and why."""

    letter: str
    name: str
    sources: frozenset[Status]
    target: Status


def _arrow(letter: str, name: str, sources: set[Status], target: Status) -> Transition:
    return Transition(letter, name, frozenset(sources), target)


INPUTS_READY = _arrow("c", "inputs_ready", {"waiting"}, "queued")
INPUT_FAILED = _arrow("d", "input_failed", {"waiting"}, "failed")
CLAIMED = _arrow("e", "claimed", {"queued"}, "running")
SUCCEEDED = _arrow("f", "succeeded", {"running"}, "succeeded")
FAILED = _arrow("g", "failed", {"running"}, "failed")
REQUEUED = _arrow("h", "requeued", {"running"}, "queued")
POISONED = _arrow("i", "poisoned", {"running"}, "failed")
CANCELLED = _arrow("j", "cancelled", {"waiting", "queued", "paused"}, "cancelled")
STOPPED = _arrow("k", "stopped", {"running"}, "cancelled")
PAUSED = _arrow("l", "paused", {"waiting", "queued"}, "paused")
PARKED = _arrow("m", "parked", {"running"}, "paused")
RESUMED = _arrow("n", "resumed", {"paused"}, "waiting")

TRANSITIONS: tuple[Transition, ...] = (
    INPUTS_READY,
    INPUT_FAILED,
    CLAIMED,
    SUCCEEDED,
    FAILED,
    REQUEUED,
    POISONED,
    CANCELLED,
    STOPPED,
    PAUSED,
    PARKED,
    RESUMED,
)


def derived(target: Status) -> Transition:
    """Return the arrow (p) of a pipeline, whose state follows its children's: from any unfinished state to *target*."""
    return Transition("p", "derived", UNFINISHED, target)
