"""`/v1/datasets`: upload, list, get, download. Every row is checked before anything is stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.documents import ArtifactDocument, artifact_document
from api.once import Once, OnceOf, reply
from api.problems import errors
from api.routes.artifacts import add_routes
from api.services import CallerOf, Services, ServicesOf
from api.uploads import Upload, options_from, receive_form, receive_raw
from deft.data.datasets import import_files
from deft.data.prompt_sets import is_prompt_set
from deft.specs import ArtifactKind
from store import artifacts
from store.accounts import Caller
from store.idempotency import StoredReply

router = APIRouter(prefix="/datasets", tags=["datasets"])
add_routes(router, "dataset", "prompt_set")

FORM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "name": {"type": "string"},
                        "format": {"type": "string", "default": "auto"},
                        "columns": {"type": "string", "description": "A JSON object: our field to the file's column."},
                        "on_bad_row": {"enum": ["refuse", "skip"], "default": "refuse"},
                    },
                }
            }
        },
    }
}
RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


UNPACKED_TIMES = 4
"""A file may unpack to this many times the upload limit: text packs to a third, bombs to a thousandth."""


@contextmanager
def staged(services: Services, kind: str) -> Iterator[Path]:
    """Yield a new staging folder; what is left of it at the end is removed."""
    folder = services.files.stage(kind)
    try:
        yield folder
    finally:
        services.files.discard(folder)


@router.post(
    "",
    status_code=201,
    response_model=ArtifactDocument,
    responses=errors(409, 413, 415),
    openapi_extra=FORM_BODY,
)
async def create_dataset(request: Request, services: ServicesOf, caller: CallerOf, once: OnceOf) -> Response:
    """Upload one or more files as one dataset. A bad row refuses the upload, or is reported with `on_bad_row: skip`."""
    with staged(services, "upload") as folder:
        upload = await receive_form(request, folder)
        request.state.body_hash = upload.digest
        return await run_in_threadpool(publish, services, caller, once, upload)


@router.put(
    "",
    status_code=201,
    response_model=ArtifactDocument,
    responses=errors(413, 415),
    openapi_extra=RAW_BODY,
)
async def put_dataset(
    request: Request,
    services: ServicesOf,
    caller: CallerOf,
    once: OnceOf,
    name: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    format: Annotated[str, Query(min_length=1, max_length=40)] = "auto",  # noqa: A002 - the parameter's name
    on_bad_row: Literal["refuse", "skip"] = "refuse",
    filename: Annotated[str | None, Query(max_length=1000, description="Its suffix says what the file is.")] = None,
) -> Response:
    """Upload one file as a dataset, streamed as it is."""
    options = options_from({"name": name, "format": format, "on_bad_row": on_bad_row})
    with staged(services, "upload") as folder:
        upload = await receive_raw(request, folder, filename, options)
        request.state.body_hash = upload.digest
        return await run_in_threadpool(publish, services, caller, once, upload)


def publish(services: Services, caller: Caller, once: Once, upload: Upload) -> Response:
    """Check every row, then store the dataset; a refused upload leaves nothing.

    Raises:
        InvalidRows: rows cannot be used; the findings name line, column, what was found and the fix.
    """
    earlier = once.earlier(services)
    if earlier is not None:
        return earlier
    options = upload.options
    with staged(services, "dataset") as out:
        summary = import_files(
            upload.paths,
            out,
            format=options.format,
            columns=options.columns,
            on_bad_row=options.on_bad_row,
            max_bytes=UNPACKED_TIMES * services.settings.max_upload_bytes,
        )
        kind: ArtifactKind = "prompt_set" if is_prompt_set(out) else "dataset"
        sealed = services.files.seal(kind, out, summary, name=options.name)

    with services.database.write() as session:

        def make() -> StoredReply:
            row = artifacts.record(session, caller.team_id, sealed)
            return reply(201, artifact_document(row), f"/v1/datasets/{row.id}")

        return once.do(session, make)
