"""The OpenAPI document: what FastAPI derives, plus the bodies that we parse ourselves and the problem media type.

It knows no route and no application: both are handed to it. `api.openapi` writes the committed copy.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from api.problems import MEDIA_TYPE

REFERENCES = "#/components/schemas/{model}"


def json_body(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body with `api.bodies.body_of`."""
    schema = adapter.json_schema(ref_template=REFERENCES)
    definitions = schema.pop("$defs", {})
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}, "x-definitions": definitions}


def install(app: FastAPI) -> None:
    """Make *app* answer `/openapi.json` with our document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = document["components"]["schemas"]
    for path in document["paths"].values():
        for operation in path.values():
            schemas.update(operation.pop("x-definitions", {}))
            for status, response in operation["responses"].items():
                _use_problem_type(status, response)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _use_problem_type(status: str, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if status[:1] in "45" and schema.get("$ref", "").endswith("/Problem"):
        content[MEDIA_TYPE] = content.pop("application/json")
