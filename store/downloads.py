"""Who has fetched what can be recalled: adapters and tuned models. One row a file and key; it counts and dates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as insert_on_postgres
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.orm import Session

from store.accounts import Caller
from store.release_tables import Download
from store.tables import ApiKey
from store.types import database_now


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that a key has fetched, how often, and when first and last."""

    key_id: str
    key_name: str
    path: str
    times: int
    first_at: datetime
    last_at: datetime


def record(session: Session, caller: Caller, artifact_id: str, path: str) -> None:
    """Note that the caller fetches the file, or a part of it."""
    insert = insert_on_sqlite if session.get_bind().dialect.name == "sqlite" else insert_on_postgres
    row = {
        "artifact_id": artifact_id,
        "key_id": caller.key_id,
        "path": path,
        "team_id": caller.team_id,
        "times": 1,
    }
    again = {"times": Download.times + 1, "last_at": database_now()}
    keys = [Download.artifact_id, Download.key_id, Download.path]
    session.execute(insert(Download).values(row).on_conflict_do_update(index_elements=keys, set_=again))


def of_artifact(session: Session, team_id: str, artifact_id: str) -> Sequence[Fetched]:
    """Return who has fetched which files of the team's artifact, the first fetch first."""
    statement = select(Download, ApiKey.name).join(ApiKey, ApiKey.id == Download.key_id)
    own = statement.where(Download.team_id == team_id, Download.artifact_id == artifact_id)
    found = session.execute(own.order_by(Download.first_at, Download.path))
    return [Fetched(row.key_id, name, row.path, row.times, row.first_at, row.last_at) for row, name in found]
