"""`/v1/models`: the base models that jobs may name."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import Response

from api.bodies import body_of
from api.documents import ModelDocument, PageDocument, model_document
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.services import CallerOf, Reading, ServicesOf, Writing
from store import models
from store.idempotency import StoredReply
from store.tables import Model

router = APIRouter(prefix="/models", tags=["models"])


class ModelRequest(BaseModel):
    """A folder of the service's machine below an allowed root, or a model of the Hub at one commit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=64)
    folder: str | None = Field(None, max_length=4096)
    hub_id: str | None = Field(None, max_length=200)
    revision: str | None = Field(None, max_length=64, description="The commit: 40 hex digits.")


MODEL_REQUEST = TypeAdapter(ModelRequest)


@router.get("")
def list_models(
    session: Reading, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, after: After = None, order: Order = "desc"
) -> PageDocument[ModelDocument]:
    """List the models that the team sees."""
    page = models.page(session, caller.team_id, limit=limit, after=after, order=order)
    return page_document(page, model_document)


@router.post(
    "",
    status_code=201,
    response_model=ModelDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(MODEL_REQUEST),
)
def register_model(
    body: Annotated[ModelRequest, Depends(body_of(MODEL_REQUEST))],
    session: Writing,
    services: ServicesOf,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Register a model: a folder below one of the operator's roots, or a pinned revision of the Hub."""

    def register() -> Model:
        return models.register(
            session,
            caller.team_id,
            body.name,
            roots=services.settings.model_roots,
            folder=None if body.folder is None else Path(body.folder),
            hub_id=body.hub_id,
            revision=body.revision,
        )

    def make() -> StoredReply:
        row = register()
        return reply(201, model_document(row), f"/v1/models/{row.id}")

    return once.do(session, make)


@router.get("/{model_id}")
def get_model(model_id: str, session: Reading, caller: CallerOf) -> ModelDocument:
    """Return a model by its id or name."""
    return model_document(models.get(session, caller.team_id, model_id))
