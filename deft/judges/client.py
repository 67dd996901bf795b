"""A judge behind an OpenAI-compatible endpoint, by the package `openai`, which also waits and tries again.

After 429, 5xx, a time-out or a lost connection it tries again, later each time, as long as `Retry-After` says where the
server does. Knows no question's meaning. No error repeats what was asked or answered, no reply the key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deft.endpoints import choice_in, not_understood, open_client, told
from deft.judges.journal import Reply, plain

if TYPE_CHECKING:
    from deft.endpoints import Endpoint
    from deft.judges.templates import Question
    from deft.specs import Judge


CUT_SHORT = ("length", "max_tokens", "model_length", "content_filter", "safety")
"""Reasons for the end of a reply that was not at its end, by different servers: what is there may be half a verdict."""


THOUGHTS = ("reasoning", "thinking", "summary")
"""What the types of those parts of a message have in their names that are no reply, by different servers."""


class EndpointJudge:
    """Asks one model at one endpoint; safe to call from several threads."""

    def __init__(self, endpoint: Endpoint, judge: Judge) -> None:
        self._client = open_client(endpoint, timeout_seconds=judge.timeout_seconds, retries=judge.retries)
        self._judge, self._endpoint = judge, endpoint

    def __call__(self, question: Question) -> Reply:
        """Return the reply to *question*.

        Raises:
            RequestRefused: the endpoint does not take this one.
            InvalidInput: it takes none: the key or the model's name is wrong.
            Unavailable: it does not answer, whatever was tried.
        """
        import openai

        asked: dict[str, Any] = {"temperature": self._judge.temperature}
        own = {name: value for name, value in asked.items() if value is not None}
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._judge.model,
                messages=question.messages,  # type: ignore[arg-type]  # the package's own union of typed dicts
                max_tokens=self._judge.max_tokens,
                **own,
            )
            reply = _reply(raw.parse(), raw.retries_taken)
            return replace(reply, text=self._endpoint.without_key(reply.text))
        except openai.APIError as error:
            raise told(error, self._judge.endpoint, "/judge") from None
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            raise not_understood(self._judge.endpoint) from error


def _reply(completion: Any, retries: int) -> Reply:  # noqa: ANN401 -- whatever the server sent
    """Return the reply; its text is none where the server gives no choice or no message, as one that filters may.

    One that the server cut, at the most tokens or where its filter struck, is marked as such.
    """
    choice = choice_in(completion)
    message = None if choice is None else choice.message
    reply = Reply(
        text="" if message is None else _text_of(message.content),
        prompt_tokens=getattr(completion.usage, "prompt_tokens", 0),
        completion_tokens=getattr(completion.usage, "completion_tokens", 0),
        retries=retries,
        is_cut=choice is not None and str(choice.finish_reason).lower() in CUT_SHORT,
    )
    return plain(reply)


def _text_of(content: Any) -> Any:  # noqa: ANN401 -- whatever the server sent
    """Return the text of a message's content, which some servers send in parts; what the model thought is none."""
    if not isinstance(content, list):
        return content
    parts = (part for part in content if isinstance(part, dict) and not _is_thought(part))
    return "".join(str(part.get("text") or "") for part in parts)


def _is_thought(part: dict[str, Any]) -> bool:
    return any(name in str(part.get("type")) for name in THOUGHTS)
