"""A scoring in shards: its rows, its one result, and what is asked of it, in and out of a pipeline."""

import pytest

from deft.budgets import SCORING_WINDOW
from deft.scoring.shards import ranges
from deft.specs import ScoreSpec, SelectSpec
from store import claims, jobs, pipelines, sharding, telling, wishes
from store.tables import Artifact, Job, JobInput

BOTH = ["cpu", "gpu"]


def make(database, team_id, dataset_id, rows=25, **options):
    with database.write() as session:
        spec = ScoreSpec(dataset=dataset_id, model="tiny", name="big")
        return sharding.create(session, team_id, spec, rows=rows, shard_rows=10, **options).id


def look(database, job_id):
    with database.read() as session:
        return session.get(Job, job_id)


def children(database, job_id):
    with database.read() as session:
        return pipelines.children_of(session, job_id)


def take(database):
    with database.write() as session:
        return claims.claim(session, "w", BOTH)


def finish(database, files, claim, summary=None):
    kind = "scoring" if claim.kind == "score_merge" else "part"
    sealed = files.seal(kind, files.stage(kind), summary or {})
    with database.write() as session:
        return claims.succeed(session, claim, sealed).id


def parts_left(database):
    with database.read() as session:
        return session.query(Artifact).where(Artifact.kind == "part").count()


@pytest.mark.parametrize(("rows", "shard_rows"), [(1, 1), (10, 3), (7, 7), (8, 7), (100, 1), (99_999, 32_768)])
def test_the_ranges_hold_every_row_once_and_none_is_too_large(rows, shard_rows):
    found = ranges(rows, shard_rows)
    assert [row for part in found for row in range(*part)] == list(range(rows))
    assert all(0 < part.stop - part.start <= shard_rows for part in found)
    assert len(found) == 1 or rows > shard_rows


def test_shards_of_whole_windows_begin_at_windows():
    found = ranges(10 * SCORING_WINDOW + 5, 4 * SCORING_WINDOW)
    assert {part.start % SCORING_WINDOW for part in found} == {0}
    assert max(part.stop - part.start for part in found) == 4 * SCORING_WINDOW


def test_a_small_scoring_is_one_job(database, team_id, model_id, dataset_id):
    job_id = make(database, team_id, dataset_id, rows=10)
    assert look(database, job_id).resource_class == "gpu"
    assert children(database, job_id) == []


def test_a_large_scoring_is_counted_once_scored_in_shards_and_merged_once(
    database, team_id, model_id, dataset_id, files
):
    job_id = make(database, team_id, dataset_id)
    made = children(database, job_id)
    assert [(job.name, job.kind, job.status, job.resource_class) for job in made] == [
        ("count", "score_count", "queued", "gpu"),
        ("shard:1", "score_shard", "waiting", "gpu"),
        ("shard:2", "score_shard", "waiting", "gpu"),
        ("shard:3", "score_shard", "waiting", "gpu"),
        ("merge", "score_merge", "waiting", "cpu"),
    ]
    assert [(job.spec["start"], job.spec["stop"]) for job in made[1:4]] == [(0, 8), (8, 16), (16, 25)]
    count = take(database)
    assert look(database, job_id).phase == "count"
    assert take(database) is None
    counted = finish(database, files, count)
    shards = [take(database) for _ in range(3)]
    assert take(database) is None
    assert {shard.inputs["counted"] for shard in shards} == {counted}
    assert (look(database, job_id).status, look(database, job_id).phase) == ("running", "score")
    made = {shard.job_id: finish(database, files, shard) for shard in reversed(shards)}
    merge = take(database)
    assert [merge.inputs[f"part.{index}"] for index in range(3)] == [
        made[job.id] for job in children(database, job_id)[1:4]
    ]
    assert parts_left(database) == 4

    scoring = finish(database, files, merge, {"rows_scored": 25})
    job = look(database, job_id)
    assert (job.status, job.artifact_id, job.summary) == ("succeeded", scoring, {"rows_scored": 25})
    with database.read() as session:
        artifact = session.get(Artifact, scoring)
        assert (artifact.job_id, artifact.name, artifact.kind) == (job_id, "big", "scoring")
        assert [each.artifact_id for each in session.query(JobInput).where(JobInput.name.like("part.%"))] == [None] * 3
        files.collect(session, merge.inputs.values())
    assert parts_left(database) == 0
    left = {path.name for path in files.folder(artifact).parent.iterdir()}
    assert left == {scoring, dataset_id}


