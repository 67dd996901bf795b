"""Jobs as their owners see them: create and look. A foreign id is NotFound exactly as a missing one.

What their owners ask of them is in `wishes`, what workers do to them in `claims`, what the clock does in `sweeps`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from deft.errors import Finding, InvalidInput, NotFound, shown
from deft.scoring.shards import StoredSpec, stored_spec
from deft.specs import ArtifactKind, Reference, output_kind, references, spec_hash, spec_json
from store import models, moves, named_models, pipelines
from store.database import lock_queue
from store.ids import new_id
from store.paging import Order, Page, check_limit, page_of
from store.states import FINISHED, Status
from store.tables import Artifact, Event, Job, JobInput, MetricValue

MAX_SEQ = 2**53


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """What a job told at one *step*."""

    step: int
    values: dict[str, float | None]


def check(session: Session, team_id: str, spec: StoredSpec) -> list[JobInput]:
    """Check that everything which *spec* names is there for the team, as `create` does, and return it; stores nothing.

    Raises:
        NotFound, InvalidInput: as `create`.
    """
    _model_id(session, team_id, spec)
    named_models.pinned(session, team_id, spec)
    return [_resolved(session, team_id, "", reference) for reference in references(spec)]


def create(
    session: Session,
    team_id: str,
    spec: StoredSpec,
    *,
    parent_id: str | None = None,
    name: str | None = None,
    priority: int = 0,
    is_parent: bool = False,
) -> Job:
    """Store a job for *spec* and return it: `queued`, or `waiting` when it names a job that is not finished.

    A parent (a pipeline, or what *is_parent* says) is stored as `queued` and never claimed; `store.expansion` and
    `store.sharding` make its children with this function.

    Raises:
        NotFound: the model, an artifact or a job that the spec names is not there for this team (with its pointer).
        InvalidInput: what is named has another kind, or is a job that failed or was cancelled.
    """
    lock_queue(session)
    model_id = _model_id(session, team_id, spec)
    spec = named_models.pinned(session, team_id, spec)
    job_id = new_id("job")
    inputs = [_resolved(session, team_id, job_id, reference) for reference in references(spec)]
    waits_for = next((each.input_job_id for each in inputs if each.artifact_id is None), None)
    needs = None if is_parent else resource_class(spec.kind)
    status: Status = "waiting" if waits_for and needs else "queued"
    job = Job(
        id=job_id,
        team_id=team_id,
        parent_id=parent_id,
        name=name or spec.name,
        kind=spec.kind,
        resource_class=needs,
        spec=spec_json(spec),
        spec_hash=spec_hash(spec),
        model_id=model_id,
        status=status,
        priority=priority,
        waiting_reason=moves.waiting_reason(waits_for) if waits_for and status == "waiting" else None,
        event_seq=1,
    )
    session.add(job)
    session.flush()
    session.add_all(inputs)
    session.add(
        Event(job_id=job.id, seq=1, team_id=team_id, type="status", data={"status": status, "reason": "created"})
    )
    session.flush()
    return job


def sign(session: Session, job: Job, key_id: str) -> None:
    """Note whose key posted the job that has just been created; its children are that key's too."""
    job.key_id = key_id
    session.flush()


def resource_class(kind: str) -> str | None:
    """Return what a worker needs to run this *kind*: `cpu`, `gpu`, or None for a pipeline, which nobody runs."""
    if kind == "pipeline":
        return None
    return "cpu" if kind in ("check_data", "select", "score_merge", "judge") else "gpu"


def get(session: Session, team_id: str, job_id: str) -> Job:
    """Return the team's job.

    Raises:
        NotFound: the team has no such job.
    """
    statement = select(Job).where(Job.id == job_id, Job.team_id == team_id)
    job = session.scalars(statement, execution_options={"populate_existing": True}).first()
    if job is None:
        raise NotFound("there is no such job")
    return job


def spec_of(job: Job) -> StoredSpec:
    """Return the job's spec as the object that it was created from."""
    return stored_spec.validate_python(job.spec)


