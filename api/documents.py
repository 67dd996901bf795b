"""The JSON objects that the service answers with. One class an object; it is the OpenAPI schema too.

Rows hold more than callers may see (leases, fences, folders of the machine): only what is named here leaves the house.
Those of jobs are in `api.job_documents`.
"""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from store.tables import Artifact, Model

T = TypeVar("T")

NOUNS: dict[str, str] = {
    "dataset": "datasets",
    "prompt_set": "datasets",
    "data_report": "data_reports",
    "scoring": "scorings",
    "subset": "subsets",
    "calibration": "calibrations",
    "adapter": "adapters",
    "tuned_model": "tuned_models",
    "reward_model": "reward_models",
    "evaluation": "evaluations",
    "judging": "judgings",
}
"""Kinds of artifact, and the noun under which the address has them."""


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