def test_the_progress_is_that_of_all_shards_together(database, team_id, model_id, dataset_id, files):
    job_id = make(database, team_id, dataset_id)

    def told():
        with database.read() as session:
            return sharding.told_by(session.get(Job, job_id), pipelines.children_of(session, job_id))

    assert told()[:3] == (0, 25, "examples")
    finish(database, files, take(database))
    first, second = take(database), take(database)
    with database.write() as session:
        telling.report_progress(session, second, 3, 8, "examples")
    assert told()[:3] == (3, 25, "examples")
    finish(database, files, first)
    assert told()[:3] == (11, 25, "examples")
    assert told().since is not None


def test_a_scoring_in_a_pipeline_may_itself_be_in_shards(database, team_id, model_id, dataset_id, files):
    with database.write() as session:
        spec = ScoreSpec(dataset=dataset_id, model="tiny")
        parent = jobs.create(session, team_id, spec, is_parent=True)
        session.execute(Job.__table__.update().where(Job.id == parent.id).values(kind="pipeline"))
        pipeline_id = parent.id
        score = sharding.create(session, team_id, spec, rows=20, shard_rows=10, parent_id=pipeline_id, name="score").id
        select = jobs.create(session, team_id, SelectSpec(scoring=score), parent_id=pipeline_id).id
        rings = pipelines.to_ring(session, jobs.get(session, team_id, pipeline_id))
    assert [look(database, ring.job_id).name for ring in rings] == ["count"]
    assert look(database, select).status == "waiting"
    with database.write() as session:
        assert wishes.request_pause(session, team_id, pipeline_id).status == "paused"
    assert {job.status for job in [*children(database, score), *children(database, pipeline_id)]} == {"paused"}
    with database.write() as session:
        assert wishes.request_resume(session, team_id, pipeline_id).status == "queued"
    assert look(database, pipeline_id).pause_requested_at is None
    assert look(database, score).pause_requested_at is None
    finish(database, files, take(database))
    assert look(database, pipeline_id).status == look(database, score).status == "running"
    for _ in range(3):
        assert look(database, select).status == "waiting"
        finish(database, files, take(database))
    assert (look(database, score).status, look(database, select).status) == ("succeeded", "queued")
    assert look(database, pipeline_id).status == "running"


def test_cancelling_the_scoring_cancels_its_shards_and_forgets_their_parts(
    database, team_id, model_id, dataset_id, files
):
    job_id = make(database, team_id, dataset_id)
    finish(database, files, take(database))
    running = take(database)
    with database.write() as session:
        assert wishes.request_cancel(session, team_id, job_id).status == "running"
        assert claims.look(session, running).wish == "cancel"
    assert parts_left(database) == 1
    with database.write() as session:
        claims.settle_cancelled(session, running)
    assert look(database, job_id).status == "cancelled"
    assert [job.status for job in children(database, job_id)] == ["succeeded", *["cancelled"] * 4]
    assert parts_left(database) == 0


def test_a_lost_shard_stops_the_others_and_fails_the_scoring_with_its_reason(
    database, team_id, model_id, dataset_id, files
):
    job_id = make(database, team_id, dataset_id)
    finish(database, files, take(database))
    first, second = take(database), take(database)
    failure = {"category": "capacity", "code": "out_of_memory", "message": "m"}
    with database.write() as session:
        claims.fail(session, second, failure)
        assert claims.look(session, first).wish == "cancel"
    assert look(database, job_id).status == "running"
    with database.write() as session:
        claims.settle_cancelled(session, first)
    job = look(database, job_id)
    assert (job.status, job.failure["code"]) == ("failed", "out_of_memory")
    assert [job.status for job in children(database, job_id)][1:4] == ["cancelled", "failed", "cancelled"]
    assert parts_left(database) == 0


def test_a_count_that_asks_a_person_to_look_pauses_the_scoring(database, team_id, model_id, dataset_id):
    job_id = make(database, team_id, dataset_id)
    count = take(database)
    pause = {"code": "discrepancy", "message": "it may be noise", "findings": []}
    with database.write() as session:
        claims.pause_for_review(session, count, pause)
    job = look(database, job_id)
    assert (job.status, job.pause) == ("paused", pause)
    with database.write() as session:
        assert wishes.request_resume(session, team_id, job_id).status == "queued"
    assert take(database).accepted == ("discrepancy",)
