"""Teams and API keys. A key is shown once; what is stored is its first characters and its SHA-256."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from deft.errors import InvalidInput, NotAuthenticated, NotFound
from store.database import lock_queue
from store.ids import new_id
from store.tables import ApiKey, Team
from store.types import database_now

KEY_MARK = "deft_"
PREFIX_CHARACTERS = len(KEY_MARK) + 7
MAX_KEY_CHARACTERS = 200
MIN_KEY_CHARACTERS = len(KEY_MARK) + 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: the team whose things it sees, and the key that it used."""

    team_id: str
    key_id: str


def bootstrap(session: Session, key_text: str | None = None) -> tuple[Team, str | None]:
    """Return the first team, made with one key when the database has none; then also the key's text, this once.

    With *key_text* (the operator's DEFT_BOOTSTRAP_KEY) that key is the team's, also added to a team that is there.
    """
    lock_queue(session)  # two processes may start together
    team = session.scalars(select(Team).order_by(Team.created_at, Team.id).limit(1)).first()
    is_new = team is None
    if team is None:
        team = Team(id=new_id("team"), name="default")
        session.add(team)
        session.flush()
    if key_text is not None:
        return team, _keep_given_key(session, team.id, key_text)
    if not is_new:
        return team, None
    return team, create_key(session, team.id, "bootstrap")[1]


def create_key(session: Session, team_id: str, name: str) -> tuple[ApiKey, str]:
    """Make a key for the team; return its row and its text (`deft_` and 32 random bytes), which is not stored."""
    key_text = KEY_MARK + secrets.token_urlsafe(32)
    return _add_key(session, team_id, name, key_text), key_text


def revoke_key(session: Session, team_id: str, key_id: str) -> None:
    """Make the team's key useless from the next request on; revoking twice is no error.

    Raises:
        NotFound: the team has no such key.
    """
    row = session.scalars(select(ApiKey).where(ApiKey.id == key_id, ApiKey.team_id == team_id)).first()
    if row is None:
        raise NotFound("there is no such API key")
    session.execute(
        update(ApiKey).where(ApiKey.id == row.id, ApiKey.revoked_at.is_(None)).values(revoked_at=database_now())
    )


def list_keys(session: Session, team_id: str) -> list[ApiKey]:
    """Return the team's keys, revoked ones too, oldest first."""
    return list(session.scalars(select(ApiKey).where(ApiKey.team_id == team_id).order_by(ApiKey.created_at, ApiKey.id)))


def authenticate(session: Session, key_text: str) -> Caller:
    """Return who the key *key_text* belongs to.

    Raises:
        NotAuthenticated: the key is unknown, malformed or revoked; which of these is not told.
    """
    if len(key_text) > MAX_KEY_CHARACTERS:
        raise NotAuthenticated
    digest = digest_of(key_text)
    found = None
    for row in session.scalars(select(ApiKey).where(ApiKey.prefix == key_text[:PREFIX_CHARACTERS])):
        if hmac.compare_digest(row.sha256, digest) and row.revoked_at is None:
            found = row
    if found is None:
        raise NotAuthenticated
    return Caller(found.team_id, found.id)


def team(session: Session, team_id: str) -> Team:
    """Return the team.

    Raises:
        NotFound: there is no such team.
    """
    row = session.get(Team, team_id)
    if row is None:
        raise NotFound("there is no such team")
    return row


def _keep_given_key(session: Session, team_id: str, key_text: str) -> str | None:
    if not key_text.startswith(KEY_MARK) or not MIN_KEY_CHARACTERS <= len(key_text) <= MAX_KEY_CHARACTERS:
        raise InvalidInput(f"the bootstrap key must be `{KEY_MARK}` and at least 32 more characters")
    if session.scalars(select(ApiKey).where(ApiKey.sha256 == digest_of(key_text))).first() is not None:
        return None
    _add_key(session, team_id, "bootstrap", key_text)
    return key_text


def _add_key(session: Session, team_id: str, name: str, key_text: str) -> ApiKey:
    row = ApiKey(
        id=new_id("key"), team_id=team_id, name=name, prefix=key_text[:PREFIX_CHARACTERS], sha256=digest_of(key_text)
    )
    session.add(row)
    session.flush()
    return row


def digest_of(key_text: str) -> str:
    """Return the SHA-256, in hex, of a key or token: what is stored of it."""
    return hashlib.sha256(key_text.encode("utf-8", "surrogatepass")).hexdigest()
