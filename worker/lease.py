"""Keeping the lease of a running attempt, and giving up in time. Knows no Celery and no child process.

Two threads, because a database that does not answer must not keep us from noticing that time is up: one renews, the
other only watches the clock. Time is counted by the monotonic clock from before the last renewal that was confirmed, so
it also passes while the process is stopped (SIGSTOP) or asleep, and we always give up before another worker may begin.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from deft.errors import StorageFull, Unavailable
from store.claims import Wish

RETRY_SECONDS = 1.0
"""Pause after a renewal that failed because the database did not answer."""

WATCH_SECONDS = 0.5

MARGIN = 0.1
"""Share of the lease that is left unused, so that giving up is over when the lease ends."""


class Terms(NamedTuple):
    """How long a lease lasts and how often it is renewed, in seconds."""

    lease_seconds: float
    renew_seconds: float


class Answer(NamedTuple):
    """What a renewal says: is the row still ours, and what does its owner want of it, if anything."""

    is_ours: bool
    wish: Wish | None = None


class LeaseKeeper:
    """Renews a lease until stopped; calls *on_lost* once, at the latest when the lease is about to end."""

    def __init__(self, renew: Callable[[], Answer], terms: Terms, *, on_lost: Callable[[], None]) -> None:
        self._renew = renew
        self._terms = terms
        self._on_lost = on_lost
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._ends = time.monotonic() + self._length
        self.is_lost = False
        self.wish: Wish | None = None

    @property
    def _length(self) -> float:
        return self._terms.lease_seconds * (1 - MARGIN)

    @property
    def seconds_left(self) -> float:
        """How long we may still act, in seconds."""
        return 0.0 if self.is_lost else max(0.0, self._ends - time.monotonic())

    def __enter__(self) -> "LeaseKeeper":
        for work in (self._keep, self._watch):
            threading.Thread(target=work, name=f"lease-{work.__name__.strip('_')}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def lose(self) -> None:
        """Give up: the row is not ours any more."""
        with self._lock:
            is_first = not self.is_lost and not self._is_over.is_set()
            self.is_lost = True
        if is_first:
            self._on_lost()

    def _keep(self) -> None:
        pause = self._terms.renew_seconds
        while not self._is_over.wait(pause) and not self.is_lost:
            began = time.monotonic()
            try:
                answer = self._renew()
            except (Unavailable, StorageFull):
                pause = min(RETRY_SECONDS, self._terms.renew_seconds)
                continue
            if not answer.is_ours:
                self.lose()
                return
            self._ends = began + self._length
            self.wish = answer.wish
            pause = self._terms.renew_seconds

    def _watch(self) -> None:
        while not self._is_over.wait(min(WATCH_SECONDS, self._terms.lease_seconds * MARGIN / 2)):
            if time.monotonic() >= self._ends:
                self.lose()
                return
