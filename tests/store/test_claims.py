import pytest

from deft.specs import ScoreSpec, SelectSpec
from store import claims, jobs
from store.artifacts import ArtifactFiles, SealedArtifact
from store.claims import Claim, LeaseLost
from store.database import Database
from store.tables import Job


def score(dataset_id: str) -> ScoreSpec:
    return ScoreSpec(dataset=dataset_id, model="tiny")


def sealed(files: ArtifactFiles, kind: str = "scoring") -> SealedArtifact:
    staged = files.stage(kind)
    (staged / "scoring.json").write_text("{}")
    return files.seal(kind, staged, {"rows": 4})


def claimed(database: Database, owner: str = "w1") -> Claim:
    with database.write() as session:
        claim = claims.claim(session, owner, ["cpu", "gpu"])
    assert claim is not None
    return claim


@pytest.fixture
def job_id(database: Database, team_id: str, model_id: str, dataset_id: str) -> str:
    with database.write() as session:
        return jobs.create(session, team_id, score(dataset_id)).id


def test_a_claim_carries_what_the_worker_needs(
    database: Database, team_id: str, job_id: str, dataset_id: str, model_id: str
) -> None:
    claim = claimed(database)
    assert (claim.job_id, claim.kind, claim.attempt, claim.fence) == (job_id, "score", 1, 1)
    assert claim.inputs == {"dataset": dataset_id}
    assert claim.model_id == model_id
    assert claim.spec["dataset"] == dataset_id
    with database.write() as session:
        assert claims.claim(session, "w2", ["cpu", "gpu"]) is None


def test_a_selection_waits_for_its_scoring_and_is_released_in_the_transaction_that_succeeds(
    database: Database, team_id: str, job_id: str, files: ArtifactFiles
) -> None:
    with database.write() as session:
        waiting = jobs.create(session, team_id, SelectSpec(scoring=job_id))
    assert waiting.status == "waiting"
    assert job_id in waiting.waiting_reason
    claim = claimed(database)
    assert claim.job_id == job_id
    with database.write() as session:
        scoring = claims.succeed(session, claim, sealed(files))
        assert session.get(Job, waiting.id).status == "queued"
    with database.write() as session:
        follower = claims.claim(session, "w1", "cpu")
    assert follower.job_id == waiting.id
    assert follower.inputs == {"scoring": scoring.id}


def test_every_effect_of_a_ghost_is_refused_and_changes_nothing(
    database: Database, team_id: str, job_id: str, files: ArtifactFiles
) -> None:
    ghost = claimed(database)
    with database.write() as session:
        claims.release(session, ghost, "drain", counts_as_attempt=False)
    owner = claimed(database, "w2")
    assert owner.fence == ghost.fence + 1
    artifact = sealed(files)
    effects = [
        lambda s: claims.report_phase(s, ghost, "x"),
        lambda s: claims.report_progress(s, ghost, 1, 2, "rows"),
        lambda s: claims.report_metrics(s, ghost, 1, {"loss": 1.0}),
        lambda s: claims.report_note(s, ghost, "x"),
        lambda s: claims.report_log(s, ghost, "x"),
        lambda s: claims.report_checkpoint(s, ghost, 1, artifact.folder),
        lambda s: claims.succeed(s, ghost, artifact),
        lambda s: claims.fail(s, ghost, {"code": "x"}),
        lambda s: claims.release(s, ghost, "x", counts_as_attempt=True),
        lambda s: claims.settle_cancelled(s, ghost),
    ]
    with database.read() as session:
        before = jobs.get(session, team_id, job_id)
        facts = {c: getattr(before, c) for c in Job.__table__.columns.keys()}
    for effect in effects:
        with pytest.raises(LeaseLost), database.write() as session:
            effect(session)
    with database.write() as session:
        assert not claims.renew(session, ghost).is_ours
        assert claims.renew(session, owner).is_ours
    with database.read() as session:
        after = jobs.get(session, team_id, job_id)
        assert {c: getattr(after, c) for c in facts if c != "lease_expires_at"} == {
            c: value for c, value in facts.items() if c != "lease_expires_at"
        }
        assert jobs.metrics(session, team_id, job_id) == []
