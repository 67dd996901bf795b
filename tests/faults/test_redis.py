import shutil
import time

import pytest

from tests.faults.house import SLACK, House, RedisServer, need_redis_server, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.services]


@pytest.fixture
def own_redis(tmp_path):
    need_redis_server()
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def house(tmp_path, template, own_redis):
    shutil.copy(template, tmp_path / "deft.sqlite3")
    made = House(tmp_path, f"sqlite:///{tmp_path / 'deft.sqlite3'}", own_redis.url, lease_seconds=10.0)
    yield made
    made.close()


def test_when_redis_is_emptied_every_queued_job_runs_once_and_the_running_one_goes_on(house, own_redis):
    house.start_worker()
    running = house.submit("running steps=40 seconds=0.1 every=1000")
    house.entry("running", "started")
    queued = [house.submit(f"q{index} steps=1") for index in range(6)]
    own_redis.command("flushall")
    for job_id in [running, *queued]:
        assert house.wait_status(job_id, "succeeded", "failed", seconds=40).status == "succeeded"
        assert house.job(job_id).attempt == 1
        assert len(house.outputs(job_id)) == 1
    for index in range(6):
        assert [entry["what"] for entry in house.diary(f"q{index}")] == ["started", "finished"]


def test_jobs_asked_for_while_redis_is_away_wait_and_start_soon_after_it_is_back(house, own_redis):
    house.start_worker()
    house.wait_status(house.submit("before steps=1"), "succeeded")
    wait_for(
        lambda: "succeeded in" in house.log_of(house.workers[0]), 10, "the end of the look, which takes what it finds"
    )
    own_redis.stop()
    began = time.monotonic()
    job_id = house.submit("during steps=1")
    assert time.monotonic() - began < 2 * SLACK
    wait_for(lambda: "Trying again in" in house.log_of(house.workers[0]), 20, "a try to reconnect")
    time.sleep(8)
    assert house.job(job_id).status == "queued"
    own_redis.start()
    assert house.wait_status(job_id, "succeeded", "failed", seconds=20).status == "succeeded"
    assert house.workers[0].poll() is None
    pauses = [line for line in house.log_of(house.workers[0]).splitlines() if "Trying again in" in line]
    seconds = [float(line.partition("Trying again in ")[2].split()[0]) for line in pauses]
    assert max(seconds) <= 5
