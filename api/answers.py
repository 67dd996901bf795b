"""An answer that a caller may ask for again and again: its ETag, and 304 while nothing has changed."""

import hashlib

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.downloads import is_match


def answer(request: Request, document: BaseModel, *, version: int | None = None) -> Response:
    """Return *document* with an ETag, or 304 if the caller has it already.

    The ETag is the row's *version* and a hash of the document: a pipeline shows its children, and a queued job its
    place in the queue, which change while its own row does not.
    """
    body = document.model_dump_json().encode()
    digest = hashlib.sha256(body).hexdigest()[:24]
    etag = f'"{digest}"' if version is None else f'"{version}-{digest}"'
    headers = {"ETag": etag}
    if is_match(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
