import threading

import pytest
from sqlalchemy import func, select, update

from deft.errors import Conflict, InvalidInput
from deft.specs import ScoreSpec
from store import idempotency, jobs, sweeps
from store.tables import IdempotencyKey, Job
from store.types import database_now

ROUTE = "POST /v1/jobs"


def post(database, team_id, dataset_id, key="k1", body_hash="h1", route=ROUTE):
    with database.write() as session:
        stored = idempotency.begin(session, team_id, route, key, body_hash)
        if stored is not None:
            return stored.body["id"]
        job = jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny"))
        idempotency.finish(session, team_id, route, key, 202, {"id": job.id}, {"Location": f"/v1/jobs/{job.id}"})
        return job.id


def number_of_jobs(database):
    with database.read() as session:
        return session.execute(select(func.count()).select_from(Job)).scalar_one()


def test_fifty_parallel_requests_with_one_key_make_one_job(database, team_id, model_id, dataset_id):
    replies, broken = [], []
    start = threading.Barrier(50)

    def run():
        start.wait()
        try:
            replies.append(post(database, team_id, dataset_id))
        except BaseException as error:  # noqa: BLE001 - shown below
            broken.append(error)

    threads = [threading.Thread(target=run) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert len(replies) == 50
    assert len(set(replies)) == 1
    assert number_of_jobs(database) == 1


def test_the_stored_reply_comes_back_whole(database, team_id, model_id, dataset_id):
    job_id = post(database, team_id, dataset_id)
    with database.write() as session:
        reply = idempotency.begin(session, team_id, ROUTE, "k1", "h1")
    assert reply == idempotency.StoredReply(202, {"id": job_id}, {"Location": f"/v1/jobs/{job_id}"})


def test_another_body_under_the_same_key_is_a_conflict(database, team_id, model_id, dataset_id):
    post(database, team_id, dataset_id)
    with pytest.raises(Conflict) as caught:
        post(database, team_id, dataset_id, body_hash="h2")
    assert caught.value.error_code == "idempotency_key_reused"
    assert number_of_jobs(database) == 1


def test_a_request_that_failed_leaves_the_key_free(database, team_id, model_id, dataset_id):
    with pytest.raises(KeyError), database.write() as session:
        assert idempotency.begin(session, team_id, ROUTE, "k1", "h1") is None
        raise KeyError
    post(database, team_id, dataset_id, body_hash="h2")
    assert number_of_jobs(database) == 1


def test_keys_of_another_team_or_route_are_others(database, team_id, other_team_id, model_id, dataset_id):
    post(database, team_id, dataset_id)
    with database.write() as session:
        assert idempotency.begin(session, other_team_id, ROUTE, "k1", "h2") is None
        assert idempotency.begin(session, team_id, "POST /v1/models", "k1", "h2") is None


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_1_to_255_characters(database, team_id, key):
    with pytest.raises(InvalidInput), database.write() as session:
        idempotency.begin(session, team_id, ROUTE, key, "h1")


def test_replies_are_forgotten_after_a_week(database, team_id, model_id, dataset_id):
    post(database, team_id, dataset_id, key="old")
    post(database, team_id, dataset_id, key="young")
    with database.write() as session:
        aged = database_now(-8 * 24 * 3600)
        session.execute(update(IdempotencyKey).where(IdempotencyKey.key == "old").values(created_at=aged))
        sweeps.forget_replies(session)
    with database.read() as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["young"]
