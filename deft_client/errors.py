"""What can go wrong between a client and the service, built from the service's problem documents (RFC 9457).

ClientError                    anything below
+-- ServiceError               the service answered with an error: status, code, request_id, errors
|   +-- BadRequest 400, NotAuthenticated 401, NotPermitted 403, NotFound 404, Conflict 409, TooLarge 413,
|   |   UnsupportedMedia 415, RangeNotSatisfiable 416, InvalidInput 422, TooManyRequests 429
|   +-- ServerError 5xx
|       +-- Unavailable 503
+-- Unreachable                no answer at all
+-- UnexpectedAnswer           an answer that is not the service's
+-- DownloadCorrupt            a file whose hash is not the recorded one
+-- WaitedTooLong              a job did not end within the time given

A caller that handles `ClientError` has handled everything that this package raises on purpose.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx2


class ClientError(Exception):
    """Something went wrong between the client and the service."""


class Unreachable(ClientError):
    """The service does not answer."""


class UnexpectedAnswer(ClientError):
    """What answered is not the service, or not a version that this client knows."""


class DownloadCorrupt(ClientError):
    """A downloaded file is not what the service recorded."""


class WaitedTooLong(ClientError):
    """The job did not end within the time that was given to `wait`."""


class ServiceError(ClientError):
    """The service refused or failed: the parts of its problem document."""

    statuses: ClassVar[tuple[int, ...]] = ()

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", f"http_{status}"))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail") or self.title or f"the service answered with status {status}")
        self.request_id: str | None = problem.get("request_id")
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or [])
        self.problem = dict(problem)
        super().__init__(self.detail)


class BadRequest(ServiceError):
    """The request could not be read."""

    statuses = (400,)


class NotAuthenticated(ServiceError):
    """The API key is missing or not valid."""

    statuses = (401,)


class NotPermitted(ServiceError):
    """This API key may not do that."""

    statuses = (403,)


class NotFound(ServiceError):
    """There is no such thing, or it belongs to another team."""

    statuses = (404,)


class Conflict(ServiceError):
    """The state of the thing does not allow this, or the Idempotency-Key was used for something else."""

    statuses = (409, 412)


class TooLarge(ServiceError):
    """The body is larger than the service takes."""

    statuses = (413,)


class UnsupportedMedia(ServiceError):
    """The content type or encoding is not supported."""

    statuses = (415,)


class RangeNotSatisfiable(ServiceError):
    """The range lies outside the file."""

    statuses = (416,)


class InvalidInput(ServiceError):
    """What was sent is not valid; `errors` lists the places, what was found, what was expected, and the fix."""

    statuses = (422,)


class TooManyRequests(ServiceError):
    """A rate limit was reached."""

    statuses = (429,)


class ServerError(ServiceError):
    """The service failed."""


class Unavailable(ServerError):
    """The service, or something that it needs, does not answer now."""

    statuses = (503,)


_BY_STATUS: dict[int, type[ServiceError]] = {
    status: kind
    for kind in (
        BadRequest,
        NotAuthenticated,
        NotPermitted,
        NotFound,
        Conflict,
        TooLarge,
        UnsupportedMedia,
        RangeNotSatisfiable,
        InvalidInput,
        TooManyRequests,
        Unavailable,
    )
    for status in kind.statuses
}


def from_response(response: httpx2.Response) -> ServiceError:
    """Return the error that *response* (status 400 or higher, body read) stands for."""
    try:
        document = response.json()
    except ValueError:
        document = None
    problem = document if isinstance(document, dict) else {"detail": _plain_detail(response)}
    problem.setdefault("request_id", response.headers.get("x-request-id"))
    fallback = ServerError if response.status_code >= 500 else ServiceError
    return _BY_STATUS.get(response.status_code, fallback)(response.status_code, problem)


def _plain_detail(response: httpx2.Response) -> str:
    return f"{response.request.method} {response.request.url.path}: status {response.status_code}, no problem document"
