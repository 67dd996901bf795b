"""Who judges a study: people with an invitation's token, or a key of the team. A token is shown once; a hash is kept.

A token opens its one study for judging and nothing else: no name of a system, no result, no other address.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as insert_on_postgres
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.orm import Session

from deft.errors import NotAuthenticated, NotFound
from store import studies
from store.accounts import MAX_KEY_CHARACTERS, Caller, authenticate, digest_of
from store.ids import new_id
from store.study_tables import Study, StudyRater
from store.tables import ApiKey
from store.types import database_now

TOKEN_MARK = "deftr_"  # noqa: S105 - how tokens begin, not one
PREFIX_CHARACTERS = len(TOKEN_MARK) + 7
NOT_INVITED = "This invitation does not work, or no longer: ask whoever invited you to this study for a new link."
"""What raters read on their page when neither a token nor a key is valid here."""


@dataclass(frozen=True, slots=True)
class Rater:
    """Who is judging: the rater's id, and the one study that this concerns."""

    id: str
    study_id: str
    team_id: str


def invite(session: Session, team_id: str, study_id: str, name: str) -> tuple[StudyRater, str]:
    """Make a rater of the team's study; return the row and the token (`deftr_` and 32 random bytes), not stored.

    Raises:
        NotFound: the team has no such study.
        Conflict: the study is closed.
    """
    study = studies.get(session, team_id, study_id)
    studies.require_open(study)
    token = TOKEN_MARK + secrets.token_urlsafe(32)
    row = StudyRater(
        id=new_id("rater"),
        study_id=study.id,
        team_id=team_id,
        name=name,
        prefix=token[:PREFIX_CHARACTERS],
        sha256=digest_of(token),
    )
    session.add(row)
    session.flush()
    return row, token


def revoke(session: Session, team_id: str, study_id: str, rater_id: str) -> StudyRater:
    """Make the rater's token useless from now on; what they judged stays, what they left is asked of others.

    Revoking twice is no error.

    Raises:
        NotFound: the team's study has no such rater.
    """
    is_meant = (StudyRater.id == rater_id, StudyRater.study_id == study_id, StudyRater.team_id == team_id)
    row = session.scalars(select(StudyRater).where(*is_meant)).first()
    if row is None:
        raise NotFound("the study has no such rater")
    session.execute(
        update(StudyRater).where(*is_meant, StudyRater.revoked_at.is_(None)).values(revoked_at=database_now())
    )
    session.refresh(row)
    return row


def of_study(session: Session, team_id: str, study_id: str) -> Sequence[StudyRater]:
    """Return the raters of the team's study, revoked ones too, oldest first.

    Raises:
        NotFound: the team has no such study.
    """
    study = studies.get(session, team_id, study_id)
    own = select(StudyRater).where(StudyRater.study_id == study.id)
    return session.scalars(own.order_by(StudyRater.created_at, StudyRater.id)).all()


def authenticate_rater(session: Session, study_id: str, text: str) -> Rater | Caller:
    """Return the rater of the study that *text* proves: a rater's token, or a key of the study's team.

    A key that has not judged the study yet is returned as the caller that it is: `join` makes it a rater.

    Raises:
        NotAuthenticated: the token or key is unknown, revoked, or a token of another study.
        NotFound: the key's team has no such study.
    """
    if not text.startswith(TOKEN_MARK):
        caller = _caller_of(session, text)
        return _of_key(session, studies.get(session, caller.team_id, study_id), caller) or caller
    if len(text) > MAX_KEY_CHARACTERS:
        raise NotAuthenticated(NOT_INVITED)
    digest = digest_of(text)
    candidates = select(StudyRater).where(StudyRater.prefix == text[:PREFIX_CHARACTERS])
    for row in session.scalars(candidates):
        is_known = hmac.compare_digest(row.sha256 or "", digest) and row.revoked_at is None
        if is_known and row.study_id == study_id:
            return Rater(row.id, row.study_id, row.team_id)
    raise NotAuthenticated(NOT_INVITED)


def _caller_of(session: Session, text: str) -> Caller:
    """Return who the key *text* belongs to; on the page it may as well be a damaged invitation, so a rater is told."""
    try:
        return authenticate(session, text)
    except NotAuthenticated:
        raise NotAuthenticated(NOT_INVITED) from None


def join(session: Session, study_id: str, caller: Caller) -> Rater:
    """Make the caller's key a rater of the study, unless another request has just done so, and return the rater."""
    study = studies.get(session, caller.team_id, study_id)
    name = session.scalars(select(ApiKey.name).where(ApiKey.id == caller.key_id)).one()
    insert = insert_on_sqlite if session.get_bind().dialect.name == "sqlite" else insert_on_postgres
    row = {
        "id": new_id("rater"),
        "study_id": study.id,
        "team_id": study.team_id,
        "name": name,
        "key_id": caller.key_id,
    }
    session.execute(insert(StudyRater).values(row).on_conflict_do_nothing())
    rater = _of_key(session, study, caller)
    if rater is None:
        raise AssertionError("the key has just become a rater")
    return rater


def _of_key(session: Session, study: Study, caller: Caller) -> Rater | None:
    is_meant = (StudyRater.study_id == study.id, StudyRater.key_id == caller.key_id)
    row = session.scalars(select(StudyRater).where(*is_meant)).first()
    if row is not None and row.revoked_at is not None:
        raise NotAuthenticated("This key may no longer judge this study.")
    return None if row is None else Rater(row.id, row.study_id, row.team_id)
