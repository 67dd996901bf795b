"""`python -m worker.main`: one worker process: Celery with a pool of threads, and a sweeper beside it.

The one entry that `deft serve`, compose and the tests use; settings come from DEFT_* alone. SIGTERM stops it: running
children are asked to reach a safe point, their jobs are released and not counted as attempts.
"""

import logging
import threading

from celery.signals import worker_ready, worker_shutting_down

from store.settings import Settings
from worker.app import make_app
from worker.runner import Runner
from worker.sweeper import Sweeper
from worker.workplace import open_workplace

log = logging.getLogger(__name__)


def arguments(settings: Settings) -> list[str]:
    """Return Celery's command line: threads only wait for child processes, so one a slot is enough."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return ["worker", "-P", "threads", "-c", str(settings.slots), *quiet, "-l", settings.log_level.upper()]


def main() -> None:
    """Run a worker until it is told to stop."""
    settings = Settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    place = open_workplace(settings)
    runner = Runner(place)
    sweeper = Sweeper(settings, place.database, stopping=place.stopping, free_slots=lambda: runner.free_slots)
    runner.after_each = sweeper.ring_due

    def start_sweeper(**_: object) -> None:
        threading.Thread(target=sweeper.run, name="sweeper", daemon=True).start()

    def stop(**_: object) -> None:
        place.stopping.set()

    worker_ready.connect(start_sweeper, weak=False)
    worker_shutting_down.connect(stop, weak=False)
    log.info("worker %s begins", place.owner)
    make_app(settings, runner.look).worker_main(arguments(settings))


if __name__ == "__main__":
    main()
