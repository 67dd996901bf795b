"""The JSON objects of jobs: what was asked for, how far it is, what it told. As `api.documents`, the schema too."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.documents import NOUNS, Document, artifact_url
from store.sharding import Told
from store.tables import Event, Job

JobStatus = Literal["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled"]


class Progress(Document):
    """How far the phase is; the time that remains is an estimate from its pace so far."""

    done: int
    total: int | None
    unit: str | None
    seconds_remaining: float | None


class Failure(BaseModel):
    """Why a job failed: `user` (change the request), `capacity` (too big for the machine), `system` (ours)."""

    model_config = ConfigDict(extra="allow")

    category: Literal["user", "capacity", "system"]
    code: str
    message: str
    retryable: bool = False
    reference: str | None = None


class Pause(BaseModel):
    """Why a job has paused itself."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class ArtifactLink(Document):
    """The artifact that a job made."""

    id: str
    kind: str
    url: str


class ChildDocument(Document):
    """A job of a pipeline, or of a scoring in shards, in short."""

    id: str
    name: str | None
    kind: str
    status: JobStatus
    phase: str | None
    progress: Progress | None


class JobDocument(Document):
    """What was asked for and how far it is."""

    id: str
    kind: str
    name: str | None
    parent_id: str | None
    status: JobStatus
    phase: str | None
    progress: Progress | None
    attempt: int
    queue_position: int | None
    waiting_reason: str | None
    failure: Failure | None
    spec: dict[str, Any] = Field(description="What was asked for, with every default written in.")
    spec_hash: str
    artifact: ArtifactLink | None
    summary: dict[str, Any] | None
    children: list[ChildDocument]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    pause: Pause | None = Field(description="What a person is asked to look at; resuming the job accepts it.")


class EventDocument(Document):
    """Something that happened to a job; `seq` counts from 1 within it."""

    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class MetricsDocument(Document):
    """What a job measured at one step; null is a value that was not finite."""

    step: int
    values: dict[str, float | None]


class LogDocument(Document):
    """The last lines of a job's log."""

    lines: list[str]


def progress_of(row: Job, told: Told | None) -> Progress | None:
    """Return how far *row* is by what was *told*, with the time that remains if the phase goes on at its pace."""
    if told is None:
        return None
    return Progress(
        done=told.done, total=told.total, unit=told.unit, seconds_remaining=_seconds_remaining(row.status, told)
    )


def _seconds_remaining(status: str, told: Told) -> float | None:
    """Only what the rows say goes in, never the clock: a job that has not moved has the same document and ETag."""
    if status != "running" or not told.done or not told.total:
        return None
    if told.since is None or told.at is None:
        return None
    elapsed = (told.at - told.since).total_seconds()
    if elapsed <= 0:
        return None
    return round(elapsed / told.done * max(0, told.total - told.done), 1)


def child_document(row: Job, told: Told | None) -> ChildDocument:
    """Return *row* as its parent shows it."""
    return ChildDocument.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "status": row.status,
            "phase": row.phase,
            "progress": progress_of(row, told),
        }
    )


def job_document(
    row: Job,
    *,
    artifact_kind: str,
    told: Told | None,
    children: Sequence[ChildDocument] = (),
    queue_position: int | None = None,
) -> JobDocument:
    """Return *row* as callers see it; what a shard hands to the merge is nobody's to download."""
    link = None
    if row.artifact_id is not None and artifact_kind in NOUNS:
        url = artifact_url(artifact_kind, row.artifact_id)
        link = ArtifactLink(id=row.artifact_id, kind=artifact_kind, url=url)
    return JobDocument.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "name": row.name,
            "parent_id": row.parent_id,
            "status": row.status,
            "phase": row.phase,
            "progress": progress_of(row, told),
            "attempt": row.attempt,
            "queue_position": queue_position,
            "waiting_reason": row.waiting_reason,
            "failure": row.failure,
            "spec": row.spec,
            "spec_hash": row.spec_hash,
            "artifact": link,
            "summary": row.summary,
            "children": children,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "cancel_requested_at": row.cancel_requested_at,
            "pause_requested_at": row.pause_requested_at,
            "pause": row.pause,
        }
    )


def event_document(row: Event) -> EventDocument:
    """Return *row* as callers see it."""
    return EventDocument(seq=row.seq, type=row.type, data=row.data, created_at=row.created_at)
