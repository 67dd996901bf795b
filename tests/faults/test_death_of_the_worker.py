import os
import signal
import time

import pytest

from tests.faults.house import SLACK, is_alive, wait_for
from tests.faults.test_line import value_after

pytestmark = pytest.mark.faults


def test_a_killed_worker_takes_child_and_grandchild_along_and_another_finishes(house):
    first = house.start_worker()
    job_id = house.submit("a steps=60 seconds=0.05 every=5 grandchild=1")
    child = house.entry("a", "started")["pid"]
    grandchild = house.entry("a", "grandchild")["grandchild"]
    wait_for(lambda: any(e["type"] == "checkpoint" for e in house.events(job_id)), 15, "a checkpoint's row")
    first.kill()
    first.wait()
    wait_for(lambda: not is_alive(child) and not is_alive(grandchild), 2, "the end of child and grandchild")
    assert house.job(job_id).status == "running"
    house.start_worker()
    job = house.wait_status(job_id, "succeeded", "failed", seconds=30)
    assert job.status == "succeeded"
    assert house.result(job_id) == value_after(60)
    assert len(house.outputs(job_id)) == 1
    assert job.attempt == 2
    assert [e for e in house.diary("a") if e["what"] == "started"][1]["step"] >= 5


def test_a_worker_that_is_told_to_stop_checkpoints_and_gives_the_job_back_uncounted(house):
    first = house.start_worker()
    job_id = house.submit("a steps=60 seconds=0.05 every=1000")
    house.entry("a", "started")
    time.sleep(0.5)
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    first.wait(60)
    assert time.monotonic() - began < 20 * SLACK
    job = house.job(job_id)
    assert job.status == "queued"
    assert job.stuck_attempts == 0
    stopped = house.entry("a", "stopped")
    house.start_worker()
    job = house.wait_status(job_id, "succeeded", "failed")
    assert house.result(job_id) == value_after(60)
    assert [e for e in house.diary("a") if e["what"] == "started"][1]["step"] == stopped["step"]
    assert "shutdown" in str(house.events(job_id))


def test_many_drains_are_no_poison(house):
    job_id = house.submit("a steps=400 seconds=0.05 bare=1")  # a new checkpoint would hide a wrong count
    for _ in range(4):
        before = len(house.diary("a"))
        worker = house.start_worker()
        wait_for(lambda: len(house.diary("a")) > before, 15, "a start")  # noqa: B023 - called within the loop
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    assert house.job(job_id).status == "queued"
    assert house.job(job_id).attempt == 4


def test_a_child_that_ignores_the_signal_is_killed_after_the_grace_time(make_house):
    house = make_house(stop_grace_seconds=1.0)
    worker = house.start_worker()
    job_id = house.submit("a steps=600 seconds=0.05 every=1000 deaf=1")
    child = house.entry("a", "started")["pid"]
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    assert not is_alive(child)
    assert house.job(job_id).status == "queued"


def test_a_worker_stopped_past_its_lease_publishes_nothing_when_it_wakes(house):
    ghost = house.start_worker()
    job_id = house.submit("a steps=60 seconds=0.1 every=5")
    child = house.entry("a", "started")["pid"]
    house.freeze(ghost, job_id)
    wait_for(lambda: house.job(job_id).lease_expires_at < now(house), 10, "the end of the lease")
    house.start_worker()
    wait_for(lambda: house.job(job_id).attempt == 2, 15, "the second attempt")
    fence = house.job(job_id).fence
    ghost.send_signal(signal.SIGCONT)
    wait_for(lambda: not is_alive(child), 10, "the end of the ghost's child")
    job = house.wait_status(job_id, "succeeded", "failed", seconds=30)
    assert job.status == "succeeded"
    assert job.fence == fence
    assert len(house.outputs(job_id)) == 1
    assert house.result(job_id) == value_after(60)
    wait_for(lambda: "the lease is lost" in house.log_of(ghost), 10, "the ghost's insight")


def test_a_ghost_whose_child_has_already_finished_publishes_nothing(house):
    ghost = house.start_worker()
    job_id = house.submit("a steps=80 seconds=0.05 every=1000")
    house.entry("a", "started")
    house.freeze(ghost, job_id)
    house.entry("a", "finished")
    wait_for(lambda: house.job(job_id).lease_expires_at < now(house), 10, "the end of the lease")
    house.start_worker()
    wait_for(lambda: house.job(job_id).attempt == 2, 15, "the second attempt")
    ghost.send_signal(signal.SIGCONT)
    assert house.wait_status(job_id, "succeeded", "failed", seconds=30).status == "succeeded"
    wait_for(lambda: "the lease is lost" in house.log_of(ghost), 10, "the ghost's insight")
    assert len(house.outputs(job_id)) == 1
    assert house.job(job_id).attempt == 2


def now(house):
    with house.database.read() as session:
        return house.database.now(session)


def test_children_know_nothing_of_the_services_secrets(house):
    house.start_worker()
    job_id = house.submit("a steps=100 seconds=0.05")
    child = house.entry("a", "started")["pid"]
    with open(f"/proc/{child}/environ", "rb") as file:  # noqa: PTH123 - not a file of the disk
        names = {entry.partition(b"=")[0].decode() for entry in file.read().split(b"\0")}
    house.cancel(job_id)
    house.wait_status(job_id, "cancelled")
    assert "STANDIN_SCRATCH" in names
    assert not {name for name in names if name.startswith("DEFT_")}
    assert os.environ.get("PATH") is None or "PATH" in names
