"""The tables. Every row says whose it is (`team_id`); a model's null means everyone's.

It must not hold queries or rules: `states.py` says how a job may change, the other modules write. Tables of human
studies are in `study_tables`, those of the promotion gate in `release_tables`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from store import release_tables, study_tables  # noqa: F401 - whoever has Base has all tables
from store.base import Base as Base
from store.states import STATUSES
from store.types import database_now

OF_EVERYONE = text("team_id IS NULL")


class Team(Base):
    """Who shares everything among themselves and nothing with others."""

    __tablename__ = "teams"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=database_now())


class ApiKey(Base):
    """An API key: its first characters and its SHA-256, never the key."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=database_now())
    revoked_at: Mapped[datetime | None]


class Model(Base):
    """A base model: a folder below an allowed root, or a pinned revision of the Hub."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str | None] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    folder: Mapped[str | None]
    hub_id: Mapped[str | None]
    revision: Mapped[str | None]
    weights_bytes: Mapped[int | None]
    weights_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=database_now())

    __table_args__ = (
        UniqueConstraint("team_id", "name"),
        Index(
            "uq_models_name_of_everyone", "name", unique=True, sqlite_where=OF_EVERYONE, postgresql_where=OF_EVERYONE
        ),
        CheckConstraint("(folder IS NULL) <> (hub_id IS NULL)", name="one_source"),
    )


class Artifact(Base):
    """An immutable folder that has been published: what its manifest says, and who made it."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    kind: Mapped[str]
    name: Mapped[str | None]
    job_id: Mapped[str | None] = mapped_column(index=True)  # no foreign key: jobs.artifact_id points the other way
    sha256: Mapped[str]
    bytes: Mapped[int]
    files: Mapped[list[Any]]
    summary: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=database_now())

    __table_args__ = (Index(None, "team_id", "kind", "created_at"),)


class Job(Base):
    """What was asked for and how far it is. The row is the truth; a message only says: look."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    key_id: Mapped[str | None]  # who posted it; null: a child, or older. No foreign key: SQLite would copy the table
    name: Mapped[str | None]
    kind: Mapped[str]
    resource_class: Mapped[str | None]  # null: never claimed (a pipeline)
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id"))
    status: Mapped[str]
    phase: Mapped[str | None]
    progress_done: Mapped[int | None]
    progress_total: Mapped[int | None]
    progress_unit: Mapped[str | None]
    progress_at: Mapped[datetime | None]
    progress_since: Mapped[datetime | None]  # when the phase's first progress was told: for the time that remains
    priority: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    stuck_attempts: Mapped[int] = mapped_column(default=0)  # in a row, without a new checkpoint
    fence: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]
    pause: Mapped[dict[str, Any] | None]  # what a person is to look at: {code, message, findings}
    accepted: Mapped[list[Any]] = mapped_column(default=list)  # codes of pauses that a person has accepted
    waiting_reason: Mapped[str | None]
    failure: Mapped[dict[str, Any] | None]
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))
    summary: Mapped[dict[str, Any] | None]
    log_tail: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=database_now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)  # +1 on each write that a reader can see: the ETag
    event_seq: Mapped[int] = mapped_column(default=0)  # of the job's last event

    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s) for s in STATUSES)})", name="status"),
        Index(None, "status", "resource_class", "priority", "created_at"),
        Index(None, "team_id", "created_at"),
        Index(None, "team_id", "status"),
    )


class JobInput(Base):
    """One artifact that a job's spec names: directly, or as the output of another job."""

    __tablename__ = "job_inputs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    pointer: Mapped[str]
    reference: Mapped[str]
    input_job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))  # null: not made yet


class Event(Base):
    """Something that happened to a job; `seq` counts 1, 2, 3, ... within the job."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=database_now())


class MetricValue(Base):
    """One value that a job told at one step; a repeated step overwrites. Null: not a finite number."""

    __tablename__ = "metric_values"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    value: Mapped[float | None]


class Checkpoint(Base):
    """A resume state that was complete when its row was written."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    folder: Mapped[str]  # its name below the job's folder of checkpoints
    sha256: Mapped[str]
    fence: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=database_now())


class IdempotencyKey(Base):
    """The reply that a request with this `Idempotency-Key` got."""

    __tablename__ = "idempotency_keys"

    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_hash: Mapped[str]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=database_now(), index=True)


class Score(Base):
    """One number of an evaluation, with its interval."""

    __tablename__ = "scores"

    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), primary_key=True)
    system: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    arm: Mapped[str | None]
    value: Mapped[float | None]
    n: Mapped[int | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    is_trained_on: Mapped[bool] = mapped_column(default=False)
    is_valid: Mapped[bool] = mapped_column(default=True)
    settings_hash: Mapped[str | None]
