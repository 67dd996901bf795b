"""One request and its answer: authentication, retries with an idempotency key, errors. It knows no endpoint."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from deft_client.errors import Unavailable, UnexpectedAnswer, Unreachable, from_response

RETRIED_STATUSES = frozenset({502, 503, 504})
MAKING = frozenset({"POST", "PUT"})
LONGEST_PAUSE_SECONDS = 8.0

Json = dict[str, Any]
Content = Callable[[], Mapping[str, Any]]
"""Gives the keyword arguments that make a request's body; called once an attempt, so that files are read anew."""


class Exchange:
    """Sends requests over one pool of connections.

    A request that got no answer, or 502, 503 or 504, is sent again up to *attempts* times with growing pauses. What
    makes something carries one `Idempotency-Key` for all its attempts, so that the service does once what was asked.
    """

    def __init__(self, http: httpx2.Client, *, attempts: int, pause: Callable[[float], None] = time.sleep) -> None:
        self.http = http
        self.attempts = attempts
        self.pause = pause

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Send a request and return the JSON of its answer; None for 204 and 304."""
        response = self.send(
            method, path, params=params, content=content, headers=headers, idempotency_key=idempotency_key
        )
        return read_json(response)

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx2.Response:
        """Send a request and return its answer, read.

        Raises:
            ServiceError: the service answered with status 400 or higher.
            Unreachable: it did not answer in any attempt.
        """
        sent = dict(headers or {})
        if method in MAKING:
            sent["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        query = {name: value for name, value in (params or {}).items() if value is not None}
        for attempt in range(1, self.attempts + 1):
            body = content() if content is not None else {}
            try:
                response = self.http.request(method, path, params=query, headers=sent, **body)
            except httpx2.TransportError as error:
                if attempt == self.attempts or isinstance(error, httpx2.UnsupportedProtocol):
                    raise self.unreachable(error) from error
                self.pause(pause_seconds(attempt))
                continue
            if response.status_code in RETRIED_STATUSES and attempt < self.attempts:
                self.pause(pause_seconds(attempt, response))
                continue
            if response.status_code >= 400:
                raise from_response(response)
            return response
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """Open the answer of a GET for reading in pieces; no retries: downloads resume by themselves.

        Raises:
            ServiceError: the service answered with status 400 or higher.
            Unreachable: the connection failed or broke.
        """
        try:
            with self.http.stream("GET", path, headers=dict(headers)) as response:
                if response.status_code >= 400:
                    response.read()
                    raise from_response(response)
                yield response
        except httpx2.TransportError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Unreachable:
        """Return the error for a request that got no answer because of *error*."""
        reason = str(error) or type(error).__name__
        return Unreachable(f"no answer from {self.http.base_url}: {reason}")


def pause_seconds(attempt: int, response: httpx2.Response | None = None) -> float:
    """Return the pause after failed *attempt* (1, 2, ...): what Retry-After says, else 0.5, 1, 2, ... seconds."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    seconds = float(asked) if asked.isdigit() else 0.5 * 2 ** (attempt - 1)
    return min(seconds, LONGEST_PAUSE_SECONDS)


def read_json(response: httpx2.Response) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of *response*.

    Raises:
        UnexpectedAnswer: it is none, so something else than the service answered.
    """
    if response.status_code in (204, 304):
        return None
    try:
        return response.json()
    except ValueError as error:
        kind = response.headers.get("content-type", "no type")
        raise UnexpectedAnswer(f"{response.request.url} answered with {kind} where JSON was expected") from error


def is_passing(error: Exception) -> bool:
    """Whether *error* may go away by itself, so that someone who waits should go on waiting."""
    return isinstance(error, Unreachable | Unavailable)
