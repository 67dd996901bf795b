"""Showing a job as it goes: bars on a terminal, otherwise one plain line at every change of phase and each 30 s.

It prints to stderr and knows only the job's JSON.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.output import duration_text, say
from deft_client import Client
from deft_client.jobs import ENDED

LINE_SECONDS = 30.0
POLL_SECONDS = 0.7

Json = dict[str, Any]


class Row(NamedTuple):
    """What is shown of one running job: the job itself, or one child of a pipeline."""

    id: str
    name: str
    status: str
    phase: str
    done: int
    total: int
    unit: str
    seconds_remaining: float | None

    @property
    def amount(self) -> str:
        """How far the phase is, in words."""
        return f"{self.done}/{self.total} {self.unit}" if self.total else ""


def rows(job: Json) -> list[Row]:
    """Return what *job* comes to: its children in order, or itself when it has none."""
    return [_row(one) for one in (job.get("children") or [job])]


def _row(job: Json) -> Row:
    progress = job.get("progress") or {}
    return Row(
        id=job["id"],
        name=job.get("name") or job.get("kind") or job["id"],
        status=job["status"],
        phase=job.get("phase") or "starting",
        done=int(progress.get("done") or 0),
        total=int(progress.get("total") or 0),
        unit=str(progress.get("unit") or ""),
        seconds_remaining=progress.get("seconds_remaining"),
    )


class View(Protocol):
    """Something that shows a job."""

    def show(self, job: Json) -> None:
        """Show the present state; called at every look, changed or not."""


class Lines:
    """Plain lines: each change of status or phase, and a sign of life every 30 s."""

    def __init__(self, write: Callable[[str], None] = say, now: Callable[[], float] = time.monotonic) -> None:
        self.write = write
        self.now = now
        self.started_at = now()
        self.written_at = now()
        self.last: dict[str, tuple[str, str]] = {}

    def show(self, job: Json) -> None:
        """Write a line for what changed since the last call, or for what runs after 30 s of silence."""
        for row in rows(job):
            seen = (row.status, row.phase if row.status == "running" else "")
            if self.last.get(row.id) != seen:
                was_running = self.last.get(row.id, ("", ""))[0] == "running"
                is_news = was_running or row.status not in ("waiting", "queued")
                self.last[row.id] = seen
                if is_news:
                    self._line(row)
        if self.now() - self.written_at >= LINE_SECONDS:
            self._sign_of_life(job)

    def _sign_of_life(self, job: Json) -> None:
        running = [row for row in rows(job) if row.status == "running"]
        for row in running:
            self._line(row)
        if not running and job["status"] not in ENDED:
            self._write(f"{job['id']}  {waiting_text(job)}")

    def _line(self, row: Row) -> None:
        if row.status != "running":
            self._write(f"{row.name}  {row.status}")
            return
        left = f"  about {duration_text(row.seconds_remaining)} left" if row.seconds_remaining else ""
        self._write(f"{row.name}  {row.phase}  {row.amount}{left}".rstrip())

    def _write(self, text: str) -> None:
        self.written_at = self.now()
        self.write(f"[{duration_text(self.now() - self.started_at):>12}]  {text}")


class Bars:
    """Bars on a terminal: one for each phase that runs; finished phases stay above as lines."""

    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self.progress = progress
        self.now = now
        self.running: dict[str, tuple[Row, TaskID, float]] = {}
        self.ended: set[str] = set()
        self.waiting: TaskID | None = None

    def show(self, job: Json) -> None:
        """Bring the bars up to date."""
        for row in rows(job):
            if row.id in self.ended:
                continue
            self._finish_old_phase(row)
            if row.status == "running":
                self._advance(row)
            elif row.status in ENDED:
                self.ended.add(row.id)
                if row.status != "succeeded":
                    self.progress.console.print(f"  x {row.name:<24} {row.status}")
        self._show_waiting(job)

    def _finish_old_phase(self, row: Row) -> None:
        known = self.running.get(row.id)
        if known is None or (row.status == "running" and row.phase == known[0].phase):
            return
        old, task, since = self.running.pop(row.id)
        self.progress.remove_task(task)
        amount = f"{old.total} {old.unit}" if old.total else ""
        took = duration_text(self.now() - since)
        self.progress.console.print(f"    {old.name:<24} {old.phase:<22} {amount:<22} {took}")

    def _advance(self, row: Row) -> None:
        if row.id in self.running:
            _, task, since = self.running[row.id]
        else:
            task, since = self.progress.add_task(f"{row.name:<24} {row.phase:<22}", total=None), self.now()
        self.running[row.id] = (row, task, since)
        self.progress.update(task, completed=row.done, total=row.total or None, unit=row.unit)

    def _show_waiting(self, job: Json) -> None:
        is_waiting = not self.running and job["status"] not in ENDED
        if is_waiting and self.waiting is None:
            self.waiting = self.progress.add_task("", total=None, unit="")
        if is_waiting and self.waiting is not None:
            self.progress.update(self.waiting, description=waiting_text(job))
        elif self.waiting is not None:
            self.progress.remove_task(self.waiting)
            self.waiting = None


def waiting_text(job: Json) -> str:
    """Return why nothing of *job* runs just now."""
    position = job.get("queue_position")
    place = f", {position} in the queue" if position else ""
    pause = job.get("pause") or {}
    why = pause.get("message") or job.get("waiting_reason")
    reason = f": {why}" if why else ""
    cure = f"; go on with: deft jobs resume {job['id']}" if job["status"] == "paused" else ""
    return f"{job['status']}{place}{reason}{cure}"


@contextmanager
def view() -> Iterator[View]:
    """Yield bars when stderr is a terminal, lines otherwise."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False, highlight=False), transient=True) as progress:
        yield Bars(progress)


def watch(client: Client, job_id: str, *, on_look: Callable[[], None] = lambda: None) -> Json:
    """Show the job until it has ended and return it; *on_look* is called at every look and may raise."""
    job: Json = {}
    with view() as shown:
        for job, _ in client.jobs.watch(job_id, poll_seconds=POLL_SECONDS):
            shown.show(job)
            on_look()
    return job


def explain_failure(client: Client, job: Json, *, log_lines: int = 15) -> None:
    """Print why *job* did not succeed: its failure, that of the job below it which failed, and the end of the log."""
    culprit = job
    while failed := [child for child in culprit.get("children") or [] if child["status"] == "failed"]:
        culprit = client.jobs.get(failed[0]["id"])
    failure = culprit.get("failure") or job.get("failure") or {}
    say(f"{culprit['id']} ({culprit.get('name') or culprit['kind']}) {culprit['status']}: {failure.get('message', '')}")
    facts = [f"{key} {failure[key]}" for key in ("category", "code", "reference") if failure.get(key)]
    if facts:
        say("  " + ", ".join(facts))
    tail = client.jobs.log(culprit["id"]).splitlines()[-log_lines:] if culprit["status"] == "failed" else []
    for line in tail:
        say(f"  | {line}")
