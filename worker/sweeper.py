"""The sweeper: gives back what lost its lease, and rings for queued rows that nobody took.

A thread in every worker; `python -m worker.sweeper` runs it alone, without torch and without running jobs. Any number
may run. It never starts a job itself: there is one way to start a job, the bell and a claim.
"""

import logging
import math
import random
import signal
import threading
import time
from collections.abc import Callable

from celery import Celery

from deft.errors import DeftError
from store import bell, jobs, sweeps
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from worker import resume

LITTER_EVERY_SECONDS = 3600.0
JITTER = 0.2

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps every `sweep_seconds` until *stopping* is set."""

    def __init__(
        self, settings: Settings, database: Database, *, stopping: threading.Event, free_slots: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._database = database
        self._stopping = stopping
        self._free_slots = free_slots
        self._bell: Celery = bell.make_celery(settings, role="producer")
        self._littered_at = -math.inf

    def run(self) -> None:
        """Sweep now and then until it is time to stop; a sweep that fails is tried again at the next."""
        while True:
            try:
                self.sweep()
                self._collect_litter()
            except DeftError as error:
                log.warning("cannot sweep: %s", error)
            except Exception:
                log.exception("a sweep failed")
            if self._stopping.wait(self._settings.sweep_seconds * random.uniform(1 - JITTER, 1)):  # noqa: S311 - no secret
                return

    def sweep(self) -> list[bell.Ring]:
        """Sweep once and return whom it rang for."""
        with self._database.write() as session:
            to_ring = sweeps.sweep(session, self._free_slots())
        bell.ring_all(self._bell, to_ring)
        return to_ring

    def ring_due(self) -> None:
        """Ring for the jobs that became ready since the last sweep; never raises."""
        try:
            with self._database.write() as session:
                to_ring = sweeps.pick_to_ring(session, self._free_slots())
        except DeftError as error:
            log.warning("cannot ring: %s", error)
            return
        bell.ring_all(self._bell, to_ring)

    def _collect_litter(self) -> None:
        if time.monotonic() - self._littered_at < LITTER_EVERY_SECONDS:
            return
        self._littered_at = time.monotonic()
        with self._database.read() as session:
            for path in ArtifactFiles(self._settings).collect_litter(session):
                log.info("removed litter: %s", path.name)
            resume.forget_ended(self._settings.checkpoint_folder, lambda ids: jobs.finished(session, ids))


def main() -> None:
    """Run a sweeper alone until SIGTERM or SIGINT."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    database = Database(settings.resolved_database_url)
    Sweeper(settings, database, stopping=stopping, free_slots=lambda: settings.slots).run()
    database.dispose()


if __name__ == "__main__":
    main()
