"""`/v1/releases`: an adapter at the promotion gate: ask, approve, override, recall, and who fetched it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field, TypeAdapter, field_validator
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.bodies import body_of
from api.documents import PageDocument
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.release_documents import (
    DownloadDocument,
    RecallDocument,
    ReleaseDocument,
    download_document,
    recall_document,
    release_document,
)
from api.services import CallerOf, Reading, ServicesOf, Writing
from deft.specs import Spec
from deft.specs.base import is_blank
from deft.specs.releases import ReleaseSpec
from store import downloads, releases
from store.idempotency import StoredReply
from store.paging import Page

router = APIRouter(prefix="/releases", tags=["releases"])


class ApprovalRequest(Spec):
    """What the approver wants on record."""

    note: str | None = Field(None, max_length=2000)


class ReasonRequest(Spec):
    """Why; it goes on record."""

    reason: str = Field(min_length=1, max_length=2000)

    @field_validator("reason")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if is_blank(value):
            raise ValueError("a reason in words, not blanks alone: whoever reads the record has to know why")
        return value


RELEASE_SPEC: TypeAdapter[ReleaseSpec] = TypeAdapter(ReleaseSpec)
APPROVAL: TypeAdapter[ApprovalRequest] = TypeAdapter(ApprovalRequest)
REASON: TypeAdapter[ReasonRequest] = TypeAdapter(ReasonRequest)
Reason = Annotated[ReasonRequest, Depends(body_of(REASON))]


@router.post(
    "",
    status_code=201,
    response_model=ReleaseDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(RELEASE_SPEC),
)
def create_release(
    spec: Annotated[ReleaseSpec, Depends(body_of(RELEASE_SPEC))],
    session: Writing,
    services: ServicesOf,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Hold an adapter to a policy by the numbers of an evaluation: `released`, or `held` with what fails."""

    def make() -> StoredReply:
        row = releases.request(session, services.files, caller, spec)
        return reply(201, release_document(session, row), f"/v1/releases/{row.id}")

    return once.do(session, make)


@router.get("")
def list_releases(
    session: Reading,
    caller: CallerOf,
    adapter: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    order: Order = "desc",
) -> PageDocument[ReleaseDocument]:
    """List the team's releases."""
    page = releases.page(session, caller.team_id, adapter=adapter, limit=limit, after=after, order=order)
    return page_document(page, lambda row: release_document(session, row))


@router.get("/{release_id}", response_model=ReleaseDocument)
def get_release(request: Request, release_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return one release with its record."""
    return answer(request, release_document(session, releases.get(session, caller.team_id, release_id)))


@router.post(
    "/{release_id}/approve",
    response_model=ReleaseDocument,
    responses=errors(403, 409, 413, 415),
    openapi_extra=json_body(APPROVAL),
)
def approve_release(
    release_id: str,
    body: Annotated[ApprovalRequest, Depends(body_of(APPROVAL))],
    session: Writing,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Agree to a release whose clauses are all met; not with the key that trained the adapter."""

    def make() -> StoredReply:
        return reply(200, release_document(session, releases.approve(session, caller, release_id, body.note)))

    return once.do(session, make)


@router.post(
    "/{release_id}/override",
    response_model=ReleaseDocument,
    responses=errors(403, 409, 413, 415),
    openapi_extra=json_body(REASON),
)
def override_release(release_id: str, body: Reason, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """Release in spite of what holds it; reason and failing clauses go on record. Not with the trainer's key."""

    def make() -> StoredReply:
        return reply(200, release_document(session, releases.override(session, caller, release_id, body.reason)))

    return once.do(session, make)


@router.post(
    "/{release_id}/recall",
    response_model=RecallDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(REASON),
)
def recall_release(release_id: str, body: Reason, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """Take a release back, once: the adapter's files are handed out no more; the answer lists who has fetched them."""

    def make() -> StoredReply:
        row = releases.recall(session, caller, release_id, body.reason)
        fetched = downloads.of_artifact(session, caller.team_id, row.artifact_id)
        return reply(200, recall_document(session, row, fetched))

    return once.do(session, make)


@router.get("/{release_id}/downloads")
def list_downloads(release_id: str, session: Reading, caller: CallerOf) -> PageDocument[DownloadDocument]:
    """List who has fetched which files of the release's adapter, before and after it was released."""
    row = releases.get(session, caller.team_id, release_id)
    fetched = list(downloads.of_artifact(session, caller.team_id, row.artifact_id))
    return page_document(Page(fetched, has_more=False, next_cursor=None), download_document)
