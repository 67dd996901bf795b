"""The tables of comparisons and of the promotion gate. No queries and no rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.base import Base
from store.types import database_now


class Comparison(Base):
    """Two evaluations set against each other: what was asked, and what came of it."""

    __tablename__ = "comparisons"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    spec: Mapped[dict[str, Any]]
    is_forced: Mapped[bool]
    result: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=database_now())

    __table_args__ = (Index(None, "team_id", "created_at"),)


class Policy(Base):
    """The rules of a promotion gate: never changed, so that a release names what it was held to."""

    __tablename__ = "policies"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=database_now())

    __table_args__ = (UniqueConstraint("team_id", "name"), Index(None, "team_id", "created_at"))


class Release(Base):
    """An adapter at the gate: what the policy says of its evaluation, and since when and until when it is out.

    Who approved, overrode and recalled it stands in `release_events`.
    """

    __tablename__ = "releases"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    policy_id: Mapped[str] = mapped_column(ForeignKey("policies.id"), index=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))  # who asked for it
    trainer_key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))  # null: the job does not say
    spec: Mapped[dict[str, Any]]
    clauses: Mapped[list[Any]]
    released_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    recalled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=database_now())

    __table_args__ = (Index(None, "team_id", "created_at"),)


class ReleaseEvent(Base):
    """Who did what to a release, in order: asked, approved, overridden, recalled."""

    __tablename__ = "release_events"

    release_id: Mapped[str] = mapped_column(ForeignKey("releases.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=database_now())


class Download(Base):
    """A file of an adapter or a tuned model that a key has fetched: whom a recall concerns."""

    __tablename__ = "downloads"

    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    times: Mapped[int]
    first_at: Mapped[datetime] = mapped_column(default=database_now())
    last_at: Mapped[datetime] = mapped_column(default=database_now())
