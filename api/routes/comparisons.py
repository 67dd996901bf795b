"""`/v1/comparisons`: two systems of two evaluations, set against each other where they were measured alike."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.bodies import body_of
from api.documents import PageDocument
from api.evaluation_documents import ComparisonDocument, comparison_document
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.services import CallerOf, Reading, ServicesOf, Writing
from deft.specs.comparisons import ComparisonSpec
from store import comparisons
from store.idempotency import StoredReply

router = APIRouter(prefix="/comparisons", tags=["comparisons"])

COMPARISON_SPEC: TypeAdapter[ComparisonSpec] = TypeAdapter(ComparisonSpec)


@router.post(
    "",
    status_code=201,
    response_model=ComparisonDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(COMPARISON_SPEC),
)
def create_comparison(
    spec: Annotated[ComparisonSpec, Depends(body_of(COMPARISON_SPEC))],
    session: Writing,
    services: ServicesOf,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Compare two systems. Where prompts, decoding, base or other settings differ: 409, unless it is forced."""

    def make() -> StoredReply:
        result = comparisons.compare(session, services.files, caller.team_id, spec)
        row = comparisons.create(session, caller, spec, result)
        return reply(201, comparison_document(row), f"/v1/comparisons/{row.id}")

    return once.do(session, make)


@router.get("")
def list_comparisons(
    session: Reading, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, after: After = None, order: Order = "desc"
) -> PageDocument[ComparisonDocument]:
    """List the team's comparisons."""
    page = comparisons.page(session, caller.team_id, limit=limit, after=after, order=order)
    return page_document(page, comparison_document)


@router.get("/{comparison_id}", response_model=ComparisonDocument)
def get_comparison(request: Request, comparison_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return one comparison."""
    return answer(request, comparison_document(comparisons.get(session, caller.team_id, comparison_id)))
