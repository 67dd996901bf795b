"""`/v1/studies/{study_id}/rating`: what a rater sees and says. An invitation's token opens this and nothing else."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, TypeAdapter
from sqlalchemy.orm import Session

from api.bodies import body_of
from api.openapi_document import json_body
from api.problems import errors
from api.services import ServicesOf
from api.study_documents import (
    NextItemDocument,
    ProgressDocument,
    RatingDocument,
    item_document,
    progress_document,
    rating_document,
)
from deft.errors import NotAuthenticated
from deft.specs import Spec
from deft.specs.studies import GivenVerdict
from store import rating
from store.raters import Rater, authenticate_rater, join

router = APIRouter(prefix="/studies/{study_id}/rating", tags=["rating"])


class JudgementRequest(Spec):
    """What the rater says of the two responses, as they stand on the page."""

    verdict: GivenVerdict = Field(description="`skip`: the rater would rather not judge this item.")


JUDGEMENT_REQUEST: TypeAdapter[JudgementRequest] = TypeAdapter(JudgementRequest)
invitation = HTTPBearer(
    auto_error=False, scheme_name="invitation", description="A rater's token, `deftr_...`, or an API key."
)


def rater_of(
    study_id: str,
    services: ServicesOf,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(invitation)],
) -> Rater:
    """Return who judges; a key becomes a rater with its first use. Strangers never hold a place of a writer.

    Raises:
        NotAuthenticated: the header names no valid invitation to this study, and no key.
    """
    if credentials is None:
        raise NotAuthenticated("An invitation to this study, or an API key, is needed.")
    with services.database.read() as session:
        found = authenticate_rater(session, study_id, credentials.credentials)
    if isinstance(found, Rater):
        return found
    with services.database.write() as session:
        return join(session, study_id, found)


RaterOf = Annotated[Rater, Depends(rater_of)]


def _judging(services: ServicesOf, _rater: RaterOf) -> Iterator[Session]:
    with services.database.write() as session:
        yield session


Judging = Annotated[Session, Depends(_judging, scope="function")]


@router.get("")
def get_rating(session: Judging, rater: RaterOf) -> RatingDocument:
    """Return the guidelines, the warning and how far this rater is."""
    return rating_document(rating.study_of(session, rater), rating.progress(session, rater))


@router.post("/next", responses=errors(409))
def next_rating_item(session: Judging, rater: RaterOf) -> NextItemDocument:
    """Return the item to judge now; asked again, the same one, until it has been judged or skipped."""
    item = rating.next_item(session, rater)
    study = rating.study_of(session, rater)
    return NextItemDocument(
        item=None if item is None else item_document(study, item),
        progress=progress_document(rating.progress(session, rater)),
    )


@router.put("/items/{item_id}", responses=errors(409, 413, 415), openapi_extra=json_body(JUDGEMENT_REQUEST))
def judge_item(
    item_id: str,
    body: Annotated[JudgementRequest, Depends(body_of(JUDGEMENT_REQUEST))],
    session: Judging,
    rater: RaterOf,
) -> ProgressDocument:
    """Say which response is better; said again, the last word counts."""
    rating.judge(session, rater, item_id, body.verdict)
    return progress_document(rating.progress(session, rater))
