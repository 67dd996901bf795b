import pytest
from sqlalchemy import select

from deft.errors import Conflict, InvalidInput, NotFound
from deft.specs import EvaluateSpec, MeasureOmegaSpec, PipelineSpec, ScoreSpec, SelectSpec, System, TrainSpec
from store import claims, jobs, telling, wishes
from store.tables import Event, Job

BOTH = ["cpu", "gpu"]


def create(database, team_id, spec, **options):
    with database.write() as session:
        return jobs.create(session, team_id, spec, **options)


def score(dataset_id):
    return ScoreSpec(dataset=dataset_id, model="tiny")


def test_a_job_is_queued_with_every_default_written_in(database, team_id, model_id, dataset_id):
    spec = score(dataset_id)
    job = create(database, team_id, spec, name="mine")
    assert (job.status, job.kind, job.name, job.model_id, job.version) == ("queued", "score", "mine", model_id, 1)
    assert job.spec["tokens"]["max_total_tokens"] == 512
    assert jobs.spec_of(job) == spec
    with database.read() as session:
        (event,) = jobs.events_page(session, team_id, job.id).items
    assert (event.seq, event.data["status"], event.data["reason"]) == (1, "queued", "created")


def test_a_job_that_tunes_all_weights_makes_a_model_that_can_be_evaluated_but_not_started_from(
    database, team_id, model_id, dataset_id
):
    train = TrainSpec(data=dataset_id, model="tiny", lora=None, deft=None)
    tuned = create(database, team_id, train).id
    system = System(name="a", arm="deft", adapter=tuned)
    assert create(database, team_id, EvaluateSpec(model="tiny", dataset=dataset_id, systems=[system]))
    with pytest.raises(InvalidInput) as caught:
        create(database, team_id, TrainSpec(data=dataset_id, model="tiny", deft=None, adapter=tuned))
    assert caught.value.findings[0].found == "tuned_model"
    with pytest.raises(NotFound) as absent:
        create(database, team_id, ScoreSpec(dataset=dataset_id, model=tuned))
    assert "register" in absent.value.findings[0].fix


@pytest.mark.parametrize(
    ("kind", "needs"),
    [
        ("select", "cpu"),
        ("score", "gpu"),
        ("train", "gpu"),
        ("measure_omega", "gpu"),
        ("evaluate", "gpu"),
        ("pipeline", None),
    ],
)
def test_each_kind_has_its_resource_class(kind, needs):
    assert jobs.resource_class(kind) == needs


def test_what_a_spec_names_must_be_there_and_of_the_right_kind(database, team_id, model_id, dataset_id):
    scoring = create(database, team_id, score(dataset_id)).id
    systems = [System(name="a", arm="deft", adapter=scoring)]
    refused = [
        (score("ds_absent"), NotFound, "/dataset"),
        (score("job_absent"), NotFound, "/dataset"),
        (ScoreSpec(dataset=dataset_id, model="absent"), NotFound, "/model"),
        (SelectSpec(scoring=dataset_id), InvalidInput, "/scoring"),
        (score(scoring), InvalidInput, "/dataset"),
        (TrainSpec(data=scoring, model="tiny"), InvalidInput, "/data"),
        (EvaluateSpec(model="tiny", dataset=dataset_id, systems=systems), InvalidInput, "/systems/0/adapter"),
    ]
    for spec, error, pointer in refused:
        with pytest.raises(error) as caught:
            create(database, team_id, spec)
        assert caught.value.findings[0].pointer == pointer
    with database.read() as session:
        assert session.scalars(select(Job.id)).all() == [scoring]


