"""One attempt at one job, in a straight line: inputs, child, result. The child does the work; this thread waits.

What it may touch is decided by the fence in every statement of `store.claims`; `worker.lease` ends the child before
another worker can begin. It knows no Celery and no other attempt.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from sqlalchemy.orm import Session

from deft.errors import StorageFull, Unavailable
from deft.failures import failure_of
from deft.specs import output_kind
from store import claims, telling
from store.claims import Claim, LeaseLost, Wish
from worker import child as child_processes
from worker import devices, resume
from worker.child import Child
from worker.lease import Answer, LeaseKeeper, Terms
from worker.preparation import Preparation
from worker.reporter import Reporter
from worker.workplace import Workplace

Result = TypeVar("Result")
Asked = Literal["cancel", "pause", "shutdown", "silence"]

TICK_SECONDS = 0.2
LOOK_SECONDS = 1.0
"""Pause between two looks at the row for what its owner wants."""

SIGN_SECONDS = 60.0
"""Pause between two signatures of the attempt's folder."""

RETRY_SECONDS = 0.5

STOP_SECONDS = 5.0
"""How long what the database did not take is tried on after a cancel or a shutdown was asked for."""

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a child ended: its exit status, and why it was asked to stop, if it was."""

    status: int
    asked: Asked | None


class AskedToStop(Exception):
    """A cancel or a shutdown was *asked* for, and the database still does not take what is to be written."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        super().__init__(asked)


