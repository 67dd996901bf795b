"""Answers from an OpenAI-compatible server (vLLM), by the route that takes token ids: the prompts are ours, bit by bit.

The server returns text, which our tokenizer makes ids again; where that is not the very ids it generated, only numbers
of tokens and KL can tell. Knows no adapter: the server has the systems loaded under names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deft.endpoints import Endpoint, RequestRefused, no_endpoint, not_understood, open_client, told
from deft.errors import Finding, InvalidInput
from deft.evaluation.generation import Answer, Decoding, as_answer
from deft.tokens import encode_texts

if TYPE_CHECKING:
    from openai import OpenAI
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.evaluation.conversations import Answering
    from deft.specs import Sampling, Server

RECIPE = "served-1"
"""Name and version of this decoding."""

POINTER = "/options/server"


@dataclass(frozen=True, slots=True)
class Served:
    """Answers as one *system* by the server's model of that name; see `deft.evaluation.conversations.Answering`."""

    client: OpenAI
    endpoint: Endpoint
    server: Server
    system: str
    tokenizer: Tokenizer
    decoding: Decoding
    sampling: Sampling | None = None

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        cut_at_marks: Sequence[bool],
        seeds: Sequence[int] | None,
        on_progress: Callable[[int], None],
    ) -> list[Answer]:
        """Answer *prompts*, several at a time.

        Raises:
            InvalidInput: the server refuses the key, the model or a prompt.
            Unavailable: it does not answer.
        """
        each_seed: Sequence[int | None] = [None] * len(prompts) if seeds is None else seeds
        with ThreadPoolExecutor(self.server.concurrency, "server") as pool:
            futures = [pool.submit(self._one, *each) for each in zip(prompts, cut_at_marks, each_seed, strict=True)]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    on_progress(done)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in futures]

    def _one(self, prompt: Sequence[int], is_cut: bool, seed: int | None) -> Answer:
        import openai

        most, own = self.decoding.max_new_tokens, _settings(self.sampling, seed)
        try:
            asked: Any = self.client.completions
            found = asked.create(model=self.server.models[self.system], prompt=list(prompt), max_tokens=most, **own)
            choice = found.choices[0]
            text = self.endpoint.without_key(choice.text)
            return _answer(self.tokenizer, self.decoding, text, is_cut, is_ended=choice.finish_reason == "stop")
        except openai.APIError as error:
            raise _told(error, self.server.endpoint, len(prompt), most) from None
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            raise not_understood(self.server.endpoint) from error


def by_server(
    endpoint: Endpoint | None,
    server: Server,
    system: str,
    tokenizer: Tokenizer,
    decoding: Decoding,
    sampling: Sampling | None = None,
) -> Answering:
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


def _told(error: Exception, endpoint: str, prompt_tokens: int, most: int) -> Exception:
    found = told(error, endpoint, POINTER)
    if not isinstance(found, RequestRefused):
        return found
    finding = Finding(
        code="server_refused",
        pointer=POINTER,
        found=f"{found} for a prompt of {prompt_tokens:,} tokens and an answer of at most {most:,}",
        expected="a server that takes every prompt, as token ids, with room for its answer",
        fix="have the server's longest context raised, or ask for smaller tokens.max_prompt_tokens or "
        "options.max_new_tokens",
    )
    return InvalidInput(
        f"the server `{endpoint}` refuses a prompt ({found})", code="server_refused", findings=[finding]
    )