def test_a_foreign_thing_is_not_found_exactly_as_a_missing_one(database, team_id, other_team_id, model_id, dataset_id):
    mine = create(database, team_id, score(dataset_id)).id

    def answer(call):
        with pytest.raises(NotFound) as caught, database.write() as session:
            call(session)
        return (
            caught.value.message,
            caught.value.error_code,
            [f.as_dict() | {"found": ""} for f in caught.value.findings],
        )

    looks = [
        lambda s, i: jobs.get(s, other_team_id, i),
        lambda s, i: jobs.children(s, other_team_id, i),
        lambda s, i: wishes.request_cancel(s, other_team_id, i),
        lambda s, i: jobs.events_page(s, other_team_id, i),
        lambda s, i: jobs.metrics(s, other_team_id, i),
        lambda s, i: jobs.create(s, other_team_id, SelectSpec(scoring=i)),
    ]
    for look in looks:
        assert answer(lambda s, look=look: look(s, mine)) == answer(lambda s, look=look: look(s, "job_absent"))
    assert answer(lambda s: jobs.create(s, other_team_id, score(dataset_id))) == answer(
        lambda s: jobs.create(s, other_team_id, score("ds_absent"))
    )
    with database.read() as session:
        assert jobs.page(session, other_team_id).items == []
        assert jobs.inputs(session, other_team_id, mine) == []
        assert jobs.get(session, team_id, mine).status == "queued"
    with pytest.raises(InvalidInput), database.read() as session:
        jobs.page(session, other_team_id, after=mine)


def test_a_job_waits_for_every_job_that_it_names(database, team_id, model_id, dataset_id, files):
    scoring = create(database, team_id, score(dataset_id)).id
    subset = create(database, team_id, SelectSpec(scoring=scoring)).id
    train = create(database, team_id, TrainSpec(data=subset, model="tiny", scoring=scoring)).id
    omega = create(database, team_id, MeasureOmegaSpec(data=dataset_id, model="tiny", scoring=scoring)).id
    outputs = {"score": "scoring", "select": "subset"}

    def finish():
        with database.write() as session:
            claim = claims.claim(session, "w", BOTH)
        sealed = files.seal(outputs[claim.kind], files.stage("x"), {})
        with database.write() as session:
            return claims.succeed(session, claim, sealed).id

    def status(job_id):
        with database.read() as session:
            job = jobs.get(session, team_id, job_id)
            return job.status, job.waiting_reason

    assert status(train) == ("waiting", f"waiting for the output of {subset}")
    scoring_id = finish()
    assert [status(subset), status(omega)] == [("queued", None)] * 2
    assert status(train)[0] == "waiting"
    with database.write() as session:
        session.get(Job, omega).priority = -1
    subset_id = finish()
    assert status(train) == ("queued", None)
    with database.read() as session:
        found = {each.name: (each.reference, each.artifact_id) for each in jobs.inputs(session, team_id, train)}
    assert found == {"data": (subset, subset_id), "scoring": (scoring, scoring_id)}
    late = create(database, team_id, SelectSpec(scoring=scoring))
    assert late.status == "queued"


def test_naming_a_job_that_has_ended_without_output_is_refused(database, team_id, model_id, dataset_id):
    scoring = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        wishes.request_cancel(session, team_id, scoring)
    with pytest.raises(InvalidInput) as caught:
        create(database, team_id, SelectSpec(scoring=scoring))
    assert caught.value.error_code == "input_failed"


def test_cancel_is_at_once_unless_a_worker_has_the_job(database, team_id, model_id, dataset_id):
    running = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        claim = claims.claim(session, "w", BOTH)
    queued = create(database, team_id, score(dataset_id)).id
    waiting = create(database, team_id, SelectSpec(scoring=running)).id
    paused = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        wishes.request_pause(session, team_id, paused)
    with database.write() as session:
        for job_id in (queued, waiting, paused):
            job = wishes.request_cancel(session, team_id, job_id)
            assert job.status == "cancelled"
            assert job.finished_at is not None
            with pytest.raises(Conflict):
                wishes.request_cancel(session, team_id, job_id)
        first = wishes.request_cancel(session, team_id, running)
        assert (first.status, first.cancel_requested_at is not None) == ("running", True)
        version = first.version
        assert wishes.request_cancel(session, team_id, running).version == version
    with database.write() as session:
        claims.settle_cancelled(session, claim)
    with pytest.raises(Conflict), database.write() as session:
        wishes.request_cancel(session, team_id, running)


