"""`Idempotency-Key`: the reply is stored in the transaction of the thing that it made.

    with database.write() as session:
        stored = idempotency.begin(session, team_id, route, key, body_hash)   # the first statement of the transaction
        if stored is None:
            job = jobs.create(...)
            idempotency.finish(session, team_id, route, key, 202, body, headers)

A second request with the same key waits in `begin` until the first one has committed or failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as insert_on_postgres
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, shown
from store.tables import IdempotencyKey

MAX_KEY_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What the first request with this key was answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def begin(session: Session, team_id: str, route: str, key: str, body_hash: str) -> StoredReply | None:
    """Take the key for this request (None: go ahead, then `finish`), or return the reply that it already has.

    Raises:
        Conflict: the key was used with another body (`idempotency_key_reused`).
        InvalidInput: the key is empty or longer than 255 characters.
    """
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        finding = Finding("invalid_idempotency_key", shown(key), "1 to 255 characters", "send for example a UUID")
        raise InvalidInput("the Idempotency-Key is not usable", code="invalid_idempotency_key", findings=[finding])
    insert = insert_on_sqlite if session.get_bind().dialect.name == "sqlite" else insert_on_postgres
    row = {"team_id": team_id, "route": route, "key": key, "body_hash": body_hash}
    taken = insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(IdempotencyKey.key)
    if session.execute(taken).first() is not None:
        return None
    return _stored(session, team_id, route, key, body_hash)


def finish(
    session: Session,
    team_id: str,
    route: str,
    key: str,
    status: int,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> None:
    """Store the reply of the request that took the key, in the same transaction."""
    session.execute(
        update(IdempotencyKey)
        .where(*_is_key(team_id, route, key))
        .values(status=status, body=dict(body), headers=dict(headers or {}))
    )


def _stored(session: Session, team_id: str, route: str, key: str, body_hash: str) -> StoredReply:
    row = session.scalars(select(IdempotencyKey).where(*_is_key(team_id, route, key))).one()
    if row.body_hash != body_hash:
        fix = "send the first body again, or use a new key for a new request"
        finding = Finding("idempotency_key_reused", "another body", "the body of the key's first request", fix)
        raise Conflict(
            "this Idempotency-Key was used with another body", code="idempotency_key_reused", findings=[finding]
        )
    if row.status is None or row.body is None:
        raise Conflict("the first request with this Idempotency-Key left no reply", code="idempotency_key_in_use")
    return StoredReply(row.status, row.body, row.headers or {})


def _is_key(team_id: str, route: str, key: str) -> list[Any]:
    return [IdempotencyKey.team_id == team_id, IdempotencyKey.route == route, IdempotencyKey.key == key]
