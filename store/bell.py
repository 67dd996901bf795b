"""The bell: a Celery message that means "look". It holds a job's id for the log, and no truth.

One queue for each class of workers, so that no worker swallows the bell of a job that it cannot run. Early
acknowledgement, no result backend, no ETA, no revoke. A ring that fails is logged; the sweeper rings again.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from celery import Celery
from kombu import Queue

from store.settings import Settings

TASK_NAME = "deft.look"
QUEUES = {"cpu": "deft-cpu", "gpu": "deft-gpu"}
"""The queue of each resource class."""

EMBEDDED = "filesystem://"


class Ring(NamedTuple):
    """Whom to ring for: a queued job, and the *resource_class* of the workers that can run it."""

    job_id: str
    resource_class: str


log = logging.getLogger(__name__)


def make_celery(settings: Settings, role: Literal["producer", "worker"] = "producer") -> Celery:
    """Return the Celery application for the API and the sweeper (*producer*: a ring fails within 2 s) or a *worker*.

    The worker registers its one task under `TASK_NAME` and is started with the pool `threads`, without gossip, mingle
    and heartbeat.
    """
    app = Celery("deft", broker=settings.broker_url, set_as_current=False)
    classes = settings.job_classes if role == "worker" else QUEUES
    app.conf.update(
        task_queues=[Queue(QUEUES[each]) for each in classes],
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        enable_utc=True,
        timezone="UTC",
    )
    app.conf.update(_of_worker(settings) if role == "worker" else _of_producer(settings))
    return app


def ring(celery: Celery, job_id: str, resource_class: str) -> bool:
    """Tell a worker of *resource_class* to look; return whether the broker took the message.

    Never raises, takes at most about 2 s. Ring after the row is committed, never inside its transaction, and from async
    code in a thread.
    """
    try:
        _send(celery, job_id, QUEUES[resource_class])
    except Exception as error:  # noqa: BLE001 - whatever the broker does, the row is stored and the sweeper rings again
        log.warning("no ring for %s: %s", job_id, type(error).__name__)
        return False
    return True


def _send(celery: Celery, job_id: str, queue: str) -> None:
    """Send the message, a second time where the embedded broker's table of queues could not be read.

    That was seen once, while other processes rang (a JSONDecodeError).
    """
    try:
        celery.send_task(TASK_NAME, args=[job_id], queue=queue, ignore_result=True, retry=False)
    except ValueError:
        celery.send_task(TASK_NAME, args=[job_id], queue=queue, ignore_result=True, retry=False)


def ring_all(celery: Celery, rings: Iterable[Ring]) -> None:
    """Ring for each of *rings*; a broker that does not answer is not asked again: the sweeper is."""
    for each in rings:
        if not ring(celery, each.job_id, each.resource_class):
            return


def prepare_embedded(settings: Settings) -> None:
    """Make the embedded broker's folders (mode 0700), drop old messages and declare the queues once.

    For the supervisor, before it starts the API and the worker: two processes that declare at the same time can fail.
    Old messages sort wrongly after a reboot, and the sweeper rings again for every queued job.
    """
    if not is_embedded(settings):
        return
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    settings.bell_folder.mkdir(mode=0o700, exist_ok=True)
    for folder in _embedded_folders(settings):
        folder.mkdir(mode=0o700, exist_ok=True)
    for message in _embedded_folders(settings)[0].glob("*.msg"):
        message.unlink(missing_ok=True)
    app = make_celery(settings)
    with app.connection_for_write() as connection:
        for name in QUEUES.values():
            app.amqp.queues[name](connection.default_channel).declare()


def is_embedded(settings: Settings) -> bool:
    """Return whether the broker is the folder of `deft serve`."""
    return settings.broker_url.startswith(EMBEDDED)


def _of_producer(settings: Settings) -> dict[str, Any]:
    if is_embedded(settings):
        return {"broker_transport_options": _embedded_options(settings)}
    return {
        "broker_connection_timeout": 1,
        "broker_pool_acquire_timeout": 1,
        "broker_transport_options": {
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "retry_on_timeout": False,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
            "visibility_timeout": 86400,
        },
    }


def _of_worker(settings: Settings) -> dict[str, Any]:
    always = {"broker_connection_max_retries": None, "worker_concurrency": settings.slots}
    if is_embedded(settings):
        return {**always, "broker_transport_options": _embedded_options(settings)}
    return {
        **always,
        "broker_transport_options": {
            "ack_emulation": False,  # the row is the acknowledgement; no redelivery after a visibility timeout
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "health_check_interval": 25,
            "socket_keepalive": True,
            "visibility_timeout": 86400,
        },
    }


def _embedded_folders(settings: Settings) -> tuple[Path, Path]:
    return settings.bell_folder / "queue", settings.bell_folder / "control"


def _embedded_options(settings: Settings) -> dict[str, Any]:
    queue, control = (str(folder.resolve()) for folder in _embedded_folders(settings))
    return {"data_folder_in": queue, "data_folder_out": queue, "control_folder": control, "polling_interval": 0.2}
