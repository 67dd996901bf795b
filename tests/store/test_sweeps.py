import itertools
import threading
import time

import pytest
from sqlalchemy import select, update

from deft.errors import Conflict
from deft.specs import EvaluateSpec, PipelineSpec, ScoreSpec, SelectSpec
from store import claims, jobs, sweeps, telling, wishes
from store.claims import LeaseLost
from store.states import FINISHED
from store.tables import Event, Job
from store.types import database_now

BOTH = ["cpu", "gpu"]


def make(database, team_id, dataset_id, number):
    with database.write() as session:
        spec = ScoreSpec(dataset=dataset_id, model="tiny")
        return [jobs.create(session, team_id, spec).id for _ in range(number)]


def sweep(database, slots):
    with database.write() as session:
        return [ring.job_id for ring in sweeps.sweep(session, slots)]


@pytest.mark.parametrize(("slots", "rung"), [(0, 1), (1, 2), (3, 5)])
def test_it_rings_for_the_oldest_within_twice_the_free_slots(database, team_id, model_id, dataset_id, slots, rung):
    made = make(database, team_id, dataset_id, 5)
    assert sweep(database, slots) == made[:rung]


def test_it_does_not_ring_again_at_once_but_later(database, team_id, model_id, dataset_id):
    made = make(database, team_id, dataset_id, 3)
    assert sweep(database, 1) == made[:2]
    assert sweep(database, 1) == made[2:]
    assert sweep(database, 1) == []
    with database.write() as session:
        aged = database_now(-sweeps.RING_AGAIN_SECONDS - 1)
        session.execute(update(Job).where(Job.id == made[1]).values(rung_at=aged))
    assert sweep(database, 1) == [made[1]]


def test_a_long_line_of_one_class_keeps_no_bell_from_the_other(database, team_id, model_id, dataset_id, files):
    before = make(database, team_id, dataset_id, 5)
    with database.write() as session:
        scoring_id = files.publish(session, team_id, "scoring", files.stage("scoring"), {}).id
        select_id = jobs.create(session, team_id, SelectSpec(scoring=scoring_id)).id
        rings = sweeps.pick_to_ring(session, 1)
    assert sorted(rings) == sorted([*((job_id, "gpu") for job_id in before[:2]), (select_id, "cpu")])


def test_it_rings_for_nothing_that_is_not_queued(database, team_id, model_id, dataset_id):
    with database.write() as session:
        jobs.create(session, team_id, PipelineSpec(dataset=dataset_id, model="tiny"))
    (running,) = make(database, team_id, dataset_id, 1)
    with database.write() as session:
        claims.claim(session, "w", BOTH)
        jobs.create(session, team_id, SelectSpec(scoring=running))
    assert sweep(database, 5) == []


def test_it_leaves_a_lease_that_runs_and_takes_one_that_ran_out(database, team_id, model_id, dataset_id):
    (job_id,) = make(database, team_id, dataset_id, 1)
    with database.write() as session:
        claim = claims.claim(session, "w", BOTH, lease_seconds=0.5)
    assert sweep(database, 1) == []
    time.sleep(0.3)
    with database.write() as session:
        assert claims.renew(session, claim).is_ours
    time.sleep(0.3)
    assert sweep(database, 1) == []
    time.sleep(0.4)
    assert sweep(database, 1) == [job_id]
    with database.write() as session:
        assert not claims.renew(session, claim).is_ours
        job = jobs.get(session, team_id, job_id)
        assert (job.status, job.owner, job.lease_expires_at) == ("queued", None, None)


def test_workers_sweepers_and_owners_at_once_lose_nothing_and_never_lock_each_other(
    database, team_id, model_id, dataset_id, files
):
    with database.write() as session:
        for _ in range(6):
            parent = jobs.create(session, team_id, PipelineSpec(dataset=dataset_id, model="tiny")).id
            score = jobs.create(session, team_id, ScoreSpec(dataset=dataset_id, model="tiny"), parent_id=parent).id
            for _ in range(2):
                jobs.create(session, team_id, SelectSpec(scoring=score), parent_id=parent)
            jobs.create(session, team_id, EvaluateSpec(model="tiny", dataset=dataset_id), parent_id=parent)
            jobs.create(session, team_id, SelectSpec(scoring=score))
        every = list(session.scalars(select(Job.id)))
    number, broken, is_over = itertools.count(), [], threading.Event()
    kinds = {"score": "scoring", "select": "subset", "evaluate": "evaluation"}

    def work():
        while not is_over.is_set():
            with database.write() as session:
                claim = claims.claim(session, "w", BOTH, lease_seconds=0.02 if next(number) % 3 == 0 else 30)
            if claim is None:
                time.sleep(0.02)
                continue
            sealed = files.seal(kinds[claim.kind], files.stage("x"), {})
            try:
                with database.write() as session:
                    telling.report_progress(session, claim, 1, 2, "rows")
                    lease = claims.renew(session, claim)
                with database.write() as session:
                    if lease.wish == "cancel":
                        claims.settle_cancelled(session, claim)
                    else:
                        claims.succeed(session, claim, sealed)
            except LeaseLost:
                pass

    def watch():
        while not is_over.is_set():
            sweep(database, 2)
            time.sleep(0.01)

    def cancel():
        for job_id in every[::7]:
            try:
                with database.write() as session:
                    wishes.request_cancel(session, team_id, job_id)
            except Conflict:
                pass
            time.sleep(0.05)

    def guarded(body):
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - shown below
            broken.append(error)
            is_over.set()

    threads = [threading.Thread(target=guarded, args=(body,)) for body in [work, work, work, watch, watch, cancel]]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not is_over.is_set():
        with database.read() as session:
            if set(session.scalars(select(Job.status))) <= FINISHED:
                break
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()
    assert broken == []
    with database.read() as session:
        found = {job.id: job for job in session.scalars(select(Job))}
        seqs = {}
        for event in session.scalars(select(Event).order_by(Event.job_id, Event.seq)):
            seqs.setdefault(event.job_id, []).append(event.seq)
    assert {job.status for job in found.values()} <= FINISHED
    for job in found.values():
        assert seqs[job.id] == list(range(1, job.event_seq + 1))
        if job.status == "succeeded" and job.parent_id:
            assert job.artifact_id is not None
    for job in found.values():
        if job.kind == "pipeline":
            statuses = {child.status for child in found.values() if child.parent_id == job.id}
            assert (job.status == "succeeded") == (statuses == {"succeeded"})
