"""The JSON objects that the service answers with. One class an object; it is the OpenAPI schema too.

Rows hold more than callers may see (leases, fences, folders of the machine): only what is named here leaves the house.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from store.sharding import Told
from store.tables import Artifact, Event, Job, Model

T = TypeVar("T")

NOUNS: dict[str, str] = {
    "dataset": "datasets",
    "data_report": "data_reports",
    "scoring": "scorings",
    "subset": "subsets",
    "calibration": "calibrations",
    "adapter": "adapters",
    "evaluation": "evaluations",
}
"""Kinds of artifact, and the noun under which the address has them."""

JobStatus = Literal["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled"]


class Document(BaseModel):
    """The common rules of every answer."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class PageDocument(Document, Generic[T]):
    """One page of a list; `next_cursor` goes into `after` for the next one."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


class TeamDocument(Document):
    """Whose key this is."""

    id: str
    name: str
    key_id: str


class ModelDocument(Document):
    """A base model that jobs can name by its id or name."""

    id: str
    name: str
    hub_id: str | None
    revision: str | None
    weights_hash: str | None
    weights_bytes: int | None
    created_at: datetime


class FileDocument(Document):
    """One file of an artifact; its ETag is the SHA-256."""

    path: str
    bytes: int
    sha256: str
    url: str


class ArtifactDocument(Document):
    """An immutable folder that can be downloaded file by file."""

    id: str
    kind: str
    name: str | None
    job_id: str | None
    created_at: datetime
    sha256: str = Field(description="Over names, sizes and hashes of the files: equal contents, equal hash.")
    bytes: int
    summary: dict[str, Any]
    files: list[FileDocument]


class DataReportDocument(ArtifactDocument):
    """What is wrong with a dataset before a model sees it."""

    report: dict[str, Any] | None


class ScoringDocument(ArtifactDocument):
    """A scored dataset, with the report on how far its Q_diff is from noise (M11)."""

    discrepancy: dict[str, Any] | None


class EvaluationDocument(ArtifactDocument):
    """An evaluation with its numbers, and what they say about the arms."""

    metrics: list[dict[str, Any]]
    comparison: dict[str, Any] | None


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


def model_document(row: Model) -> ModelDocument:
    """Return *row* without the folder, which is the machine's own matter."""
    return ModelDocument(
        id=row.id,
        name=row.name,
        hub_id=row.hub_id,
        revision=row.revision,
        weights_hash=row.weights_hash,
        weights_bytes=row.weights_bytes,
        created_at=row.created_at,
    )


def artifact_url(kind: str, artifact_id: str) -> str:
    """Return the address of an artifact."""
    return f"/v1/{NOUNS[kind]}/{artifact_id}"


def artifact_document(row: Artifact) -> ArtifactDocument:
    """Return *row* with the address of each file."""
    url = artifact_url(row.kind, row.id)
    files = [FileDocument(**entry, url=f"{url}/files/{entry['path']}") for entry in row.files]
    return ArtifactDocument(
        id=row.id,
        kind=row.kind,
        name=row.name,
        job_id=row.job_id,
        created_at=row.created_at,
        sha256=row.sha256,
        bytes=row.bytes,
        summary=row.summary,
        files=files,
    )


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
