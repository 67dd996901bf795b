"""What a worker does when the bell rings: it looks, and runs jobs one after another until none is left for it.

One look takes the best queued row, not necessarily the one that the bell was rung for, and goes on until no row fits:
so a lost message costs nothing while a worker is busy, and a doubled one finds nothing. It knows no Celery.
"""

import logging
import threading
from collections.abc import Callable

from deft.errors import StorageFull, Unavailable
from store import claims
from store.claims import Claim
from worker.attempt import Attempt
from worker.workplace import Workplace

log = logging.getLogger(__name__)


class Runner:
    """Runs the jobs of one worker process; one thread per slot calls `look`.

    *after_each* is called when a job has ended: others may have become ready, for other workers too.
    """

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self.after_each: Callable[[], object] = lambda: None
        self._free = list(range(place.settings.slots))
        self._lock = threading.Lock()

    @property
    def free_slots(self) -> int:
        """How many more jobs this worker could run now."""
        return len(self._free)

    def look(self, job_id: str) -> None:
        """Run queued jobs until there is none for this worker, or it is stopping; *job_id* is why we look."""
        log.debug("looking, for %s", job_id)
        while not self._place.stopping.is_set():
            claim = self._claim()
            if claim is None:
                return
            self._run(claim)

    def _claim(self) -> Claim | None:
        settings = self._place.settings
        try:
            with self._place.database.write() as session:
                return claims.claim(session, self._place.owner, settings.job_classes, settings.lease_seconds)
        except (Unavailable, StorageFull) as error:
            log.warning("cannot look for jobs: %s", error)
            return None

    def _run(self, claim: Claim) -> None:
        with self._lock:
            slot = self._free.pop(0)
        try:
            Attempt(self._place, claim, slot=slot).run()
        finally:
            with self._lock:
                self._free.append(slot)
            self.after_each()