def test_a_waiting_job_that_is_paused_waits_again_when_it_is_resumed(database, team_id, model_id, dataset_id):
    scoring = create(database, team_id, score(dataset_id)).id
    waiting = create(database, team_id, SelectSpec(scoring=scoring)).id
    with database.write() as session:
        assert wishes.request_pause(session, team_id, waiting).status == "paused"
    with database.write() as session:
        resumed = wishes.request_resume(session, team_id, waiting)
    assert (resumed.status, resumed.waiting_reason) == ("waiting", f"waiting for the output of {scoring}")
    with database.write() as session:
        wishes.request_pause(session, team_id, waiting)
        wishes.request_cancel(session, team_id, scoring)
    with database.write() as session:
        resumed = wishes.request_resume(session, team_id, waiting)
    assert (resumed.status, resumed.failure["code"]) == ("failed", "input_failed")


def test_what_is_ended_or_ending_cannot_be_paused(database, team_id, other_team_id, model_id, dataset_id):
    running = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        claim = claims.claim(session, "w", BOTH)
        wishes.request_cancel(session, team_id, running)
    for expected, act in (("job_cancelling", wishes.request_pause), ("job_finished", wishes.request_resume)):
        if expected == "job_finished":
            with database.write() as session:
                claims.settle_cancelled(session, claim)
        with pytest.raises(Conflict) as caught, database.write() as session:
            act(session, team_id, running)
        assert caught.value.error_code == expected
        with pytest.raises(NotFound), database.write() as session:
            act(session, other_team_id, running)


def test_events_are_counted_without_gaps_and_paged(database, team_id, model_id, dataset_id):
    job_id = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        claim = claims.claim(session, "w", BOTH)
    for note in range(5):
        with database.write() as session:
            telling.report_note(session, claim, f"note {note}")
    seen, after = [], 0
    while True:
        with database.read() as session:
            page = jobs.events_page(session, team_id, job_id, after=after, limit=3)
        seen += page.items
        if not page.has_more:
            break
        after = int(page.next_cursor)
    assert [event.seq for event in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.data.get("reason") or event.data.get("message") for event in seen][:3] == [
        "created",
        "claimed",
        "note 0",
    ]
    with database.read() as session:
        assert jobs.events_page(session, team_id, job_id, after=10**30).items == []


def test_an_event_without_its_write_cannot_be(database, team_id, model_id, dataset_id):
    job_id = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        claim = claims.claim(session, "w", BOTH)
    with pytest.raises(KeyError), database.write() as session:
        telling.report_note(session, claim, "x")
        raise KeyError
    with database.read() as session:
        job = jobs.get(session, team_id, job_id)
        assert job.event_seq == len(session.scalars(select(Event).where(Event.job_id == job_id)).all()) == 2


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_job_once_in_order(database, team_id, model_id, dataset_id, order):
    made = [create(database, team_id, score(dataset_id)).id for _ in range(5)]
    seen, after = [], None
    while True:
        with database.read() as session:
            page = jobs.page(session, team_id, limit=2, after=after, order=order)
        seen += [job.id for job in page.items]
        after = page.next_cursor
        assert page.has_more == (after is not None)
        if after is None:
            break
    assert seen == (made if order == "asc" else made[::-1])


def test_pages_are_filtered(database, team_id, model_id, dataset_id):
    parent = create(database, team_id, PipelineSpec(dataset=dataset_id, model="tiny")).id
    child = create(database, team_id, score(dataset_id), parent_id=parent).id
    alone = create(database, team_id, score(dataset_id)).id
    with database.write() as session:
        wishes.request_cancel(session, team_id, alone)

    def found(**filters):
        with database.read() as session:
            return {job.id for job in jobs.page(session, team_id, **filters).items}

    assert found() == {parent, child, alone}
    assert found(kind="score") == {child, alone}
    assert found(status="cancelled") == {alone}
    assert found(parent_id=parent) == {child}
    for wrong in ({"limit": 0}, {"limit": 201}, {"after": "job_absent"}, {"after": "\0"}):
        with pytest.raises(InvalidInput):
            found(**wrong)


def test_the_queue_position_counts_who_is_before(database, team_id, model_id, dataset_id):
    made = [create(database, team_id, score(dataset_id)) for _ in range(3)]
    urgent = create(database, team_id, score(dataset_id), priority=1)
    waiting = create(database, team_id, SelectSpec(scoring=made[0].id))
    with database.read() as session:
        assert [jobs.queue_position(session, job) for job in [*made, urgent, waiting]] == [1, 2, 3, 0, None]
