"""A scoring in shards under kills, cancels and pauses: every row comes out once, from whichever worker."""

import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deft.reports import Silent
from deft.scoring.run import run_score
from deft.specs import ScoreSpec, TokenOptions
from store import bell, models, pipelines, sharding
from store.tables import Artifact
from tests.deft.small_runs import TOKENS
from tests.faults.house import House, is_alive, wait_for
from tests.faults.test_training import TrainingHouse
from tests.models import write_model_files

pytestmark = pytest.mark.faults

ROWS, SHARD_ROWS = 40, 10


@pytest.fixture
def house(make_house, tmp_path):
    made = make_house()
    staged = made.files.stage("dataset")
    (staged / "examples.parquet").write_text("made up")
    folder = write_model_files(tmp_path / "roots" / "tiny")
    with made.database.write() as session:
        models.register(session, None, "tiny", roots=[tmp_path / "roots"], folder=folder)
        made.dataset_id = made.files.publish(session, made.team_id, "dataset", staged, {}).id
    return made


def submit(house: House, plan: str) -> str:
    with house.database.write() as session:
        spec = ScoreSpec(dataset=house.dataset_id, model="tiny", name=plan)
        job = sharding.create(session, house.team_id, spec, rows=ROWS, shard_rows=SHARD_ROWS)
        rings = pipelines.to_ring(session, job)
    bell.ring_all(house.celery, rings)
    return job.id


def below(house: House, job_id: str):
    with house.database.read() as session:
        return pipelines.children_of(session, job_id)


def started(house: House, name: str) -> list[object]:
    return [entry["part"] for entry in house.diary(name) if entry["what"] == "started"]


def expected() -> str:
    return "".join(f"{row} counted\n" for row in range(ROWS))


def artifacts_left(house: House) -> tuple[set[str], set[str]]:
    """The kinds of artifacts with a row, and the folders without one."""
    with house.database.read() as session:
        rows = {artifact.id: artifact.kind for artifact in session.query(Artifact)}
    folders = {path.name for path in house.settings.artifact_folder.iterdir()}
    return set(rows.values()), folders - rows.keys()


