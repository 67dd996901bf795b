import os
import signal
import time

import pytest

from tests.faults.house import SLACK, wait_for
from tests.faults.test_line import value_after

pytestmark = pytest.mark.faults


def starts(house, name):
    return [entry for entry in house.diary(name) if entry["what"] == "started"]


def test_a_killed_child_is_tried_again_without_waiting_for_the_lease_and_resumes(tmp_path, make_house):
    house = make_house(lease_seconds=60.0, renew_seconds=10.0)
    house.start_worker()
    job_id = house.submit("a steps=40 seconds=0.05 every=5")
    pid = house.entry("a", "started")["pid"]
    wait_until_checkpoint(house, job_id)
    os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    job = house.wait_status(job_id, "succeeded", "failed")
    assert job.status == "succeeded"
    assert house.result(job_id) == value_after(40)
    _, second = starts(house, "a")
    assert second["at"] - killed_at < 5 * SLACK
    assert second["step"] >= 5
    assert len(house.outputs(job_id)) == 1
    assert job.attempt == 2
    assert "killed by signal 9" in str(house.events(job_id))


def wait_until_checkpoint(house, job_id):
    wait_for(lambda: any(e["type"] == "checkpoint" for e in house.events(job_id)), 15, "a checkpoint's row")


def test_three_silent_deaths_without_a_new_checkpoint_are_poison(house):
    house.start_worker()
    job_id = house.submit("a die=2 times=99")
    other = house.submit("b")
    job = house.wait_status(job_id, "failed", "succeeded")
    assert job.status == "failed"
    assert (job.failure["category"], job.failure["code"]) == ("system", "poison")
    assert job.attempt == 3
    assert len(starts(house, "a")) == 3
    assert house.outputs(job_id) == []
    assert house.wait_status(other, "succeeded").attempt == 1


def test_deaths_that_each_leave_a_new_checkpoint_are_no_poison(house):
    house.start_worker()
    job_id = house.submit("a steps=12 every=2 diesoon=3 seconds=0.1", ring=True)
    job = house.wait_status(job_id, "failed", "succeeded", seconds=30)
    assert job.status == "succeeded"
    assert job.attempt > 3
    assert house.result(job_id) == value_after(12)


def test_an_exception_fails_the_job_at_once_with_its_log_and_a_reference(house):
    house.start_worker()
    job_id = house.submit("a raise=2")
    job = house.wait_status(job_id, "failed", "succeeded")
    assert job.failure["category"] == "system"
    assert job.failure["code"] == "internal"
    assert job.failure["message"] == "RuntimeError: the stand-in was told to raise"
    assert job.failure["reference"] == f"{job_id}/1"
    assert "Traceback (most recent call last)" in job.log_tail
    assert "the stand-in was told to raise" in job.log_tail
    assert job.attempt == 1
    assert len(starts(house, "a")) == 1


def test_running_out_of_memory_is_capacity_and_not_tried_for_ever(house):
    house.start_worker()
    job_id = house.submit("a oom=2 times=99")
    job = house.wait_status(job_id, "failed", "succeeded")
    assert (job.failure["category"], job.failure["code"]) == ("capacity", "out_of_memory")
    assert len(starts(house, "a")) == 1


def test_a_step_that_never_returns_is_ended_and_tried_again(make_house):
    house = make_house(silence_seconds=1.5, stop_grace_seconds=0.5)
    house.start_worker()
    job_id = house.submit("a steps=8 every=3 hang=5")
    job = house.wait_status(job_id, "succeeded", "failed")
    assert job.status == "succeeded"
    assert job.attempt == 2
    assert starts(house, "a")[1]["step"] == 3
    assert "nothing heard for 1.5 s" in str(house.events(job_id))


def test_a_flood_of_log_fills_no_database(house):
    house.start_worker()
    job_id = house.submit("a log=5000000")
    job = house.wait_status(job_id, "succeeded", "failed")
    assert job.status == "succeeded"
    assert 1000 < len(job.log_tail) <= 65536
