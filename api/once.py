"""`Idempotency-Key`: however often a POST is sent with one key, it is done once, and answered the same.

The reply is stored in the transaction of what it tells of, so that no crash comes between the two.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.services import CallerOf, Services
from store import idempotency
from store.idempotency import StoredReply

EMPTY = hashlib.sha256(b"").hexdigest()


def reply(status: int, document: BaseModel, location: str | None = None) -> StoredReply:
    """Return the reply that tells of *document*."""
    headers = {} if location is None else {"Location": location}
    return StoredReply(status, document.model_dump(mode="json"), headers)


@dataclass(frozen=True, slots=True)
class Once:
    """The key of one request, if it has one, and what the request is."""

    request: Request
    team_id: str
    key: str | None

    def do(self, session: Session, make: Callable[[], StoredReply]) -> Response:
        """Return what *make* replies, or the reply that this key has already had.

        Raises:
            Conflict: the key came with another body before.
        """
        if self.key is None:
            return _response(make())
        stored = self._begin(session)
        if stored is not None:
            return _response(stored, {"Idempotency-Replayed": "true"})
        made = make()
        idempotency.finish(session, self.team_id, self._route, self.key, made.status, made.body, made.headers)
        return _response(made)

    def earlier(self, services: Services) -> Response | None:
        """Return the reply that this key has already had, before long work is begun; it does not take the key."""
        if self.key is None:
            return None
        with services.database.write() as session:
            stored = self._begin(session)
            if stored is None:
                session.rollback()
        return None if stored is None else _response(stored, {"Idempotency-Replayed": "true"})

    def _begin(self, session: Session) -> StoredReply | None:
        body_hash = getattr(self.request.state, "body_hash", EMPTY)
        return idempotency.begin(session, self.team_id, self._route, self.key or "", body_hash)

    @property
    def _route(self) -> str:
        return f"{self.request.method} {self.request.url.path}"[:500]


def _response(made: StoredReply, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(made.body, made.status, {**made.headers, **(headers or {})})


def once_of(
    request: Request,
    caller: CallerOf,
    idempotency_key: Annotated[
        str | None, Header(description="A POST with a key that was used before gets the first reply again.")
    ] = None,
) -> Once:
    """Return the request's key."""
    return Once(request, caller.team_id, idempotency_key)


OnceOf = Annotated[Once, Depends(once_of)]
