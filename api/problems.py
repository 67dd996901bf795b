"""Every error of the service as one problem document (RFC 9457). Knows no route and no database.

A problem has `type`, `title`, `status`, `detail`, `code`, `request_id` and `errors`; each error names a place (JSON
pointer, or line and column of a file), what was found (at most 80 escaped characters), what was expected and the fix.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from deft.errors import DeftError, Finding, shown

MEDIA_TYPE = "application/problem+json"
SHOWN_FINDINGS = 50
RETRY_AFTER_SECONDS = 5

CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media",
}
"""Codes of the errors that the web framework raises itself."""


class ProblemError(BaseModel):
    """One thing wrong with the request, and how to put it right."""

    code: str
    found: str = Field(description="What was sent, at most 80 escaped characters.")
    expected: str
    fix: str
    pointer: str | None = Field(None, description="JSON Pointer (RFC 6901) into the request body.")
    line: int | None = Field(None, description="Line or record number of the uploaded file, from 1.")
    column: str | None = Field(None, description="Name of the field of the file, of the form or of the query.")
    count: int = Field(1, description="How many places have this error.")


class Problem(BaseModel):
    """A problem document (RFC 9457); it is sent as `application/problem+json`."""

    type: str = Field(description="`urn:deft:problem:` and the code.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; programs should branch on it.")
    request_id: str = Field(description="The same as in the header `X-Request-Id`.")
    errors: list[ProblemError] = Field(default_factory=list)


DESCRIPTIONS: Mapping[int, str] = {
    401: "No valid key.",
    403: "Not with this key, or no longer handed out.",
    404: "Not there, or not this team's.",
    409: "The state of the thing, or the Idempotency-Key, does not allow this.",
    413: "The body is over the limit.",
    415: "The content type or encoding is not taken.",
    416: "The range begins behind the end.",
    422: "Not valid; `errors` says where and why.",
    500: "The service failed.",
    503: "The database is away; try again after `Retry-After` seconds.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of these *statuses*."""
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


def request_id_of(connection: HTTPConnection) -> str:
    """Return the id that the outermost middleware gave to the request."""
    return str(connection.scope.get("state", {}).get("request_id", "req_unknown"))


def problem(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    *,
    findings: Sequence[Finding] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the response that tells of one error."""
    body: dict[str, Any] = {
        "type": f"urn:deft:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "errors": [_error(finding) for finding in findings[:SHOWN_FINDINGS]],
    }
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _error(finding: Finding) -> dict[str, Any]:
    """Return *finding* with a place, the whole body if it names none, and at most 80 characters of what was found."""
    error = {**finding.as_dict(), "found": shown(finding.found)}
    if not error.keys() & {"pointer", "line", "column"}:
        error["pointer"] = ""
    return error


def headers_of(error: DeftError) -> dict[str, str]:
    """Return the headers that belong to *error*: how to authenticate, or when to try again."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": 'Bearer realm="deft"'}
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def problem_of(request_id: str, error: DeftError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response for one of our own errors."""
    return problem(
        request_id,
        error.status,
        error.error_code,
        error.message,
        findings=error.findings,
        headers={**headers_of(error), **(headers or {})},
    )
