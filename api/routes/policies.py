"""`/v1/policies`: the rules of the promotion gate."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import TypeAdapter
from starlette.responses import Response

from api.bodies import body_of
from api.documents import PageDocument
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.release_documents import PolicyDocument, policy_document
from api.services import CallerOf, Reading, Writing
from deft.specs.releases import PolicySpec
from store import policies
from store.idempotency import StoredReply

router = APIRouter(prefix="/policies", tags=["releases"])

POLICY_SPEC: TypeAdapter[PolicySpec] = TypeAdapter(PolicySpec)


@router.post(
    "",
    status_code=201,
    response_model=PolicyDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(POLICY_SPEC),
)
def create_policy(
    spec: Annotated[PolicySpec, Depends(body_of(POLICY_SPEC))], session: Writing, caller: CallerOf, once: OnceOf
) -> Response:
    """Make a policy: a gain, a forgetting and a safety clause, and how many must approve. It is never changed."""

    def make() -> StoredReply:
        row = policies.create(session, caller, spec)
        return reply(201, policy_document(row), f"/v1/policies/{row.id}")

    return once.do(session, make)


@router.get("")
def list_policies(
    session: Reading, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, after: After = None, order: Order = "desc"
) -> PageDocument[PolicyDocument]:
    """List the team's policies."""
    page = policies.page(session, caller.team_id, limit=limit, after=after, order=order)
    return page_document(page, policy_document)


@router.get("/{policy_id}")
def get_policy(policy_id: str, session: Reading, caller: CallerOf) -> PolicyDocument:
    """Return a policy by its id or name."""
    return policy_document(policies.get(session, caller.team_id, policy_id))
