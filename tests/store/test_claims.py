import json
import secrets
import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from deft.errors import ArtifactCorrupt
from deft.folders import seal
from deft.specs import ScoreSpec, SelectSpec
from store import attempts, claims, jobs, scores, sweeps, telling, wishes
from store.artifacts import ArtifactFiles, SealedArtifact
from store.claims import Claim, LeaseLost
from store.database import Database
from store.tables import Artifact, Event, Job, JobInput
from store.types import database_now

BOTH = ["cpu", "gpu"]


def new_job(database: Database, team_id: str, dataset_id: str, **options) -> str:
    with database.write() as session:
        return jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny"), **options).id


def sealed(files: ArtifactFiles, kind="scoring", **contents: str) -> SealedArtifact:
    staged = files.stage(kind)
    for name, text in {"scoring.json": "{}", **contents}.items():
        (staged / name.replace("_json", ".json")).write_text(text)
    return files.seal(kind, staged, {"rows": 4})


def claimed(database: Database, owner: str = "w1") -> Claim:
    with database.write() as session:
        claim = claims.claim(session, owner, BOTH)
    assert claim is not None
    return claim


def job_row(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def expire(database: Database, job_id: str) -> None:
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=database_now(-1)))


@pytest.fixture
def job_id(database: Database, team_id: str, model_id: str, dataset_id: str) -> str:
    return new_job(database, team_id, dataset_id)


def test_a_claim_carries_what_the_worker_needs(database, job_id, dataset_id, model_id):
    claim = claimed(database)
    assert (claim.job_id, claim.kind, claim.attempt, claim.fence) == (job_id, "score", 1, 1)
    assert claim.inputs == {"dataset": dataset_id}
    assert claim.model_id == model_id
    assert claim.spec["dataset"] == dataset_id
    with database.write() as session:
        assert claims.claim(session, "w2", BOTH) is None


def test_a_worker_takes_only_the_classes_that_it_serves(database, job_id):
    with database.write() as session:
        assert claims.claim(session, "w1", "cpu") is None
        assert claims.claim(session, "w1", "gpu").job_id == job_id


def test_the_lease_ends_by_the_databases_clock(database, job_id):
    with database.write() as session:
        before = database.now(session)
        claims.claim(session, "w1", BOTH, lease_seconds=30)
        after = database.now(session)
    lease = job_row(database, job_id).lease_expires_at
    resolution = timedelta(milliseconds=1)
    assert before - resolution <= lease - timedelta(seconds=30) <= after + resolution


def test_priority_goes_before_age(database, team_id, job_id, dataset_id):
    urgent = new_job(database, team_id, dataset_id, priority=5)
    assert [claimed(database).job_id, claimed(database).job_id] == [urgent, job_id]


def test_a_team_that_runs_less_goes_before_age(database, team_id, other_team_id, model_id, dataset_id, files):
    mine = [new_job(database, team_id, dataset_id) for _ in range(3)]
    staged = files.stage("dataset")
    with database.write() as session:
        theirs_data = files.publish(session, other_team_id, "dataset", staged, {}).id
    theirs = new_job(database, other_team_id, theirs_data)
    assert [claimed(database).job_id for _ in range(4)] == [mine[0], theirs, mine[1], mine[2]]


