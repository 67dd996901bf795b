import pytest

from deft.specs import EvaluateSpec, PipelineSpec, ScoreSpec, SelectSpec
from store import claims, jobs, wishes
from store.pipelines import derived_status

BOTH = ["cpu", "gpu"]


@pytest.fixture
def family(database, team_id, model_id, dataset_id):
    """A pipeline of three: score, then select on it, then (in fact independent) evaluate."""
    with database.write() as session:
        parent = jobs.create(session, team_id, PipelineSpec(dataset=dataset_id, model="tiny")).id
        score = jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny"), parent_id=parent).id
        select = jobs.create(session, team_id, SelectSpec(scoring=score), parent_id=parent).id
        evaluate = jobs.create(session, team_id, EvaluateSpec(dataset=dataset_id, model="tiny"), parent_id=parent).id
    return parent, score, select, evaluate


def take(database):
    with database.write() as session:
        return claims.claim(session, "w", BOTH)


def finish(database, files, claim):
    kind = {"score": "scoring", "select": "subset", "evaluate": "evaluation"}[claim.kind]
    sealed = files.seal(kind, files.stage("x"), {})
    with database.write() as session:
        return claims.succeed(session, claim, sealed).id


def look(database, team_id, job_id):
    with database.read() as session:
        return jobs.get(session, team_id, job_id)


def test_a_pipeline_is_never_claimed(database, team_id, model_id, dataset_id):
    with database.write() as session:
        jobs.create(session, team_id, PipelineSpec(dataset=dataset_id, model="tiny"))
        assert claims.claim(session, "w", BOTH) is None


def test_the_parent_follows_its_children_to_success(database, team_id, files, family):
    parent, *_children = family
    assert look(database, team_id, parent).status == "queued"
    first = take(database)
    job = look(database, team_id, parent)
    assert (job.status, job.started_at is not None) == ("running", True)
    finish(database, files, first)
    job = look(database, team_id, parent)
    assert (job.status, job.progress_done, job.progress_total) == ("running", 1, 3)
    ends = [finish(database, files, take(database)) for _ in range(2)]
    job = look(database, team_id, parent)
    assert (job.status, job.progress_done, job.finished_at is not None) == ("succeeded", 3, True)
    assert job.artifact_id in ends
    assert job.artifact_id.startswith("ev_")


def test_the_parent_fails_when_the_last_sibling_of_a_failed_child_has_finished(database, team_id, files, family):
    parent, score, select, _evaluate = family
    failing = take(database)
    assert failing.job_id == score
    with database.write() as session:
        claims.fail(session, failing, {"category": "user", "code": "model_not_usable", "message": "m"})
    assert look(database, team_id, select).failure["code"] == "input_failed"
    assert look(database, team_id, parent).status == "running"
    finish(database, files, take(database))
    job = look(database, team_id, parent)
    assert (job.status, job.failure["code"]) == ("failed", "model_not_usable")


def test_cancel_goes_to_all_children(database, team_id, family):
    parent, score, select, evaluate = family
    running = take(database)
    with database.write() as session:
        wishes.request_cancel(session, team_id, parent)
    assert [look(database, team_id, i).status for i in (parent, score, select, evaluate)] == [
        "running",
        "running",
        "cancelled",
        "cancelled",
    ]
    with database.write() as session:
        assert claims.renew(session, running).wish == "cancel"
    with database.write() as session:
        claims.settle_cancelled(session, running)
    assert look(database, team_id, parent).status == "cancelled"


def test_pause_goes_to_all_children_and_resume_lets_them_go_on(database, team_id, files, family):
    parent, score, select, evaluate = family
    running = take(database)
    with database.write() as session:
        assert wishes.request_pause(session, team_id, parent).status == "running"
    assert [look(database, team_id, i).status for i in (score, select, evaluate)] == ["running", "paused", "paused"]
    with database.write() as session:
        assert claims.renew(session, running).wish == "pause"
    with database.write() as session:
        assert claims.release(session, running, "pause", counts_as_attempt=False) == "paused"
    assert look(database, team_id, parent).status == "paused"
    assert take(database) is None
    with database.write() as session:
        resumed = wishes.request_resume(session, team_id, parent)
        assert (resumed.status, resumed.pause_requested_at) == ("queued", None)
    assert [look(database, team_id, i).status for i in (score, select, evaluate)] == ["queued", "waiting", "queued"]
    for _ in range(3):
        finish(database, files, take(database))
    assert look(database, team_id, parent).status == "succeeded"


def test_a_child_that_asks_for_review_pauses_the_pipeline_once_nothing_else_can_run(database, team_id, files, family):
    parent, score, select, _evaluate = family
    with database.write() as session:
        claims.pause_for_review(session, claims.claim(session, "w", BOTH), {"code": "noisy", "message": "look"})
    assert look(database, team_id, parent).status == "queued", "a sibling can still run"
    finish(database, files, take(database))
    job = look(database, team_id, parent)
    assert (job.status, job.pause["code"]) == ("paused", "noisy")
    with database.write() as session:
        assert wishes.request_resume(session, team_id, parent).status == "running"
    assert look(database, team_id, score).accepted == ["noisy"]
    assert look(database, team_id, parent).pause is None
    assert look(database, team_id, select).accepted == []


def test_cancel_before_the_start_is_at_once(database, team_id, family):
    with database.write() as session:
        assert wishes.request_cancel(session, team_id, family[0]).status == "cancelled"
    assert {look(database, team_id, i).status for i in family} == {"cancelled"}


def test_a_pipeline_without_children_can_be_cancelled(database, team_id, model_id, dataset_id):
    with database.write() as session:
        parent = jobs.create(session, team_id, PipelineSpec(dataset=dataset_id, model="tiny")).id
        assert wishes.request_cancel(session, team_id, parent).status == "cancelled"


def test_a_child_cancelled_by_itself_fails_the_pipeline(database, team_id, files, family):
    parent, score, select, _evaluate = family
    with database.write() as session:
        wishes.request_cancel(session, team_id, score)
    assert look(database, team_id, select).failure["code"] == "input_failed"
    finish(database, files, take(database))
    assert look(database, team_id, parent).status == "failed"


@pytest.mark.parametrize(
    ("children", "is_cancelling", "expected"),
    [
        (["queued", "waiting"], False, "queued"),
        (["running", "waiting"], False, "running"),
        (["succeeded", "queued"], False, "running"),
        (["failed", "running"], False, "running"),
        (["paused", "waiting"], False, "paused"),
        (["paused", "succeeded"], False, "paused"),
        (["paused", "running"], False, "running"),
        (["paused", "queued", "succeeded"], False, "running"),
        (["failed", "succeeded"], False, "failed"),
        (["cancelled", "succeeded"], False, "failed"),
        (["cancelled", "succeeded"], True, "cancelled"),
        (["succeeded", "succeeded"], True, "succeeded"),
        (["succeeded", "succeeded"], False, "succeeded"),
    ],
)
def test_the_derived_status(children, is_cancelling, expected):
    assert derived_status(children, is_cancelling) == expected
