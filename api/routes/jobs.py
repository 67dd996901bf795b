"""`/v1/jobs`: create, list, look, pause, resume, cancel, and what happened."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.answers import answer
from api.bodies import body_of
from api.documents import PageDocument
from api.job_documents import (
    EventDocument,
    JobDocument,
    JobStatus,
    LogDocument,
    MetricsDocument,
    child_document,
    event_document,
    job_document,
)
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import Once, OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.services import CallerOf, Reading, Rings, Services, ServicesOf, Writing
from deft.specs import JobSpec, ScoreSpec, job_spec, output_kind
from store import jobs, pipelines, preflight, sharding, wishes
from store.accounts import Caller
from store.bell import Ring
from store.expansion import expand
from store.idempotency import StoredReply
from store.paging import Page
from store.preflight import Prepared
from store.sharding import told_by
from store.tables import Job

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobKind = Literal[
    "check_data",
    "score",
    "select",
    "train",
    "measure_omega",
    "train_reward_model",
    "evaluate",
    "judge",
    "pipeline",
    "score_count",
    "score_shard",
    "score_merge",
]
MAX_SEQ = 2**53


def document_of(session: Session, row: Job) -> JobDocument:
    """Return *row* with its children and its place in the queue."""
    children = pipelines.children_of(session, row.id) if pipelines.is_parent(row) else []
    below = {child.id: pipelines.children_of(session, child.id) for child in children if pipelines.is_parent(child)}
    return job_document(
        row,
        artifact_kind=output_kind(row.kind, row.spec),
        told=told_by(row, children),
        children=[child_document(child, told_by(child, below.get(child.id, []))) for child in children],
        queue_position=jobs.queue_position(session, row),
    )


def post_job(spec: JobSpec, services: Services, caller: Caller, rings: list[Ring], once: Once) -> Response:
    """Create the job of *spec*, with its children when it has any, and ring for what can start."""
    earlier = once.earlier(services)
    if earlier is not None:
        return earlier
    with services.database.read() as session:
        files, settings = services.files, services.settings
        prepared = preflight.prepare(session, files, settings, caller.team_id, spec, has_weights=False)

    with services.database.write() as session:

        def make() -> StoredReply:
            row = _stored(session, caller.team_id, prepared, shard_rows=services.settings.shard_rows)
            jobs.sign(session, row, caller.key_id)
            rings.extend(pipelines.to_ring(session, row))
            return reply(202, document_of(session, row), f"/v1/jobs/{row.id}")

        return once.do(session, make)


def _stored(session: Session, team_id: str, prepared: Prepared, *, shard_rows: int) -> Job:
    if prepared.resolved is not None:
        return expand(session, team_id, prepared.resolved, shard_rows=shard_rows)
    if isinstance(prepared.spec, ScoreSpec):
        return sharding.create(session, team_id, prepared.spec, rows=prepared.rows_scored or 0, shard_rows=shard_rows)
    return jobs.create(session, team_id, prepared.spec)


@router.post(
    "",
    status_code=202,
    response_model=JobDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(job_spec),
)
def create_job(
    spec: Annotated[JobSpec, Depends(body_of(job_spec))],
    services: ServicesOf,
    caller: CallerOf,
    rings: Rings,
    once: OnceOf,
) -> Response:
    """Create a job. The answer has every default written in."""
    return post_job(spec, services, caller, rings, once)


@router.get("")
def list_jobs(
    session: Reading,
    caller: CallerOf,
    status: JobStatus | None = None,
    kind: JobKind | None = None,
    parent_id: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    order: Order = "desc",
) -> PageDocument[JobDocument]:
    """List the team's jobs; each filter that is given must match."""
    page = jobs.page(
        session,
        caller.team_id,
        status=status,
        kind=kind,
        parent_id=parent_id,
        limit=limit,
        after=after,
        order=order,
    )
    return page_document(page, lambda row: document_of(session, row))


@router.get("/{job_id}", response_model=JobDocument)
def get_job(request: Request, job_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return one job; with `If-None-Match`, 304 until something has changed."""
    row = jobs.get(session, caller.team_id, job_id)
    return answer(request, document_of(session, row), version=row.version)


@router.post("/{job_id}/cancel", response_model=JobDocument, responses=errors(409))
def cancel_job(job_id: str, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """Cancel a job, or ask it to stop at its next safe point while it runs."""

    def make() -> StoredReply:
        return reply(200, document_of(session, wishes.request_cancel(session, caller.team_id, job_id)))

    return once.do(session, make)


@router.post("/{job_id}/pause", response_model=JobDocument, responses=errors(409))
def pause_job(job_id: str, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """Pause a job, or ask it to at its next safe point while it runs; a pipeline pauses with all its jobs."""

    def make() -> StoredReply:
        return reply(200, document_of(session, wishes.request_pause(session, caller.team_id, job_id)))

    return once.do(session, make)


@router.post("/{job_id}/resume", response_model=JobDocument, responses=errors(409))
def resume_job(job_id: str, session: Writing, caller: CallerOf, rings: Rings, once: OnceOf) -> Response:
    """Let a paused job go on from its last checkpoint, accepting what it paused for."""

    def make() -> StoredReply:
        row = wishes.request_resume(session, caller.team_id, job_id)
        rings.extend(pipelines.to_ring(session, row))
        return reply(200, document_of(session, row))

    return once.do(session, make)


@router.get("/{job_id}/events", response_model=PageDocument[EventDocument])
def list_job_events(
    request: Request,
    job_id: str,
    session: Reading,
    caller: CallerOf,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Events with a `seq` above this.")] = 0,
    limit: Limit = 100,
) -> Response:
    """List what happened to a job, oldest first."""
    page = jobs.events_page(session, caller.team_id, job_id, after=after, limit=limit)
    return answer(request, page_document(page, event_document))


@router.get("/{job_id}/metrics", response_model=PageDocument[MetricsDocument])
def list_job_metrics(request: Request, job_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return all values that a job measured as it ran, one item a step."""
    points = jobs.metrics(session, caller.team_id, job_id)
    page = Page(points, has_more=False, next_cursor=None)
    return answer(request, page_document(page, lambda point: MetricsDocument(step=point.step, values=point.values)))


@router.get("/{job_id}/log", response_model=LogDocument, responses={200: {"content": {"text/plain": {}}}})
def get_job_log(request: Request, job_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return the last lines of a job's log: as text for `Accept: text/plain`, else as JSON."""
    row = jobs.get(session, caller.team_id, job_id)
    if request.headers.get("accept", "").startswith("text/plain"):
        return PlainTextResponse(row.log_tail)
    return answer(request, LogDocument(lines=row.log_tail.splitlines()))