@pytest.mark.parametrize("workers", [8])
def test_jobs_claimed_by_many_workers_at_once_run_once_each(database, team_id, model_id, dataset_id, workers):
    with database.write() as session:
        made = {jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny")).id for _ in range(200)}
    taken: list[str] = []
    broken: list[BaseException] = []

    def work(owner: str) -> None:
        try:
            while True:
                with database.write() as session:
                    claim = claims.claim(session, owner, BOTH)
                if claim is None:
                    return
                taken.append(claim.job_id)
                with database.write() as session:
                    claims.fail(session, claim, {"code": "x"})
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            broken.append(error)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert len(taken) == 200
    assert set(taken) == made
    with database.read() as session:
        assert set(session.execute(select(Job.status, Job.attempt, Job.fence))) == {("failed", 1, 1)}
        assert set(session.execute(select(Event.seq))) == {(1,), (2,), (3,)}


def test_a_selection_is_released_in_the_transaction_in_which_its_scoring_succeeds(database, team_id, job_id, files):
    with database.write() as session:
        waiting = jobs.create(session, team_id, SelectSpec(scoring=job_id))
    assert waiting.status == "waiting"
    assert job_id in waiting.waiting_reason
    claim = claimed(database)
    artifact = sealed(files)
    with suppress(KeyError), database.write() as session:
        claims.succeed(session, claim, artifact)
        assert jobs.get(session, team_id, waiting.id).status == "queued"
        raise KeyError  # nothing of it may stay
    assert job_row(database, waiting.id).status == "waiting"
    assert job_row(database, job_id).status == "running"
    with database.write() as session:
        scoring = claims.succeed(session, claim, artifact)
    with database.write() as session:
        follower = claims.claim(session, "w1", "cpu")
    assert follower.job_id == waiting.id
    assert follower.inputs == {"scoring": scoring.id}
    assert job_row(database, waiting.id).waiting_reason is None


def test_every_effect_of_a_ghost_is_refused_and_changes_nothing(database, team_id, job_id, files):
    ghost = claimed(database)
    with database.write() as session:
        claims.release(session, ghost, "drain", counts_as_attempt=False)
    owner = claimed(database, "w2")
    assert owner.fence == ghost.fence + 1
    artifact = sealed(files)
    effects = [
        lambda s: telling.report_phase(s, ghost, "x"),
        lambda s: telling.report_progress(s, ghost, 1, 2, "rows"),
        lambda s: telling.report_metrics(s, ghost, 1, {"loss": 1.0}),
        lambda s: telling.report_note(s, ghost, "x"),
        lambda s: telling.report_log(s, ghost, "x"),
        lambda s: telling.report_checkpoint(s, ghost, 1, artifact.folder),
        lambda s: claims.succeed(s, ghost, artifact),
        lambda s: claims.fail(s, ghost, {"code": "x"}),
        lambda s: claims.release(s, ghost, "x", counts_as_attempt=True),
        lambda s: claims.settle_cancelled(s, ghost),
    ]
    columns = [column for column in Job.__table__.columns.keys() if column != "lease_expires_at"]  # noqa: SIM118
    before = job_row(database, job_id)
    for effect in effects:
        with pytest.raises(LeaseLost), database.write() as session:
            effect(session)
    with database.write() as session:
        assert not claims.renew(session, ghost).is_ours
        assert claims.renew(session, owner).is_ours
    after = job_row(database, job_id)
    assert [getattr(after, column) for column in columns] == [getattr(before, column) for column in columns]
    with database.read() as session:
        assert jobs.metrics(session, team_id, job_id) == []
        assert session.get(Artifact, artifact.id) is None
        assert claims.checkpoints(session, owner) == []


def test_a_finished_job_takes_no_more_effects_from_its_own_claim(database, job_id, files):
    claim = claimed(database)
    with database.write() as session:
        claims.succeed(session, claim, sealed(files))
    with pytest.raises(LeaseLost), database.write() as session:
        claims.fail(session, claim, {"code": "late"})
    with pytest.raises(LeaseLost), database.write() as session:
        claims.succeed(session, claim, sealed(files))
    before = job_row(database, job_id)
    for tell in (telling.report_note, telling.report_phase, telling.report_log):
        with pytest.raises(LeaseLost), database.write() as session:
            tell(session, claim, "late")
    with database.write() as session:
        assert not claims.renew(session, claim).is_ours
    after = job_row(database, job_id)
    assert (after.status, after.version, after.phase, after.log_tail) == ("succeeded", before.version, None, "")


def test_what_a_worker_tells_is_on_the_row_and_counts_versions(database, team_id, job_id, tmp_path):
    claim = claimed(database)
    version = job_row(database, job_id).version
    with database.write() as session:
        telling.report_phase(session, claim, "train")
        telling.report_progress(session, claim, 3, 10, "steps")
        telling.report_metrics(session, claim, 3, {"loss": 0.5, "accuracy": float("nan")})
        telling.report_log(session, claim, "x" * 100_000 + "end\0\ud800")
    job = job_row(database, job_id)
    assert job.version == version + 4
    assert (job.phase, job.progress_done, job.progress_total, job.progress_unit) == ("train", 3, 10, "steps")
    assert abs(job.progress_at - job.progress_since) < timedelta(seconds=1)
    assert len(job.log_tail) == claims.LOG_TAIL_CHARACTERS
    assert job.log_tail.endswith("end\ufffd\ufffd")
    with database.write() as session:
        telling.report_metrics(session, claim, 3, {"loss": 0.25})
    with database.read() as session:
        points = jobs.metrics(session, team_id, job_id)
    assert [(point.step, point.values) for point in points] == [(3, {"accuracy": None, "loss": 0.25})]


def test_a_renewal_tells_of_a_cancel_and_leaves_the_version(database, team_id, job_id):
    claim = claimed(database)
    with database.write() as session:
        assert claims.renew(session, claim) == claims.Lease(True)
    with database.write() as session:
        wishes.request_cancel(session, team_id, job_id)
    version = job_row(database, job_id).version
    with database.write() as session:
        assert claims.renew(session, claim) == claims.Lease(True, "cancel")
    assert job_row(database, job_id).version == version
    with database.write() as session:
        claims.settle_cancelled(session, claim)
    assert job_row(database, job_id).status == "cancelled"


def die(database: Database, job_id: str) -> str:
    """The next attempt begins and its lease runs out."""
    claimed(database)
    expire(database, job_id)
    with database.write() as session:
        sweeps.sweep(session, 1)
    return job_row(database, job_id).status


def test_the_third_silent_death_without_a_checkpoint_is_poison(database, job_id):
    assert [die(database, job_id) for _ in range(3)] == ["queued", "queued", "failed"]
    job = job_row(database, job_id)
    assert (job.failure["category"], job.failure["code"]) == ("system", "poison")
    assert job.failure["reference"] == f"{job_id}/3"


def test_a_new_checkpoint_ends_the_row_of_deaths_and_a_repeated_one_does_not(database, job_id, tmp_path):
    seal(tmp_path, {"step": 20})

    def checkpoint(step: int) -> str:
        claim = claimed(database)
        with database.write() as session:
            telling.report_checkpoint(session, claim, step, tmp_path)
        with database.write() as session:
            return claims.release(session, claim, "died", counts_as_attempt=True)

    assert [die(database, job_id), die(database, job_id), checkpoint(20)] == ["queued"] * 3
    assert [checkpoint(20), checkpoint(20), checkpoint(20)] == ["queued", "queued", "failed"]


def test_a_drain_does_not_count(database, job_id):
    for _ in range(6):
        claim = claimed(database)
        with database.write() as session:
            assert claims.release(session, claim, "SIGTERM", counts_as_attempt=False) == "queued"
    job = job_row(database, job_id)
    assert (job.attempt, job.stuck_attempts) == (6, 0)
    assert [die(database, job_id) for _ in range(3)] == ["queued", "queued", "failed"]


def test_a_death_after_a_cancel_request_is_cancelled(database, team_id, job_id):
    claimed(database)
    with database.write() as session:
        wishes.request_cancel(session, team_id, job_id)
    expire(database, job_id)
    with database.write() as session:
        assert sweeps.expire_leases(session) == [job_id]
    assert job_row(database, job_id).status == "cancelled"


def test_a_pause_is_settled_by_the_worker_or_by_the_end_of_its_lease(database, team_id, job_id):
    for end in ("release", "expire"):
        claim = claimed(database)
        with database.write() as session:
            assert wishes.request_pause(session, team_id, job_id).status == "running"
        with database.write() as session:
            version = wishes.request_pause(session, team_id, job_id).version
        assert job_row(database, job_id).version == version, "asking twice changed the row"
        if end == "release":
            with database.write() as session:
                assert claims.release(session, claim, "pause", counts_as_attempt=False) == "paused"
        else:
            expire(database, job_id)
            with database.write() as session:
                assert sweeps.expire_leases(session) == [job_id]
        job = job_row(database, job_id)
        assert (job.status, job.owner, job.stuck_attempts) == ("paused", None, 0)
        with database.write() as session:
            assert claims.claim(session, "w", ["cpu", "gpu"]) is None
        with database.write() as session:
            assert wishes.request_resume(session, team_id, job_id).status == "queued"
        with database.write() as session:
            assert wishes.request_resume(session, team_id, job_id).status == "queued"
        assert job_row(database, job_id).pause_requested_at is None


def test_a_pause_that_is_taken_back_before_the_worker_stopped_only_queues_the_job(database, team_id, job_id):
    claim = claimed(database)
    with database.write() as session:
        wishes.request_pause(session, team_id, job_id)
    with database.write() as session:
        assert wishes.request_resume(session, team_id, job_id).pause_requested_at is None
    with database.write() as session:
        assert claims.release(session, claim, "pause", counts_as_attempt=False) == "queued"


def test_what_a_person_has_accepted_is_handed_to_the_next_attempt(database, team_id, job_id):
    for expected, code in (((), "drift"), (("drift",), "noise"), (("drift", "noise"), "noise")):
        claim = claimed(database)
        assert claim.accepted == expected
        with database.write() as session:
            status = claims.pause_for_review(session, claim, {"code": code, "message": "look", "findings": []})
        job = job_row(database, job_id)
        assert (status, job.status, job.pause["code"], job.stuck_attempts) == ("paused", "paused", code, 0)
        with database.write() as session:
            wishes.request_resume(session, team_id, job_id)
        assert job_row(database, job_id).pause is None


def test_a_job_that_asks_for_review_when_it_should_stop_is_cancelled(database, team_id, job_id):
    claim = claimed(database)
    with database.write() as session:
        wishes.request_cancel(session, team_id, job_id)
    with database.write() as session:
        assert claims.pause_for_review(session, claim, {"code": "c", "message": "m"}) == "cancelled"
    assert job_row(database, job_id).status == "cancelled"


def test_a_checkpoint_without_a_manifest_is_not_recorded(database, job_id, tmp_path):
    claim = claimed(database)
    with pytest.raises(ArtifactCorrupt), database.write() as session:
        telling.report_checkpoint(session, claim, 1, tmp_path)
    with database.read() as session:
        assert claims.checkpoints(session, claim) == []


def test_an_evaluations_numbers_become_rows(database, team_id, job_id, files):
    claim = claimed(database)
    numbers = (
        '[{"system":"base","arm":"base","metric":"kl","slice":"all","value":0.5,"n":48,"low":NaN,"high":0.9,'
        '"is_trained_on":true,"settings_hash":"ab"}]'
    )
    with database.write() as session:
        artifact = claims.succeed(session, claim, sealed(files, "evaluation", metrics_json=numbers))
    with database.read() as session:
        (row,) = scores.of(session, team_id, artifact.id)
        assert scores.of(session, "team_other", artifact.id) == []
    assert (row.value, row.n, row.low, row.high, row.is_trained_on) == (0.5, 48, None, 0.9, True)


def test_a_slice_of_any_length_is_a_row_of_its_own(database, team_id, job_id, files):
    claim = claimed(database)
    long = "source:" + secrets.token_hex(4000)  # an index of Postgres holds 2,704 bytes
    names = [long + "a", long + "b", "category:" + "c" * 200]
    rows = [{"system": "base", "metric": "kl", "slice": name, "value": place} for place, name in enumerate(names)]
    with database.write() as session:
        artifact = claims.succeed(session, claim, sealed(files, "evaluation", metrics_json=json.dumps(rows)))
    with database.read() as session:
        found = {row.value: row.slice for row in scores.of(session, team_id, artifact.id)}
    assert len(set(found.values())) == 3
    assert found[2] == names[2]
    assert found[0].startswith(long[:150])
    assert max(map(len, found.values())) <= 210


def test_the_failed_input_fails_the_chain_of_jobs_behind_it(database, team_id, job_id):
    with database.write() as session:
        waiting = jobs.create(session, team_id, SelectSpec(scoring=job_id)).id
    claim = claimed(database)
    with database.write() as session:
        claims.fail(session, claim, {"category": "user", "code": "x", "message": "m"})
    job = job_row(database, waiting)
    assert (job.status, job.failure["code"], job.failure["findings"][0]["pointer"]) == (
        "failed",
        "input_failed",
        "/scoring",
    )


def test_poison_needs_the_count_to_stand_when_it_is_written(database, job_id, monkeypatch):
    for _ in range(2):
        die(database, job_id)
    claimed(database)
    with database.write() as session:
        stale = session.get(Job, job_id)
        reset = update(Job).where(Job.id == job_id).values(stuck_attempts=0)
        session.execute(reset, execution_options={"synchronize_session": False})
        monkeypatch.setattr(session, "get", lambda *_, **__: stale)  # read before a checkpoint came in between
        assert attempts.give_back(session, job_id, [Job.status == "running"], "died", True, {}) is None
    assert job_row(database, job_id).status == "running"


def test_the_net_releases_what_nobody_told(database, team_id, job_id, files):
    with database.write() as session:
        waiting = jobs.create(session, team_id, SelectSpec(scoring=job_id)).id
    claim = claimed(database)
    with database.write() as session:
        claims.succeed(session, claim, sealed(files))
        session.execute(update(Job).where(Job.id == waiting).values(status="waiting"))
        session.execute(update(JobInput).where(JobInput.job_id == waiting).values(artifact_id=None))
    with database.write() as session:
        assert [ring.job_id for ring in sweeps.sweep(session, 1)] == [waiting]
    assert job_row(database, waiting).status == "queued"


def test_telling_and_ending_in_one_transaction_is_refused_everywhere(database, job_id):
    claim = claimed(database)
    with pytest.raises(RuntimeError, match="of its own"), database.write() as session:
        claims.renew(session, claim)
        claims.fail(session, claim, {"code": "x"})
    assert job_row(database, job_id).status == "running"
