"""The tables of human studies. No queries and no rules here."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from store.base import Base
from store.types import database_now


class Study(Base):
    """A blind comparison of two systems by people; *spec* has every default and the seed written in."""

    __tablename__ = "studies"

    id: Mapped[str] = mapped_column(primary_key=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"))
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"))  # who made it
    name: Mapped[str | None]
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    spec: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=database_now())
    closed_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "team_id", "created_at"),)


class StudyItem(Base):
    """Something to judge: two responses to a prompt as they stand on the page, and to each of its *later_turns*."""

    __tablename__ = "study_items"

    id: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), index=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    kind: Mapped[str]
    row: Mapped[int | None]  # of the dataset; null: an attention item
    cluster: Mapped[float | None]
    source: Mapped[str | None]
    prompt: Mapped[str]
    is_messages: Mapped[bool]  # whether `prompt` is the JSON of messages
    first: Mapped[str]
    second: Mapped[str]
    later_turns: Mapped[list[Any]] = mapped_column(server_default="[]")  # [{user, first, second}]
    is_swapped: Mapped[bool]
    expected: Mapped[str | None]
    raters_wanted: Mapped[int]
    is_warned: Mapped[bool]


class StudyRater(Base):
    """Who judges: invited by a token (its first characters and SHA-256 are kept), or a key of the team."""

    __tablename__ = "study_raters"

    id: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"))
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    name: Mapped[str]
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    prefix: Mapped[str | None] = mapped_column(index=True)
    sha256: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=database_now())
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("study_id", "key_id"),
        CheckConstraint("(key_id IS NULL) <> (sha256 IS NULL)", name="one_proof"),
    )


class StudyJudgement(Base):
    """An item that a rater was shown, and what they said; null: nothing yet.

    *had_verdict*: they ever said something else than a skip, which may stand in its place now.
    """

    __tablename__ = "study_judgements"

    item_id: Mapped[str] = mapped_column(ForeignKey("study_items.id"), primary_key=True)
    rater_id: Mapped[str] = mapped_column(ForeignKey("study_raters.id"), primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id"), index=True)
    team_id: Mapped[str] = mapped_column(ForeignKey("teams.id"), index=True)
    shown_at: Mapped[datetime] = mapped_column(default=database_now())
    judged_at: Mapped[datetime | None]
    verdict: Mapped[str | None]
    had_verdict: Mapped[bool] = mapped_column(server_default=false())