def child_pid(worker) -> int | None:
    children = [path.read_text().split() for path in Path(f"/proc/{worker.pid}/task").glob("*/children")]
    pids = [int(pid) for found in children for pid in found]
    standins = [pid for pid in pids if b"standin.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return standins[0] if standins else None


def test_a_killed_worker_costs_one_shard_and_every_row_is_merged_once(house):
    workers = [house.start_worker(), house.start_worker()]
    job_id = submit(house, "a seconds=0.15")
    wait_for(lambda: len([part for part in started(house, "a") if part != "count"]) >= 2, 20, "two shards at once")
    pid = wait_for(lambda: child_pid(workers[0]), 5, "the child of the first worker")
    workers[0].kill()
    workers[0].wait()
    wait_for(lambda: not is_alive(pid), 5, "the end of its child")
    house.start_worker()
    job = house.wait_status(job_id, "succeeded", "failed", seconds=60)
    assert job.status == "succeeded", job.failure
    assert house.result(job_id) == expected()
    assert [artifact.id for artifact in house.outputs(job_id)] == [job.artifact_id]
    attempts = {child.name: child.attempt for child in below(house, job_id)}
    assert (attempts["count"], attempts["merge"]) == (1, 1)
    assert sorted(attempts.values()) == [1, 1, 1, 1, 1, 2]
    parts = started(house, "a")
    assert sorted(part for part in set(parts) if isinstance(part, int)) == [0, 10, 20, 30]
    assert (parts.count("count"), parts.count("merge")) == (1, 1)
    wait_for(lambda: artifacts_left(house) == ({"dataset", "scoring"}, set()), 5, "the end of the parts")


def test_cancel_reaches_every_shard_and_leaves_no_part(house):
    house.start_worker(slots=2)
    job_id = submit(house, "a seconds=0.1")
    wait_for(lambda: "finished" in {entry["what"] for entry in house.diary("a")}, 20, "the end of a shard")
    house.cancel(job_id)
    house.wait_status(job_id, "cancelled", seconds=10)
    assert {child.status for child in below(house, job_id)} <= {"succeeded", "cancelled"}
    assert house.outputs(job_id) == []
    assert artifacts_left(house)[0] == {"dataset", "scoring"}


def test_paused_shards_go_on_and_finished_ones_are_not_run_again(house):
    house.start_worker()
    job_id = submit(house, "a seconds=0.1")
    wait_for(lambda: "finished" in {entry["what"] for entry in house.diary("a")}, 20, "the end of a shard")
    house.pause(job_id)
    house.wait_status(job_id, "paused", seconds=10)
    before = len(started(house, "a"))
    time.sleep(1.5)
    assert len(started(house, "a")) == before, "a paused shard was taken up"
    finished = [entry["part"] for entry in house.diary("a") if entry["what"] == "finished"]
    house.resume(job_id)
    assert house.wait_status(job_id, "succeeded", "failed", seconds=40).status == "succeeded"
    assert house.result(job_id) == expected()
    assert [started(house, "a").count(part) for part in finished] == [1] * len(finished)


def test_a_count_that_wants_a_look_pauses_before_any_shard_and_a_shard_that_fails_fails_the_scoring(house):
    house.start_worker()
    job_id = submit(house, "a review=1 raise=12")
    job = house.wait_status(job_id, "paused", "failed")
    assert (job.status, job.pause["code"]) == ("paused", "odd_numbers")
    assert started(house, "a") == ["count"]
    house.resume(job_id)
    job = house.wait_status(job_id, "failed", "succeeded", seconds=30)
    assert job.failure["message"] == "RuntimeError: the stand-in was told to raise"
    assert started(house, "a")[:3] == ["count", "count", 0]
    assert 30 not in started(house, "a"), "the others were not stopped"
    assert house.outputs(job_id) == []


def test_a_real_scoring_in_shards_survives_its_worker_and_gives_the_numbers_of_one_that_was_not_divided(
    tmp_path, template
):
    shutil.copy(template, tmp_path / "deft.sqlite3")
    house = TrainingHouse(tmp_path, f"sqlite:///{tmp_path / 'deft.sqlite3'}", "filesystem://", lease_seconds=6.0)
    try:
        house.furnish(tmp_path / "inputs")
        spec = ScoreSpec(dataset=house.data_id, model="tiny", tokens=TokenOptions(**TOKENS), gate="off")
        first = house.start_worker()
        with house.database.write() as session:
            job = sharding.create(session, house.team_id, spec, rows=160, shard_rows=80)
            rings = pipelines.to_ring(session, job)
        bell.ring_all(house.celery, rings)
        wait_for(lambda: below(house, job.id)[1].status == "running", 60, "the first shard")
        first.kill()
        first.wait()
        house.start_worker()
        ended = house.wait_status(job.id, "succeeded", "failed", seconds=120)
        assert ended.status == "succeeded", ended.failure
        assert [child.attempt for child in below(house, job.id)] == [1, 2, 1, 1]
        [artifact] = house.outputs(job.id)
        merged = house.files.open_checked(artifact)
        assert artifact.summary["shards"] == 2
        out = tmp_path / "whole"
        out.mkdir()
        inputs = {"dataset": house.settings.artifact_folder / house.data_id, "model": tmp_path / "inputs" / "model"}
        run_score(spec, inputs=inputs, out=out, checkpoints=None, report=Silent())
        for name in ("scores.parquet", "hidden.npy"):
            np.testing.assert_allclose(numbers(merged / name), numbers(out / name), rtol=0, atol=1e-5)
    finally:
        house.close()


def numbers(path: Path) -> np.ndarray:
    return np.load(path) if path.suffix == ".npy" else pq.read_table(path)["r_d"].to_numpy()
