"""How a running operation tells its progress and learns that it should stop. Torch-free.

An operation receives a `Report` and calls it; it never knows who listens. `python -m deft` listens with JSON lines on
standard output for the worker, or with plain lines for a person.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from deft.errors import Interrupted


class Report(Protocol):
    """What an operation may tell while it runs."""

    def phase(self, name: str) -> None:
        """Say that the phase *name* (open set, snake_case) begins."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say that *done* of *total* *unit*s of the phase are finished."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record *values* of step *step*."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """Say that *folder* holds a complete, verified checkpoint after *step* optimiser steps."""

    def note(self, message: str) -> None:
        """Put one line on the job's record; it never holds a row's text."""

    @property
    def is_stopping(self) -> bool:
        """Whether the operation has been asked to stop at its next safe point."""

    @property
    def accepted(self) -> Collection[str]:
        """Codes of `deft.errors.ReviewNeeded` that a person has accepted: not to be raised again."""


class Silent:
    """A report that nobody reads; the default of the library functions."""

    is_stopping = False
    accepted: Collection[str] = ()

    def __init__(self, accepted: Collection[str] = ()) -> None:
        self.accepted = accepted

    def phase(self, name: str) -> None:
        """Drop it."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Drop it."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Drop it."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """Drop it."""

    def note(self, message: str) -> None:
        """Drop it."""


def stop_if_asked(report: Report) -> None:
    """Raise `Interrupted` when the operation has been asked to stop."""
    if report.is_stopping:
        raise Interrupted
