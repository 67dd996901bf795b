"""The real operation under real kills: a tiny DPO run that loses its process and its worker ends with the same bits."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deft.folders import sha256_of
from store import bell, jobs, models
from tests.deft.small_runs import make_inputs, spec_of
from tests.faults.house import House, wait_for

pytestmark = pytest.mark.faults

STEPS = {"optimisation": {"checkpoint_steps": 5, "batch_size": 2, "epochs": 1}, "lora": {"dropout": 0.1}}


class TrainingHouse(House):
    """A house whose workers run the real operations."""

    def furnish(self, folder: Path) -> None:
        """Publish a made-up dataset and its distribution, and register a tiny model."""
        inputs = make_inputs(folder, rows=160)
        with self.database.write() as session:
            models.register(session, None, "tiny", roots=[folder], folder=inputs["model"])
        for kind, name in (("dataset", "data"), ("scoring", "scoring")):
            staged = self.files.stage(kind)
            for path in inputs[name].iterdir():
                os.link(path, staged / path.name)
            with self.database.write() as session:
                artifact = self.files.publish(session, self.team_id, kind, staged, {})
            setattr(self, f"{name}_id", artifact.id)

    def submit_training(self) -> str:
        document = {**STEPS, "data": self.data_id, "scoring": self.scoring_id}
        with self.database.write() as session:
            job_id = jobs.create(session, self.team_id, spec_of(**document)).id
        bell.ring(self.celery, job_id, "gpu")
        return job_id

    def start_worker(self, **changes: object) -> subprocess.Popen[bytes]:
        log = (self.folder / f"worker-{len(self.workers)}.log").open("wb")
        environment = {**self.environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        worker = subprocess.Popen([sys.executable, "-m", "worker.main"], env=environment, stdout=log, stderr=log)
        log.close()
        self.workers.append(worker)
        return worker

    def wait_checkpoint(self, job_id: str, step: int) -> None:
        def has_come() -> bool:
            events = self.events(job_id)
            return any(event["type"] == "checkpoint" and event["step"] >= step for event in events)

        wait_for(has_come, 60, f"a checkpoint of step {step}")


def child_of(worker: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{worker.pid}/task").glob("*/children")
    found = {int(pid) for path in children for pid in path.read_text().split()}
    [pid] = [pid for pid in found if b"-mdeft" in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b"")]
    return pid


@pytest.fixture
def house(tmp_path, template):
    shutil.copy(template, tmp_path / "deft.sqlite3")
    made = TrainingHouse(tmp_path, f"sqlite:///{tmp_path / 'deft.sqlite3'}", "filesystem://", lease_seconds=6.0)
    made.furnish(tmp_path / "inputs")
    yield made
    made.close()


def test_training_killed_twice_ends_with_the_bits_of_an_undisturbed_run(house):
    first = house.start_worker()
    undisturbed = house.submit_training()
    house.wait_status(undisturbed, "succeeded", "failed", seconds=90)
    job = house.job(undisturbed)
    assert job.status == "succeeded", job.failure

    disturbed = house.submit_training()
    house.wait_checkpoint(disturbed, 5)
    os.kill(child_of(first), signal.SIGKILL)
    wait_for(lambda: house.job(disturbed).attempt == 2, 20, "the second attempt")
    steps = [event["step"] for event in house.events(disturbed) if event["type"] == "checkpoint"]
    house.wait_checkpoint(disturbed, max(steps) + 5)
    first.kill()
    first.wait()
    assert house.job(disturbed).status == "running"
    house.start_worker()
    job = house.wait_status(disturbed, "succeeded", "failed", seconds=90)
    assert job.status == "succeeded", job.failure
    assert job.attempt == 3
    assert weights(house, disturbed) == weights(house, undisturbed)
    assert metrics(house, disturbed) == metrics(house, undisturbed)
    assert len(house.outputs(disturbed)) == 1


def weights(house, job_id):
    [artifact] = house.outputs(job_id)
    return sha256_of(house.files.open_checked(artifact) / "adapter_model.safetensors")


def metrics(house, job_id):
    with house.database.read() as session:
        points = jobs.metrics(session, house.team_id, job_id)
    return [(point.step, point.values.get("loss")) for point in points]