class Attempt:
    """One claimed job on its way to its one result."""

    def __init__(self, place: Workplace, claim: Claim, *, slot: int = 0) -> None:
        self._place = place
        self._slot = slot
        self._claim = claim
        self._child: Child | None = None
        self._child_lock = threading.Lock()
        self._looked_at = 0.0
        self._work: Path | None = None
        self._signed_at = 0.0
        self._checkpoints = place.settings.checkpoint_folder / claim.job_id
        own = resume.attempt_folder(self._checkpoints, claim.fence)
        self._reporter = Reporter(place.database, claim, checkpoints=own, log=self._log_text)
        terms = Terms(claim.lease_seconds, place.settings.renew_seconds)
        self._preparation = Preparation(place, claim, self._checkpoints, self._write)
        self._keeper = LeaseKeeper(self._renew, terms, on_lost=self._kill)

    @property
    def reference(self) -> str:
        """What a user quotes and an operator greps for."""
        return f"{self._claim.job_id}/{self._claim.attempt}"

    def run(self) -> None:
        """Run the job and settle it. Raises nothing: whatever happens, the row or the sweeper knows what is next."""
        log.info("%s: %s begins", self.reference, self._claim.kind)
        try:
            with self._keeper:
                self._line()
        except LeaseLost:
            log.warning("%s: the lease is lost; nothing was published", self.reference)
        except AskedToStop as stop:
            log.warning("%s: left without a word (%s); the lease will run out", self.reference, stop.asked)
        except Exception:
            log.exception("%s: given up; the lease will run out", self.reference)

    def _line(self) -> None:
        try:
            work = self._work = self._place.files.stage("attempt")
            try:
                word = self._operate(work)
            finally:
                self._place.files.discard(work)
        except (LeaseLost, Unavailable):
            raise
        except AskedToStop as stop:
            word = self._leave(stop.asked)
        except Exception as error:
            log.warning("%s: cannot run", self.reference, exc_info=True)
            self._fail(failure_of(error))
            return
        log.info("%s: %s", self.reference, word)

    def _operate(self, work: Path) -> str:
        """Bring everything here, run the operation and settle; return one word for the log."""
        self._write(lambda session: telling.report_phase(session, self._claim, "preparing"))
        fetched = self._fetch_models()
        if fetched is not None and self._reporter.word != "done":
            return self._settle(fetched)
        order = self._preparation.order(work)
        ending = self._run(child_processes.command(order))
        return self._settle(ending, order.out)

    def _fetch_models(self) -> Ending | None:
        """Bring models of the Hub here, each in a child of its own; return how the last ended, None: of nothing."""
        ending = None
        for command in self._preparation.fetching():
            ending = self._run(command)
            if self._reporter.word != "done":
                break
        return ending

    def _run(self, arguments: Sequence[str]) -> Ending:
        """Run a child to its end, passing on what it says and what is asked of it."""
        self._reporter.begin()
        environment = child_processes.environment_for_child(os.environ)
        own = devices.of_slot(environment, self._slot, self._place.settings.slots)
        child = child_processes.start(arguments, environment={**environment, **own, **self._preparation.endpoint()})
        with self._child_lock:
            self._child = child
        try:
            asked = self._accompany(child)
        finally:
            status = child.end()
            for event in child.last_events():
                self._reporter.take(event)
        self._require_lease()
        return Ending(status, asked)

    def _accompany(self, child: Child) -> Asked | None:
        asked: Asked | None = None
        kill_at = float("inf")
        while child.is_running and time.monotonic() < kill_at:
            for event in child.events(TICK_SECONDS):
                self._reporter.take(event)
            self._reporter.notice_log(child.log.written)
            self._require_lease()
            self._sign_folder()
            self._reporter.flush_if_due()
            if asked is None and (asked := self._reason_to_stop()):
                log.info("%s: stopping the child (%s)", self.reference, asked)
                child.ask_to_stop()
                kill_at = time.monotonic() + self._place.settings.stop_grace_seconds
        return asked

    def _sign_folder(self) -> None:
        """Keep the attempt's folder from being taken for litter; a full disk or the like is the child's to report."""
        if self._work is not None and time.monotonic() - self._signed_at >= SIGN_SECONDS:
            self._signed_at = time.monotonic()
            with suppress(OSError):
                self._place.files.keep(self._work)

    def _reason_to_stop(self) -> Asked | None:
        """Return why the child should stop."""
        wish: Wish | None = self._keeper.wish or self._wish()
        if wish is not None:
            return wish
        if self._place.stopping.is_set():
            return "shutdown"
        if time.monotonic() - self._reporter.heard_at > self._place.settings.silence_seconds:
            return "silence"
        return None

    def _wish(self) -> Wish | None:
        """Look at the row for what its owner wants, once a second."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = time.monotonic()
        try:
            with self._place.database.read() as session:
                return claims.look(session, self._claim).wish
        except Unavailable:
            return None

    def _settle(self, ending: Ending, out: Path | None = None) -> str:
        """Write the end that *ending* and the child's last word make, by the row's own columns."""
        self._write_gathered()
        if self._reporter.word == "done" and out is not None:
            if ending.status != 0:  # said after everything was written: a crash while leaving takes nothing back
                log.warning("%s: done, then %s", self.reference, child_processes.describe_death(ending.status))
            return self._succeed(out)
        if self._reporter.word == "failed":
            return self._fail(self._reporter.failure())
        if self._reporter.word == "review":
            return self._park(self._reporter.failure())
        if ending.asked == "cancel":
            return self._cancel()
        if ending.asked in ("pause", "shutdown"):
            return self._release(ending.asked, counts=False)
        if ending.asked == "silence":
            return self._release(f"nothing heard for {self._place.settings.silence_seconds:g} s", counts=True)
        return self._release(child_processes.describe_death(ending.status), counts=True)

    def _leave(self, asked: Asked) -> str:
        """End a job whose last words the database did not take: cancelled, or left to another attempt."""
        return self._cancel() if asked == "cancel" else self._release(asked, counts=False)

    def _cancel(self) -> str:
        self._write(lambda session: claims.settle_cancelled(session, self._claim, log_tail=self._log_text()))
        resume.forget(self._checkpoints)
        return "cancelled"

    def _succeed(self, out: Path) -> str:
        kind = output_kind(self._claim.kind, self._claim.spec)
        sealed = self._place.files.seal(kind, out, self._reporter.summary())
        # On LeaseLost the folder stays as litter: after a commit that broke off we cannot know that it has no row.
        self._write(lambda session: claims.succeed(session, self._claim, sealed, log_tail=self._log_text()))
        resume.forget(self._checkpoints)
        self._collect_inputs()
        return "succeeded"

    def _collect_inputs(self) -> None:
        """Remove the folders of inputs whose rows went with this job's end: the parts of a scoring that is merged."""
        with suppress(Unavailable), self._place.database.read() as session:
            self._place.files.collect(session, self._claim.inputs.values())

    def _fail(self, failure: Mapping[str, Any]) -> str:
        told = {**failure, "reference": self.reference}
        self._write(lambda session: claims.fail(session, self._claim, told, log_tail=self._log_text()))
        resume.forget(self._checkpoints)
        return f"failed ({told.get('category')}/{told.get('code')})"

    def _release(self, reason: str, *, counts: bool) -> str:
        status = self._write(
            lambda session: claims.release(
                session, self._claim, reason, counts_as_attempt=counts, log_tail=self._log_text()
            )
        )
        if status not in ("queued", "paused"):
            resume.forget(self._checkpoints)
        return f"{status} ({reason})"

    def _park(self, pause: Mapping[str, Any]) -> str:
        """Pause the job until a person has looked at what its operation says."""
        told = {name: pause[name] for name in ("code", "message", "findings")}
        status = self._write(
            lambda session: claims.pause_for_review(session, self._claim, told, log_tail=self._log_text())
        )
        if status != "paused":
            resume.forget(self._checkpoints)
        return f"{status} ({told['code']})"

    def _write_gathered(self) -> None:
        self._until_taken(self._reporter.flush)

    def _write(self, action: Callable[[Session], Result]) -> Result:
        """Do *action* in a transaction, again while the database is away: see `_until_taken`."""

        def write() -> Result:
            with self._place.database.write() as session:
                return action(session)

        return self._until_taken(write)

    def _until_taken(self, write: Callable[[], Result]) -> Result:
        """Do *write*, again while the database is away, the lease lasts and nobody asks to stop.

        Raises:
            AskedToStop: a cancel or a shutdown was seen `STOP_SECONDS` ago, and it is still not taken.
            LeaseLost: the lease is over.
        """
        asked: Asked | None = None
        stop_at = math.inf
        while True:
            self._require_lease()
            try:
                return write()
            except (Unavailable, StorageFull):
                self._require_lease()
            if asked is None and (asked := self._asked_to_end()):
                stop_at = time.monotonic() + STOP_SECONDS
            if asked is not None and time.monotonic() >= stop_at:
                raise AskedToStop(asked)
            time.sleep(RETRY_SECONDS)

    def _asked_to_end(self) -> Asked | None:
        """Return why not to wait for the database any more."""
        if "cancel" in (self._wish(), self._keeper.wish):
            return "cancel"
        return "shutdown" if self._place.stopping.is_set() else None

    def _require_lease(self) -> None:
        if self._keeper.seconds_left <= 0:
            raise LeaseLost(self._claim.job_id)

    def _renew(self) -> Answer:
        with self._place.database.write() as session:
            lease = claims.renew(session, self._claim)
        return Answer(lease.is_ours, lease.wish)

    def _kill(self) -> None:
        with self._child_lock:
            if self._child is not None and self._child.is_running:
                child_processes.end_group(self._child.pid)

    def _log_text(self) -> str:
        return "" if self._child is None else self._child.log.text()
