"""What a child says, put on its job's row: checked, gathered, and written at most about twice a second.

Nothing a child says is trusted to have the right shape; what has not is dropped. Every write is fenced by the store.
When the database is away, what was gathered waits (bounded) for the next try: losing the lease is `worker.lease`'s
matter.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from sqlalchemy.orm import Session

from deft.errors import ArtifactCorrupt, StorageFull, Unavailable
from store import claims, telling
from store.database import Database
from worker.child import Event

FLUSH_SECONDS = 0.5
LOG_SECONDS = 3.0
WAITING_WRITES = 500
"""Most events kept while the database is away; the oldest go first."""

NOTE_CHARACTERS = 500
NAME_CHARACTERS = 80
MESSAGE_CHARACTERS = 2000
FINDINGS = 20

Write = Callable[[Session], object]


class Reporter:
    """Takes a child's events and writes them; keeps its last word (`done`, `failed`, `review`) for who settles the job.

    *checkpoints* is the attempt's own folder: a checkpoint told from anywhere else is no record.
    """

    def __init__(self, database: Database, claim: claims.Claim, *, checkpoints: Path, log: Callable[[], str]) -> None:
        self._database = database
        self._claim = claim
        self._checkpoints = checkpoints.resolve()
        self._log = log
        self._writes: list[Write] = []
        self._progress: tuple[int, int, str] | None = None
        self._metrics: dict[int, dict[str, float]] = {}
        self._flushed_at = self._logged_at = -math.inf
        self._log_written = ""
        self._log_bytes = 0
        self._last_word: Event | None = None
        self.heard_at = time.monotonic()

    def begin(self) -> None:
        """Listen to a new child."""
        self._last_word = None
        self.heard_at = time.monotonic()

    def notice_log(self, written: int) -> None:
        """Take a log that has grown to *written* bytes as a sign of life."""
        if written != self._log_bytes:
            self._log_bytes = written
            self.heard_at = time.monotonic()

    @property
    def word(self) -> str | None:
        """The child's last word, `done`, `failed` or `review`; None while it has said none of them."""
        return None if self._last_word is None else str(self._last_word["event"])

    def summary(self) -> dict[str, Any]:
        """Return the summary that came with `done`."""
        told = self._last_word.get("summary") if self._last_word else None
        return told if isinstance(told, dict) else {}

    def failure(self) -> dict[str, Any]:
        """Return the failure that came with `failed` or `review`, every field there and of its type."""
        told = self._last_word.get("failure") if self._last_word else None
        told = told if isinstance(told, dict) else {}
        category, findings = told.get("category"), told.get("findings")
        return {
            "category": category if category in ("user", "capacity", "system") else "system",
            "code": str(told.get("code", "internal"))[:NAME_CHARACTERS],
            "message": str(told.get("message", "the operation failed without a message"))[:MESSAGE_CHARACTERS],
            "findings": findings[:FINDINGS] if isinstance(findings, list) else [],
            "retryable": told.get("retryable") is True,
        }

    def take(self, event: Event) -> None:
        """Gather *event*."""
        self.heard_at = time.monotonic()
        if event["event"] in ("done", "failed", "review"):
            self._last_word = event
            return
        getattr(self, f"_take_{event['event']}")(event)

    def flush_if_due(self) -> None:
        """Write what was gathered when the last write is long enough ago; a database that is away is tried again.

        Raises:
            LeaseLost: the row is not ours any more.
        """
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            try:
                self.flush()
            except (Unavailable, StorageFull):
                del self._writes[:-WAITING_WRITES]

    def flush(self) -> None:
        """Write what was gathered in one transaction.

        Raises:
            LeaseLost: the row is not ours any more.
            Unavailable: the database does not answer; everything is still gathered.
        """
        self._flushed_at = time.monotonic()
        writes = [*self._writes, *self._latest(), *self._log_write()]
        if not writes:
            return
        with self._database.write() as session:
            for write in writes:
                write(session)
        self._writes.clear()
        self._progress = None
        self._metrics.clear()

    def _latest(self) -> list[Write]:
        writes: list[Write] = []
        if self._progress is not None:
            done, total, unit = self._progress
            writes.append(lambda session: telling.report_progress(session, self._claim, done, total, unit))
        for step, values in sorted(self._metrics.items()):
            writes.append(lambda session, s=step, v=values: telling.report_metrics(session, self._claim, s, v))  # type: ignore[misc]
        return writes

    def _log_write(self) -> list[Write]:
        if time.monotonic() - self._logged_at < LOG_SECONDS:
            return []
        self._logged_at = time.monotonic()
        text = self._log()
        if text == self._log_written:
            return []
        self._log_written = text
        return [lambda session: telling.report_log(session, self._claim, text)]

    def _take_phase(self, event: Event) -> None:
        phase = event.get("phase")
        if isinstance(phase, str) and phase:
            self._progress = None
            self._writes.append(lambda session: telling.report_phase(session, self._claim, phase[:NAME_CHARACTERS]))

    def _take_progress(self, event: Event) -> None:
        done, total, unit = event.get("done"), event.get("total"), event.get("unit")
        if is_count(done) and is_count(total) and isinstance(unit, str):
            self._progress = done, total, unit[:NAME_CHARACTERS]

    def _take_metrics(self, event: Event) -> None:
        step, values = event.get("step"), event.get("values")
        if is_count(step) and isinstance(values, dict):
            numbers = {name[:NAME_CHARACTERS]: number_of(value) for name, value in values.items()}
            told = {name: number for name, number in numbers.items() if number is not None}
            self._metrics.setdefault(step, {}).update(told)

    def _take_checkpoint(self, event: Event) -> None:
        step, folder = event.get("step"), event.get("folder")
        if is_count(step) and isinstance(folder, str) and Path(folder).resolve().parent == self._checkpoints:
            self._writes.append(lambda session: self._record_checkpoint(session, step, Path(folder)))

    def _record_checkpoint(self, session: Session, step: int, folder: Path) -> None:
        try:
            telling.report_checkpoint(session, self._claim, step, folder)
        except ArtifactCorrupt:
            return  # already replaced by a newer one, or never whole: no record

    def _take_note(self, event: Event) -> None:
        message = event.get("message")
        if isinstance(message, str):
            text = message.replace("\x00", "")[:NOTE_CHARACTERS]
            self._writes.append(lambda session: telling.report_note(session, self._claim, text))


def is_count(value: object) -> TypeGuard[int]:
    """Whether *value* is a whole number that a database's 64 bits hold and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def number_of(value: object) -> float | None:
    """Return *value* as a number, null as NaN (the child could not write it otherwise), anything else as None."""
    if value is None:
        return math.nan
    if isinstance(value, float):
        return value
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
