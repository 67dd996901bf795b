import json
import os
import socket
import subprocess
import sys
import time

import pytest

from store import bell
from store.settings import Settings

REDIS = os.environ.get("DEFT_TEST_REDIS_URL", "redis://127.0.0.1:6379/13")


def embedded(tmp_path):
    return Settings(data_folder=tmp_path / "data")


def test_the_embedded_bell_is_a_file_that_names_the_job_and_nothing_else(tmp_path):
    settings = embedded(tmp_path)
    bell.prepare_embedded(settings)
    assert bell.ring(bell.make_celery(settings), "job_1", "cpu")
    (message,) = (settings.bell_folder / "queue").glob("*.msg")
    content = json.loads(message.read_text())
    assert content["headers"]["task"] == bell.TASK_NAME
    assert "job_1" in content["headers"]["argsrepr"]
    assert content["content-type"] == "application/json"


def test_a_bell_reaches_the_workers_of_its_class_and_no_others(tmp_path):
    settings = embedded(tmp_path)
    bell.prepare_embedded(settings)
    app = bell.make_celery(settings)
    bell.ring_all(app, [bell.Ring("job_1", "cpu"), bell.Ring("job_2", "gpu"), bell.Ring("job_3", "gpu")])
    cpu_only = bell.make_celery(settings.model_copy(update={"resource_classes": ["cpu"]}), role="worker")
    assert heard(cpu_only) == ["job_1"]
    assert heard(bell.make_celery(settings, role="worker")) == ["job_2", "job_3"]


def heard(worker):
    """The jobs that *worker* would hear of, from the queues that it consumes."""
    jobs = []
    with worker.connection_for_read() as connection:
        for queue in worker.amqp.queues.consume_from.values():
            while (message := queue(connection.default_channel).get()) is not None:
                message.ack()
                jobs.append(message.payload[0][0])
    return sorted(jobs)


def test_only_the_owner_can_ring(tmp_path):
    settings = embedded(tmp_path)
    bell.prepare_embedded(settings)
    for folder in (settings.bell_folder, settings.bell_folder / "queue", settings.bell_folder / "control"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_old_messages_are_dropped_at_the_start(tmp_path):
    settings = embedded(tmp_path)
    bell.prepare_embedded(settings)
    assert bell.ring(bell.make_celery(settings), "job_1", "cpu")
    bell.prepare_embedded(settings)
    assert list((settings.bell_folder / "queue").glob("*.msg")) == []


def test_processes_ring_at_the_same_time_after_the_queue_was_declared_once(tmp_path):
    settings = embedded(tmp_path)
    bell.prepare_embedded(settings)
    code = (
        "from store import bell; from store.settings import Settings; import sys\n"
        "app = bell.make_celery(Settings())\n"
        "sys.exit(0 if all(bell.ring(app, f'job_{n}', 'gpu') for n in range(20)) else 1)"
    )
    environment = {**os.environ, "DEFT_DATA_FOLDER": str(settings.data_folder)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(list((settings.bell_folder / "queue").glob("*.msg"))) == 60


def test_a_broken_embedded_broker_is_no_error_of_the_caller(tmp_path):
    settings = embedded(tmp_path)
    assert bell.ring(bell.make_celery(settings), "job_1", "cpu") is False


def seconds_of_a_failed_ring(url):
    app = bell.make_celery(Settings(broker_url=url))
    start = time.monotonic()
    assert bell.ring(app, "job_1", "gpu") is False
    return time.monotonic() - start


def test_a_refused_ring_fails_within_two_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        assert seconds_of_a_failed_ring(url) < 2


def test_a_ring_that_nobody_answers_fails_soon():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        assert seconds_of_a_failed_ring(url) < 2 * 3  # promised: 2 s


@pytest.mark.services
def test_redis_takes_the_bell():
    import redis

    client = redis.Redis.from_url(REDIS, socket_connect_timeout=2)
    try:
        client.ping()
    except redis.RedisError as error:
        reason = f"no Redis at {REDIS}: {type(error).__name__}"
        if os.environ.get("DEFT_TEST_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    client.delete(*bell.QUEUES.values())
    assert bell.ring(bell.make_celery(Settings(broker_url=REDIS)), "job_1", "gpu")
    (message,) = client.lrange(bell.QUEUES["gpu"], 0, -1)
    assert b"job_1" in message
    assert client.lrange(bell.QUEUES["cpu"], 0, -1) == []
    client.delete(*bell.QUEUES.values())


def test_the_worker_is_set_as_measured():
    conf = bell.make_celery(Settings(broker_url=REDIS, slots=3), role="worker").conf
    assert conf.broker_transport_options["ack_emulation"] is False
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.worker_concurrency) == (False, 1, 3)
    assert conf.broker_connection_max_retries is None
    assert conf.result_backend is None
    assert conf.accept_content == ["json"]


@pytest.mark.parametrize(("unreadable", "rings"), [(0, True), (1, True), (2, False)])
def test_a_table_that_cannot_be_read_is_read_once_more(tmp_path, monkeypatch, unreadable, rings):
    celery, tried = bell.make_celery(embedded(tmp_path)), []

    def send_task(*_arguments, **_settings):
        tried.append(1)
        if len(tried) <= unreadable:
            raise json.JSONDecodeError("Expecting value", "", 0)

    monkeypatch.setattr(celery, "send_task", send_task)
    assert bell.ring(celery, "job_1", "cpu") is rings
    assert len(tried) == min(unreadable + 1, 2)