def page(
    session: Session,
    team_id: str,
    *,
    status: Status | None = None,
    kind: str | None = None,
    parent_id: str | None = None,
    limit: int = 50,
    after: str | None = None,
    order: Order = "desc",
) -> Page[Job]:
    """Return a page of the team's jobs; each filter that is given must match.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    own = statement = select(Job).where(Job.team_id == team_id)
    for column, value in ((Job.status, status), (Job.kind, kind), (Job.parent_id, parent_id)):
        if value is not None:
            statement = statement.where(column == value)
    return page_of(session, statement, Job, limit, after, order, cursors=own)


def children(session: Session, team_id: str, job_id: str) -> list[Job]:
    """Return the children of the team's job, in the order in which they were made.

    Raises:
        NotFound: the team has no such job.
    """
    return pipelines.children_of(session, get(session, team_id, job_id).id)


def inputs(session: Session, team_id: str, job_id: str) -> list[JobInput]:
    """Return what the job was given, by name: `reference` as the spec says it, `artifact_id` once it exists."""
    statement = select(JobInput).where(JobInput.job_id == job_id, JobInput.team_id == team_id).order_by(JobInput.name)
    return list(session.scalars(statement))


def queue_position(session: Session, job: Job) -> int | None:
    """Return how many queued jobs of its resource class stand before a queued *job* (0: it is next), else None.

    By priority and age alone: the fair share between teams can only bring a job forward or back by who runs then.
    """
    if job.status != "queued" or job.resource_class is None:
        return None
    is_older = or_(Job.created_at < job.created_at, and_(Job.created_at == job.created_at, Job.id < job.id))
    is_before = or_(Job.priority > job.priority, and_(Job.priority == job.priority, is_older))
    statement = select(func.count()).where(
        Job.status == "queued", Job.resource_class == job.resource_class, Job.id != job.id, is_before
    )
    return session.execute(statement).scalar_one()


def finished(session: Session, job_ids: Sequence[str]) -> set[str]:
    """Return those of *job_ids*, of whatever team, that have ended."""
    statement = select(Job.id).where(Job.id.in_(job_ids), Job.status.in_(sorted(FINISHED)))
    return set(session.scalars(statement))


def events_page(session: Session, team_id: str, job_id: str, *, after: int = 0, limit: int = 100) -> Page[Event]:
    """Return the job's events with a `seq` above *after*, in order; `next_cursor` is the last seq as text.

    Raises:
        NotFound: the team has no such job.
        InvalidInput: `limit` is out of range.
    """
    check_limit(limit)
    get(session, team_id, job_id)
    statement = (
        select(Event)
        .where(Event.job_id == job_id, Event.team_id == team_id, Event.seq > min(max(after, 0), MAX_SEQ))
        .order_by(Event.seq)
        .limit(limit + 1)
    )
    rows = list(session.scalars(statement))
    items, has_more = rows[:limit], len(rows) > limit
    return Page(items, has_more, str(items[-1].seq) if has_more else None)


def metrics(session: Session, team_id: str, job_id: str) -> list[MetricPoint]:
    """Return all metric values of the job, one point a step, in order of steps.

    Raises:
        NotFound: the team has no such job.
    """
    get(session, team_id, job_id)
    statement = (
        select(MetricValue)
        .where(MetricValue.job_id == job_id, MetricValue.team_id == team_id)
        .order_by(MetricValue.step, MetricValue.name)
    )
    points: dict[int, dict[str, float | None]] = {}
    for row in session.scalars(statement):
        points.setdefault(row.step, {})[row.name] = row.value
    return [MetricPoint(step, values) for step, values in points.items()]


def _model_id(session: Session, team_id: str, spec: StoredSpec) -> str | None:
    named = getattr(spec, "model", None)
    if named is None:
        return None
    try:
        return models.get(session, team_id, named).id
    except NotFound as error:
        fix = "GET /v1/models lists the models that are there; a tuned model is downloaded, put below a model root and "
        fix += "registered before it is one of them"
        raise NotFound(
            "there is no such model", code="model_not_found", findings=[_absent("/model", named, "a model", fix)]
        ) from error


def _resolved(session: Session, team_id: str, job_id: str, reference: Reference) -> JobInput:
    job_input = JobInput(
        job_id=job_id, name=reference.name, team_id=team_id, pointer=reference.pointer, reference=reference.id
    )
    source = session.scalars(select(Job).where(Job.id == reference.id, Job.team_id == team_id)).first()
    if source is not None:
        _check_kind(reference, output_kind(source.kind, source.spec))
        if source.status in ("failed", "cancelled"):
            raise InvalidInput(f"{source.id} has no output", code="input_failed", findings=[_ended(reference, source)])
        job_input.input_job_id, job_input.artifact_id = source.id, source.artifact_id
        return job_input
    artifact = session.scalars(select(Artifact).where(Artifact.id == reference.id, Artifact.team_id == team_id)).first()
    if artifact is None:
        expected = " or ".join(reference.kinds)
        raise NotFound(
            f"there is no such {expected}",
            code="reference_not_found",
            findings=[_absent(reference.pointer, reference.id, f"the id of a {expected} or of a job that makes it")],
        )
    _check_kind(reference, artifact.kind, artifact.summary.get("not_to_be_trained_on"))
    job_input.artifact_id = artifact.id
    return job_input


def _check_kind(reference: Reference, kind: ArtifactKind | str, why: str | None = None) -> None:
    if kind not in reference.kinds:
        expected = " or ".join(reference.kinds)
        fix = f"name a {expected}"
        if why is not None:
            fix += f"; this is a prompt set, {why}: name it in `prompt_sets` of an evaluation"
        finding = Finding("wrong_kind", kind, expected, fix, pointer=reference.pointer)
        raise InvalidInput(f"{reference.pointer} names a {kind}", code="wrong_kind", findings=[finding])


def _absent(pointer: str, found: str, expected: str, fix: str = "check the id") -> Finding:
    return Finding("not_found", shown(found), expected, fix, pointer=pointer)


def _ended(reference: Reference, source: Job) -> Finding:
    return Finding(
        "input_failed",
        source.status,
        "a job that can still succeed",
        "ask for that job again",
        pointer=reference.pointer,
    )
