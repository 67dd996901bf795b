"""The Celery application of a worker: the one task, and a consumer that comes back soon after an outage.

The message is a bell: it means "look". What is done then is in `worker.tasks`.
"""

from collections.abc import Callable
from functools import partial

from celery import Celery
from celery.worker.consumer import Consumer as CeleryConsumer
from kombu import Connection

from store.bell import TASK_NAME, make_celery
from store.settings import Settings

RECONNECT_SECONDS = 5
"""Longest pause between two tries to reach the broker; kombu alone lets it grow to 30 s."""


class Consumer(CeleryConsumer):  # type: ignore[misc] # celery ships no types
    """Celery's consumer, with its pause between tries to reconnect capped."""

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return *conn* connected, trying again at least every RECONNECT_SECONDS."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=RECONNECT_SECONDS)
        return super().ensure_connected(conn)


def make_app(settings: Settings, look: Callable[[str], None]) -> Celery:
    """Return the application whose task calls *look* with the id of the job that the bell was rung for."""
    app = make_celery(settings, role="worker")
    app.conf.worker_consumer = f"{Consumer.__module__}:{Consumer.__qualname__}"

    @app.task(name=TASK_NAME, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        look(job_id)

    return app
