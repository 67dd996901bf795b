import time

import pytest

from store import bell
from tests.faults.house import is_alive, wait_for

pytestmark = pytest.mark.faults


def test_a_message_delivered_ten_times_and_again_after_success_runs_once(make_house):
    house = make_house(slots=2)
    house.start_worker()
    house.start_worker()
    job_id = house.submit("a steps=5 seconds=0.1", ring=False)
    for _ in range(10):
        bell.ring(house.celery, job_id, "cpu")
    house.wait_status(job_id, "succeeded")
    bell.ring(house.celery, job_id, "cpu")
    last = house.submit("b")
    house.wait_status(last, "succeeded")
    assert [entry["what"] for entry in house.diary("a")] == ["started", "finished"]
    assert house.job(job_id).attempt == 1
    assert len(house.outputs(job_id)) == 1


def test_jobs_that_nobody_rang_for_are_found_by_the_sweeper(house):
    house.start_worker()
    ids = [house.submit(f"{name} steps=1", ring=False) for name in "abc"]
    for job_id in ids:
        house.wait_status(job_id, "succeeded", seconds=25)
    assert [house.job(job_id).attempt for job_id in ids] == [1, 1, 1]


def test_a_running_job_is_cancelled_within_a_step_and_keeps_nothing(house):
    house.start_worker()
    job_id = house.submit("a steps=600 seconds=0.1 every=5")
    child = house.entry("a", "started")["pid"]
    time.sleep(0.3)
    house.cancel(job_id)
    job = house.wait_status(job_id, "cancelled", seconds=10)
    assert not is_alive(child)
    assert house.outputs(job_id) == []
    assert job.finished_at is not None
    assert house.diary("a")[-1]["what"] == "stopped"
    wait_for(lambda: not list(house.settings.checkpoint_folder.iterdir()), 5, "no resume state left")


def test_a_running_job_that_ignores_the_signal_is_cancelled_after_the_grace_time(make_house):
    house = make_house(stop_grace_seconds=1.0)
    house.start_worker()
    job_id = house.submit("a steps=600 seconds=0.1 deaf=1")
    child = house.entry("a", "started")["pid"]
    house.cancel(job_id)
    house.wait_status(job_id, "cancelled", seconds=10)
    assert not is_alive(child)


def test_a_queued_job_is_cancelled_at_once_and_never_runs(house):
    job_id = house.submit("a")
    house.cancel(job_id)
    assert house.job(job_id).status == "cancelled"
    house.start_worker()
    after = house.submit("b")
    house.wait_status(after, "succeeded")
    assert house.diary("a") == []
