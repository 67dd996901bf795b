import contextlib
import re

from kombu import Connection

from store.bell import TASK_NAME
from store.settings import Settings
from worker.app import RECONNECT_SECONDS, Consumer, make_app


class EnoughTries(Exception):
    pass


def test_the_pause_between_tries_to_reconnect_stops_growing_at_its_cap(tmp_path, monkeypatch):
    told = []

    def hear(_template, _uri, _error, next_step):
        told.append(float(re.search(r"in ([\d.]+) second", next_step)[1]))
        if len(told) == 8:
            raise EnoughTries

    consumer = Consumer.__new__(Consumer)
    consumer.app = make_app(Settings(data_folder=tmp_path, broker_url="redis://127.0.0.1:1/0"), print)
    consumer.first_connection_attempt = False
    consumer.broker_connection_retry_attempt = 0
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    monkeypatch.setattr("celery.worker.consumer.consumer.error", hear)
    with contextlib.suppress(EnoughTries):
        consumer.ensure_connected(Connection("redis://127.0.0.1:1/0"))
    assert told == [2, 4, *[RECONNECT_SECONDS] * 6]


def test_the_one_task_looks_and_celery_runs_our_consumer(tmp_path):
    looked = []
    app = make_app(Settings(data_folder=tmp_path, broker_url="memory://"), looked.append)
    app.tasks[TASK_NAME]("job_1")
    assert looked == ["job_1"]
    assert [name for name in app.tasks if not name.startswith("celery.")] == [TASK_NAME]
    assert app.conf.worker_consumer == "worker.app:Consumer"
    assert not app.conf.task_acks_late
    assert app.conf.accept_content == ["json"]
