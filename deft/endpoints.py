"""An OpenAI-compatible endpoint: where it is, its key, and how the package `openai` tells its troubles. Torch-free.

The names are those of the package `openai`. A spec names an endpoint; the worker sets these variables for the child of
a job that names one, a person sets them for `python -m deft`. Nothing here reads them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deft.errors import Finding, InvalidInput, Unavailable, shown

if TYPE_CHECKING:
    from openai import OpenAI

URL, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"
SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address (up to and with `/v1`) and the key, which no representation shows."""

    url: str
    key: str = field(default="none", repr=False)

    def without_key(self, text: str) -> str:
        """Return *text*, which the endpoint sent and which will be stored, with `[key]` wherever it repeats the key.

        A key of fewer than `SHORTEST_SECRET` characters is none: taking it away would change words.
        """
        return text.replace(self.key, "[key]") if len(self.key) >= SHORTEST_SECRET else text


PASSING = (408, 409, 429)
"""Statuses below 500 that say nothing of the request itself; the package tries again after these and after 5xx."""


BROKEN_OFF = ("error", "abort")
"""Reasons for the end of an answer that the server and not the model ended."""


class RequestRefused(Exception):
    """The endpoint does not take this request (too long, filtered); it may take others."""


def endpoint_in(environment: Mapping[str, str]) -> Endpoint | None:
    """Return the endpoint that *environment* names, None where it names none."""
    url = environment.get(URL, "")
    return Endpoint(url, environment.get(KEY) or "none") if url else None


def no_endpoint(name: str, pointer: str) -> InvalidInput:
    """Return the refusal of a job whose endpoint is not known where it runs."""
    finding = Finding(
        code="unknown_endpoint",
        pointer=pointer,
        found=name,
        expected="an endpoint that the operator of the workers has set",
        fix=f"ask for it to be added to DEFT_ENDPOINTS; without a service, set {URL} and {KEY}",
    )
    return InvalidInput(f"there is no endpoint `{name}` on this worker", code="unknown_endpoint", findings=[finding])


def open_client(endpoint: Endpoint, *, timeout_seconds: float, retries: int) -> OpenAI:
    """Return a client of *endpoint*."""
    from openai import OpenAI

    return OpenAI(base_url=endpoint.url, api_key=endpoint.key, timeout=timeout_seconds, max_retries=retries)


def told(error: Exception, endpoint: str, pointer: str) -> Exception:
    """Return *error* of the package as ours; *pointer* is that of the spec's part that names the endpoint."""
    import openai

    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return _refused(error, endpoint, pointer, "endpoint_refused", "a key that it takes", "have the key corrected")
    if isinstance(error, openai.NotFoundError):
        fix = "name a model that the endpoint serves"
        return _refused(error, endpoint, f"{pointer}/model", "unknown_judge_model", "a model that it has", fix)
    if isinstance(error, openai.APIResponseValidationError):
        return not_understood(endpoint)
    if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in PASSING:
        return RequestRefused(f"status {error.status_code}")
    reason = f"status {error.status_code}" if isinstance(error, openai.APIStatusError) else type(error).__name__
    return Unavailable(f"the endpoint `{endpoint}` does not answer ({reason})", code="endpoint_unreachable")


def _refused(error: Any, endpoint: str, pointer: str, code: str, expected: str, fix: str) -> InvalidInput:  # noqa: ANN401 -- a status error
    finding = Finding(code, f"status {error.status_code}", expected, fix, pointer=pointer)
    return InvalidInput(f"the endpoint `{endpoint}` refuses every question", code=code, findings=[finding])


def choice_in(completion: Any) -> Any | None:  # noqa: ANN401 -- whatever the server sent
    """Return the first choice of *completion*; None where the server gives none, as one that filters may.

    Raises:
        ValueError: it is no completion: an error told with status 200, or a document without choices.
    """
    if completion.choices is None or getattr(completion, "error", None) or completion.object == "error":
        raise ValueError("no completion")
    choice = completion.choices[0] if completion.choices else None
    if choice is not None and (choice.finish_reason in BROKEN_OFF or getattr(choice, "error", None)):
        raise ValueError("an error in the place of a choice")
    return choice


def not_understood(endpoint: str) -> Unavailable:
    """Return the failure of an endpoint that answers in another form than OpenAI's."""
    return Unavailable(
        f"the endpoint `{shown(endpoint)}` does not answer as an OpenAI-compatible one does",
        code="endpoint_unreachable",
    )
