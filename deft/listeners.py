"""Who hears a running operation: JSON lines for a worker, plain lines for a person. Torch-free.

Both are a `deft.reports.Report`. This module knows the events of the child protocol and no one who reads them.
"""

import json
import math
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TextIO

PROGRESS_SECONDS = 0.2
"""Least time between two progress events of one phase; the last one always goes out."""

PLAIN_SECONDS = 2.0


class StopRequest:
    """Whether the operation has been asked to stop; set by a signal handler."""

    def __init__(self) -> None:
        self.is_stopping = False

    def ask(self) -> None:
        """Ask for a stop at the next safe point."""
        self.is_stopping = True


class Limit:
    """Lets through the first of a burst and the last of a count."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = -math.inf

    def allows(self, done: int, total: int) -> bool:
        """Whether to tell *done* of *total* now."""
        now = time.monotonic()
        if done < total and now - self.last < self.seconds:
            return False
        self.last = now
        return True


class EventLines:
    """Writes one JSON object a line; every line is whole and flushed, from whichever thread."""

    def __init__(self, stream: TextIO, stop: StopRequest, accepted: Collection[str] = ()) -> None:
        self.accepted = accepted
        self._stream = stream
        self._stop = stop
        self._lock = threading.Lock()
        self._limit = Limit(PROGRESS_SECONDS)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has been asked for."""
        return self._stop.is_stopping

    def send(self, event: str, **fields: object) -> None:
        """Write one event; non-finite numbers become null, which JSON has."""
        line = json.dumps(_finite({"event": event, **fields}), allow_nan=False, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def phase(self, name: str) -> None:
        """Say that phase *name* begins."""
        self._limit = Limit(PROGRESS_SECONDS)
        self.send("phase", phase=name)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far the phase is, at most a few times a second."""
        if self._limit.allows(done, total):
            self.send("progress", done=done, total=total, unit=unit)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Send *values* of *step*."""
        self.send("metrics", step=step, values={name: float(value) for name, value in values.items()})

    def checkpoint(self, step: int, folder: Path) -> None:
        """Say that *folder* holds a complete checkpoint."""
        self.send("checkpoint", step=step, folder=str(folder))

    def note(self, message: str) -> None:
        """Send one line for the job's record."""
        self.send("note", message=message)


class PlainLines:
    """Writes what happens for a person, with seconds since the start; no cursor tricks."""

    def __init__(self, stream: TextIO, stop: StopRequest, accepted: Collection[str] = ()) -> None:
        self.accepted = accepted
        self._stream = stream
        self._stop = stop
        self._started = time.monotonic()
        self._limit = Limit(PLAIN_SECONDS)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has been asked for."""
        return self._stop.is_stopping

    def line(self, text: str) -> None:
        """Write one line."""
        print(f"{time.monotonic() - self._started:7.1f} s  {text}", file=self._stream, flush=True)

    def phase(self, name: str) -> None:
        """Say that phase *name* begins."""
        self._limit = Limit(PLAIN_SECONDS)
        self.line(name.replace("_", " "))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Say how far the phase is, every few seconds and at its end."""
        if self._limit.allows(done, total):
            self.line(f"  {done} of {total} {unit}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Show *values* of *step*."""
        self.line(f"  step {step}: " + ", ".join(f"{name} {value:.6g}" for name, value in values.items()))

    def checkpoint(self, step: int, folder: Path) -> None:
        """Say where a checkpoint lies."""
        self.line(f"  checkpoint after step {step}: {folder}")

    def note(self, message: str) -> None:
        """Show *message*."""
        self.line(f"  {message}")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
