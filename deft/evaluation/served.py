"""Answers from an OpenAI-compatible server (vLLM), by the route that takes token ids: the prompts are ours, bit by bit.

The server returns text, which our tokenizer makes ids again; where that is not the very ids it generated, only numbers
of tokens and KL can tell. Knows no adapter: the server has the systems loaded under names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft.endpoints import Endpoint, RequestRefused, choice_in, no_endpoint, not_understood, open_client, told
from deft.errors import Finding, InvalidInput
from deft.evaluation.generation import Answer, Decoding, Keep, Questions, as_answer, unkept
from deft.tokens import encode_texts

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.specs import Sampling, Server

RECIPE = "served-1"
"""Name and version of this decoding."""

POINTER = "/options/server"


class PromptsRefused(Exception):
    """A server does not take a *number* of prompts, the *first* at that place; all others are answered."""

    def __init__(self, endpoint: str, number: int, first: int, reason: str) -> None:
        super().__init__(reason)
        self.endpoint, self.number, self.first, self.reason = endpoint, number, first, reason

    def told(self, first: str) -> InvalidInput:
        """Return it as the failure of an evaluation; *first* names the first prompt."""
        finding = Finding(
            code="server_refused",
            pointer=POINTER,
            found=f"{self.number:,} refused, the first of them {first}: {self.reason}",
            expected="a server that takes every prompt, as token ids, with room for its answer",
            fix="have the server's longest context raised, or its filter taken off, and post the same job again, which "
            "asks for these alone; or ask for smaller tokens.max_prompt_tokens or options.max_new_tokens",
        )
        prompts = "a prompt" if self.number == 1 else f"{self.number:,} prompts"
        message = f"the server `{self.endpoint}` refuses {prompts} ({self.reason})"
        return InvalidInput(message, code=finding.code, findings=[finding])


@contextmanager
def rows_named(name_of: Callable[[int], str]) -> Iterator[None]:
    """Have refusals within told with the name of the first prompt, by its place.

    Raises:
        InvalidInput: in place of PromptsRefused.
    """
    try:
        yield
    except PromptsRefused as error:
        raise error.told(name_of(error.first)) from None


@dataclass(frozen=True, slots=True)
class Served:
    """Answers as one *system* by the server's model of that name; see `deft.evaluation.answer_journals.Asking`."""

    client: OpenAI
    endpoint: Endpoint
    server: Server
    system: str
    tokenizer: Tokenizer
    decoding: Decoding
    sampling: Sampling | None = None

    def __call__(self, questions: Questions, on_progress: Callable[[int], None], keep: Keep = unkept) -> list[Answer]:
        """Answer *questions*, several at a time; *keep* gets each answer by itself, in the thread that received it.

        Raises:
            InvalidInput: the server refuses the key or the model.
            PromptsRefused: it refuses some prompts, and has answered all others.
            Unavailable: it does not answer.
        """
        answers: dict[int, Answer] = {}

        def answer(place: int) -> None:
            answers[place] = self._one(questions, place)
            keep({place: answers[place]})

        with ThreadPoolExecutor(self.server.concurrency, "server") as pool:
            futures = {pool.submit(answer, place): place for place in range(len(questions))}
            try:
                refused = _refused(futures, on_progress)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        if refused:
            first = min(refused)
            size = f"{len(questions.prompts[first]):,} tokens and an answer of at most {self.decoding.max_new_tokens:,}"
            raise PromptsRefused(self.server.endpoint, len(refused), first, f"{refused[first]} for {size}")
        return [answers[place] for place in range(len(questions))]

    def _one(self, questions: Questions, place: int) -> Answer:
        import openai

        prompt, most = list(questions.prompts[place]), self.decoding.max_new_tokens
        own = _settings(self.sampling, questions.seed(place))
        try:
            asked: Any = self.client.completions
            found = asked.create(model=self.server.models[self.system], prompt=prompt, max_tokens=most, **own)
            choice = choice_in(found)
            if choice is None or choice.text is None:
                raise RequestRefused("no answer in the reply")
            if choice.finish_reason == "content_filter":
                raise RequestRefused("the answer was filtered")
            text = self.endpoint.without_key(choice.text)
            is_cut, is_ended = questions.cut_at_marks[place], choice.finish_reason == "stop"
            return _answer(self.tokenizer, self.decoding, text, is_cut, is_ended=is_ended)
        except openai.APIError as error:
            raise told(error, self.server.endpoint, POINTER) from None
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            raise not_understood(self.server.endpoint) from error


def _refused(futures: Mapping[Future[None], int], on_progress: Callable[[int], None]) -> dict[int, str]:
    """Wait for *futures* of prompts, by their places; return why those were refused that were."""
    found: dict[int, str] = {}
    for done, future in enumerate(as_completed(futures), start=1):
        try:
            future.result()
        except RequestRefused as error:
            found[futures[future]] = str(error)
        on_progress(done)
    return found


def by_server(
    endpoint: Endpoint | None,
    server: Server,
    system: str,
    tokenizer: Tokenizer,
    decoding: Decoding,
    sampling: Sampling | None = None,
) -> Served:
    """Return what answers as *system* at *endpoint*.

    Raises:
        InvalidInput: there is no endpoint.
    """
    if endpoint is None:
        raise no_endpoint(server.endpoint, f"{POINTER}/endpoint")
    client = open_client(endpoint, timeout_seconds=server.timeout_seconds, retries=server.retries)
    return Served(client, endpoint, server, system, tokenizer, decoding, sampling)


def _settings(sampling: Sampling | None, seed: int | None) -> dict[str, Any]:
    if sampling is None or seed is None:
        return {"temperature": 0.0}
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed % 2**31}


def _answer(tokenizer: Tokenizer, decoding: Decoding, text: str, is_cut: bool, *, is_ended: bool) -> Answer:
    ids = encode_texts(tokenizer, [text])[0][: decoding.max_new_tokens]
    return as_answer(tokenizer, [*ids, min(decoding.end_ids)] if is_ended else ids, decoding.end_ids, is_cut)
