import hashlib

import pytest

pytestmark = pytest.mark.faults


def value_after(steps: int) -> str:
    value = ""
    for step in range(1, steps + 1):
        value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
    return value


def test_a_job_is_claimed_run_and_published_with_its_progress_metrics_and_log(house):
    house.start_worker()
    job_id = house.submit("a steps=6 seconds=0.05")
    job = house.wait_status(job_id, "succeeded", "failed")
    assert job.status == "succeeded"
    assert house.result(job_id) == value_after(6)
    assert job.artifact_id == house.outputs(job_id)[0].id
    assert job.summary == {"value": value_after(6), "steps": 6}
    assert (job.attempt, job.progress_done, job.progress_total, job.progress_unit) == (1, 6, 6, "steps")
    assert "a stand-in runs" in job.log_tail
    kinds = [event["type"] for event in house.events(job_id)]
    assert "checkpoint" in kinds
    assert kinds[-1] == "status"
    assert not list(house.settings.staging_folder.iterdir())
    assert not list(house.settings.checkpoint_folder.iterdir())
