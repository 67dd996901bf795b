import time

import pytest

from tests.faults.house import is_alive, wait_for

pytestmark = pytest.mark.faults


def test_a_paused_job_frees_its_slot_and_goes_on_from_where_it_stopped(house):
    undisturbed = house.submit("a steps=60 seconds=0.02", ring=False)
    house.start_worker()
    house.wait_status(undisturbed, "succeeded", seconds=30)
    job_id = house.submit("b steps=60 seconds=0.1 every=100")
    child = house.entry("b", "started")["pid"]
    time.sleep(0.5)
    house.pause(job_id)
    house.wait_status(job_id, "paused", seconds=10)
    assert not is_alive(child)
    other = house.submit("c")
    house.wait_status(other, "succeeded")
    assert house.job(job_id).status == "paused", "the sweeper or a worker took it up"
    house.resume(job_id)
    job = house.wait_status(job_id, "succeeded", seconds=30)
    started = [entry["step"] for entry in house.diary("b") if entry["what"] == "started"]
    assert started[0] == 0
    assert started[1] > 0, "it began anew"
    assert house.result(job_id) == house.result(undisturbed)
    assert (job.attempt, job.stuck_attempts) == (2, 1)


def test_a_job_that_asks_a_person_to_look_goes_on_once_somebody_has(house):
    house.start_worker()
    job_id = house.submit("a steps=10 review=4 every=100")
    job = house.wait_status(job_id, "paused")
    assert job.pause["code"] == "odd_numbers"
    assert "odd" in job.pause["message"]
    assert job.failure is None
    house.resume(job_id)
    house.wait_status(job_id, "succeeded")
    assert [(entry["what"], entry["step"]) for entry in house.diary("a")] == [
        ("started", 0),
        ("review", 4),
        ("started", 4),
        ("finished", 10),
    ]
    reasons = [event["reason"] for event in house.events(job_id) if event["type"] == "status"]
    assert reasons == ["created", "claimed", "parked", "resumed", "inputs_ready", "claimed", "succeeded"]


def test_a_paused_job_that_is_cancelled_leaves_no_resume_state(house):
    worker = house.start_worker()
    job_id = house.submit("a steps=10 review=4 every=100")
    house.wait_status(job_id, "paused")
    assert list(house.settings.checkpoint_folder.iterdir())
    house.cancel(job_id)
    assert house.job(job_id).status == "cancelled"
    worker.kill()
    house.start_worker()
    wait_for(lambda: not list(house.settings.checkpoint_folder.iterdir()), 20, "no resume state left")
