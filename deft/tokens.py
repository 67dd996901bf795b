"""Examples as token ids. Torch-free; knows no model, but the tokenizer that belongs to one.

Exactly: prompt and response are tokenised apart and concatenated. What the tokenizer itself puts before a text (BOS)
stands once at the start of the prompt and survives its cut on the left; a chat template has the last word on its own
specials. Nothing is put around a response; its end token is the losses' business (`end_token_id`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from deft.errors import Finding, InvalidInput, ModelNotUsable, shown
from deft.examples import is_transcript
from deft.tokenizer import CONVERSATION, PROBE, SYSTEM, rendered
from deft.tokenizer import special_token_ids as special_token_ids
from deft.tokenizer import tokenizer_hash as tokenizer_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.examples import Example, Message
    from deft.specs import TokenOptions

EXAMPLES_PER_BATCH = 2048
TEMPLATE_REFUSES = "chat_template_refuses"
ASSISTANT_MARK = "Assistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """The token ids of one example.

    *prompt_ids* begin with the tokenizer's own specials; *response_ids* (best first) hold no special that the text
    did not have, and no end token; *is_cut* says which responses lost tokens on the right, so that they do not end,
    *is_prompt_cut* whether the prompt lost its beginning.
    """

    prompt_ids: list[int]
    response_ids: list[list[int]]
    is_cut: list[bool]
    is_prompt_cut: bool = field(default=False, compare=False)


def encode_examples(
    examples: Iterable[Example], tokenizer: Tokenizer, options: TokenOptions, vocabulary_size: int | None = None
) -> list[TokenizedExample]:
    """Return the token ids of *examples*, in order, all of them below *vocabulary_size* where it is given.

    Raises:
        ModelNotUsable: an id is beyond *vocabulary_size*; findings name the source lines.
        InvalidInput: the tokenizer has no chat template and an example needs one, or it refuses a prompt, a prompt does
            not fit the template asked for, or a response has no tokens; findings name the source lines.
    """
    return list(iter_encoded(examples, tokenizer, options, vocabulary_size))


def iter_encoded(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    options: TokenOptions,
    vocabulary_size: int | None = None,
    *,
    allows_empty: bool = False,
) -> Iterator[TokenizedExample]:
    """Yield the token ids of *examples* in order, holding a few thousand examples at a time; as `encode_examples`.

    *allows_empty*: a response may have no tokens, as an answer may.
    """
    before = specials_before(tokenizer)
    for batch, texts in _text_batches(examples, tokenizer, options):
        ids = iter(encode_texts(tokenizer, [text for prompt, responses, _ in texts for text in (prompt, *responses)]))
        encoded = []
        for _, responses, has_specials in texts:
            prompt_ids = next(ids) if has_specials else before + next(ids)
            encoded.append(_cut(prompt_ids, [next(ids) for _ in responses], before, options))
        if not allows_empty:
            _refuse_empty(batch, [bool(tokens.prompt_ids) and all(tokens.response_ids) for tokens in encoded])
        _refuse_beyond(batch, [[tokens.prompt_ids, *tokens.response_ids] for tokens in encoded], vocabulary_size)
        yield from encoded


def iter_responses(
    examples: Iterable[Example], tokenizer: Tokenizer, options: TokenOptions, vocabulary_size: int | None = None
) -> Iterator[list[list[int]]]:
    """Yield the responses' ids of *examples* as `iter_encoded` gives them, at about a third of the cost.

    A prompt is tokenised only where its length decides how much of a response is cut: none is shorter than what is
    left beside the longest prompt.
    """
    before = specials_before(tokenizer)
    sure = options.max_total_tokens - options.max_prompt_tokens
    for batch, texts in _text_batches(examples, tokenizer, options):
        ids = iter(encode_texts(tokenizer, [text for _, responses, _ in texts for text in responses]))
        found = [[next(ids) for _ in responses] for _, responses, _ in texts]
        _refuse_empty(batch, [all(responses) for responses in found])
        unsure = [at for at, responses in enumerate(found) if max(map(len, responses)) > sure]
        prompts = encode_texts(tokenizer, [texts[at][0] for at in unsure])
        for at, prompt_ids in zip(unsure, prompts, strict=True):
            size = len(prompt_ids) + (0 if texts[at][2] else len(before))
            room = options.max_total_tokens - min(size, options.max_prompt_tokens)
            found[at] = [response if len(response) <= room else response[:room] for response in found[at]]
        _refuse_beyond(batch, found, vocabulary_size)
        yield from found


def _text_batches(
    examples: Iterable[Example], tokenizer: Tokenizer, options: TokenOptions
) -> Iterator[tuple[list[Example], list[tuple[str, list[str], bool]]]]:
    iterator = iter(examples)
    while batch := list(islice(iterator, EXAMPLES_PER_BATCH)):
        yield batch, [_texts(example, tokenizer, options.template) for example in batch]


def _texts(example: Example, tokenizer: Tokenizer, template: str) -> tuple[str, list[str], bool]:
    """Return prompt and responses as texts, and whether the prompt already has its specials."""
    prompt = example.prompt
    if template == "auto":
        template = "chat" if not isinstance(prompt, str) else "hh" if is_transcript(prompt) else "plain"
    if template == "chat":
        return _chat_prompt(example, tokenizer), list(example.responses), True
    if template == "plain":
        if not isinstance(prompt, str):
            raise _refusal(example, "a list of messages", "a text prompt", "use template `chat` or `hh`")
        return prompt, list(example.responses), False
    text = transcript_of(prompt)
    if not _ends_in_mark(text):
        raise _refusal(example, text[-40:], "a prompt that ends in `Assistant:`", "use template `plain` or `auto`")
    return text.rstrip(), [" " + response.strip() for response in example.responses], False


def _ends_in_mark(prompt: str) -> bool:
    return prompt.rstrip().endswith(ASSISTANT_MARK)


def _chat_prompt(example: Example, tokenizer: Tokenizer) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise _refusal(
            example,
            "a tokenizer without a chat template",
            "a tokenizer with a chat template",
            "use a model tuned for chat, or template `hh`, which writes the messages as Human: and Assistant: turns",
            code="no_chat_template",
        )
    prompt = example.prompt
    messages = _messages(prompt) if isinstance(prompt, str) else prompt
    try:
        return rendered(tokenizer, messages, add_generation_prompt=True)
    except Exception as error:  # a template is a program: it raises what it likes
        raise _refusal(
            example,
            f"the chat template says: {error}",
            "a prompt that the model's chat template takes",
            "change the row's turns as the template says (a system turn can begin the first user turn), or use "
            "template `hh`, which writes the messages as Human: and Assistant: turns",
            code=TEMPLATE_REFUSES,
        ) from error


def _messages(prompt: str) -> list[Message]:
    """Read a text prompt as messages: a transcript turn by turn, any other text as one user message."""
    pieces = _TURN.split("\n\n" + prompt.lstrip("\n").rstrip())
    if len(pieces) < 3 or pieces[0].strip() or not _ends_in_mark(prompt):
        return [{"role": "user", "content": prompt}]
    turns = list(zip(pieces[1::2], pieces[2::2], strict=True))[:-1]
    return [{"role": "user" if who == "Human" else "assistant", "content": text.strip()} for who, text in turns]


def transcript_of(prompt: str | list[Message]) -> str:
    """Return a text prompt as it is, messages as a transcript that ends in `Assistant:`."""
    if isinstance(prompt, str):
        return prompt
    names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}
    turns = [names.get(message["role"], "\n\n") + message["content"].strip() for message in prompt]
    return "".join(turns) + "\n\n" + ASSISTANT_MARK


def _cut(
    prompt_ids: list[int], responses: list[list[int]], before: list[int], options: TokenOptions
) -> TokenizedExample:
    is_prompt_cut = len(prompt_ids) > options.max_prompt_tokens
    if is_prompt_cut:
        kept = before if prompt_ids[: len(before)] == before else []
        kept = kept[: options.max_prompt_tokens]
        room = options.max_prompt_tokens - len(kept)
        prompt_ids = kept + prompt_ids[len(prompt_ids) - room :]
    room = options.max_total_tokens - len(prompt_ids)
    is_cut = [len(ids) > room for ids in responses]
    return TokenizedExample(prompt_ids, [ids[:room] for ids in responses], is_cut, is_prompt_cut)


def _refuse_empty(batch: Sequence[Example], is_full: Sequence[bool]) -> None:
    empty = [example for example, is_good in zip(batch, is_full, strict=True) if not is_good]
    if empty:
        findings = [
            Finding(
                code="no_tokens",
                line=example.source_line,
                found="a prompt or response without tokens",
                expected="at least one token",
                fix="remove the row, or import with on_bad_row=skip",
            )
            for example in empty[:20]
        ]
        lines = ", ".join(str(example.source_line) for example in empty[:20])
        raise InvalidInput(
            f"{len(empty)} rows have a prompt or response without tokens: lines {lines}", findings=findings
        )


def _refuse_beyond(batch: Sequence[Example], texts: Sequence[Sequence[Sequence[int]]], size: int | None) -> None:
    """Refuse examples of which one of the *texts* has an id of *size* or more, for which the model has no embedding."""
    if size is None:
        return
    largest = [max((max(own) for own in ids if own), default=0) for ids in texts]
    beyond = [(example, found) for example, found in zip(batch, largest, strict=True) if found >= size]
    if beyond:
        findings = [
            Finding(
                code="token_beyond_vocabulary",
                line=example.source_line,
                found=f"token id {found}",
                expected=f"ids below {size}, the model's vocabulary",
                fix="take the token out of the row's text, or use a model that has an embedding for it",
            )
            for example, found in beyond[:20]
        ]
        lines = ", ".join(str(example.source_line) for example, _ in beyond[:20])
        raise ModelNotUsable(
            f"{len(beyond)} rows hold a token that the model has no embedding for: lines {lines}", findings=findings
        )


def _refusal(example: Example, found: str, expected: str, fix: str, code: str = "wrong_template") -> InvalidInput:
    finding = Finding(
        code=code, line=example.source_line, column="prompt", found=shown(found), expected=expected, fix=fix
    )
    return InvalidInput(
        f"row of line {example.source_line}: expected {expected}, found {shown(found)}; {fix}", findings=[finding]
    )


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Return the ids of each text without any special added, by the Rust tokenizer on all cores where there is one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def specials_before(tokenizer: Tokenizer) -> list[int]:
    """Return what the tokenizer puts before a text (mostly BOS, or nothing)."""
    bare = list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    full = list(tokenizer(PROBE)["input_ids"])
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start]
    return []


def end_token_id(tokenizer: Tokenizer, vocabulary_size: int | None = None) -> int:
    """Return the token that ends a response: what a chat template puts after an answer, else the end-of-text token.

    Raises:
        InvalidInput: the tokenizer has neither, or its chat template refuses a conversation that ends in an answer.
        ModelNotUsable: it is beyond *vocabulary_size*.
    """
    end = _end_of_response(tokenizer)
    if vocabulary_size is not None and end >= vocabulary_size:
        raise ModelNotUsable(
            f"responses end in token {end}, the model's vocabulary has {vocabulary_size}: it has no embedding for it; "
            "use the tokenizer that the model was trained with"
        )
    return end


def _end_of_response(tokenizer: Tokenizer) -> int:
    if getattr(tokenizer, "chat_template", None):
        end = _end_of_turn(tokenizer)
        if end is not None:
            return end
    if tokenizer.eos_token_id is None:
        raise InvalidInput("the tokenizer has no end-of-text token: set `eos_token` in its tokenizer_config.json")
    return int(tokenizer.eos_token_id)


def _end_of_turn(tokenizer: Tokenizer) -> int | None:
    after = _rendered_answer(tokenizer).rpartition(PROBE)[2]
    specials = special_token_ids(tokenizer)
    return next((index for index in encode_texts(tokenizer, [after])[0] if index in specials), None)


def _rendered_answer(tokenizer: Tokenizer) -> str:
    """Return what the chat template makes of a conversation that ends in an answer, with a system turn if need be."""
    try:
        with suppress(Exception):
            return rendered(tokenizer, CONVERSATION)
        return rendered(tokenizer, SYSTEM + CONVERSATION)
    except Exception as error:
        found = f"one that refuses it: {shown(str(error))}"
        expected = "a chat template that takes a conversation that ends in an assistant turn"
        fix = (
            "let the template in chat_template.jinja or tokenizer_config.json take one (the token that ends a response "
        )
        fix += "is read from it), or use a model whose template does"
        finding = Finding(code=TEMPLATE_REFUSES, pointer="/model", found=found, expected=expected, fix=fix)
        message = f"expected {expected}, found {found}: {fix}"
        raise InvalidInput(message, code=TEMPLATE_REFUSES, findings=[finding]) from error
