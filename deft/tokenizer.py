"""What a tokenizer is: its special tokens, its chat template, and the hash of all that decides ids and decoded texts.

Torch-free; knows tokenizers of transformers, no examples.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

    from deft.examples import Message

TODAY = "26 Jul 2024"
"""The `date_string` that chat templates are told (Llama 3's take it), so that prompts have the same ids on every day.

With a template that asks for the day by `strftime_now` alone, tokens of two days are not taken for the same.
"""

PROBE = "deft probe"
CONVERSATION: list[Message] = [{"role": "user", "content": "question"}, {"role": "assistant", "content": PROBE}]
SYSTEM: list[Message] = [{"role": "system", "content": "system"}]
_PROMPTS = (CONVERSATION[:1], SYSTEM + CONVERSATION[:1])
_TEXT = "A  Probe, No. 12 :\n\tit doesn't naïvely end ."
_CLEANING = (
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
)
_SAVES_NO_FILES = (NotImplementedError, AttributeError, TypeError, ValueError)


def rendered(tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """Return *messages* through the chat template, on the day `TODAY`; a template that refuses them raises anything."""
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=TODAY
    )
    return text


def special_token_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids that are no text: left out of Q+ and Q-.

    The pad token is one of them only if it is special by itself: trainers take any token for it.
    """
    own = {index for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    names = [*_named(tokenizer).values(), *getattr(tokenizer, "extra_special_tokens", [])]
    return frozenset(own).union(_ids(tokenizer, names))


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 (hex) of all that decides the ids of prompts and responses and the texts of decoded answers.

    That is the vocabulary with merges, normalisers and added tokens; what stands before and behind a text; how texts
    with special tokens are split and decoded texts cleaned; the special tokens that a template may print, the chat
    template's text, and what it makes of three conversations if it does not refuse them. Not the pad token (unless the
    template names it), padding, truncation, the longest length or the folder, which trainers set as they like.
    """
    return _hash(tokenizer, None)


def hash_without_pad(tokenizer: Tokenizer) -> str | None:
    """Return the hash that *tokenizer* had before a new token was added last, to pad; None where none was.

    A token's id means the same in both; only a text that spells the pad token out has other ids.
    """
    pad, index = tokenizer.pad_token, tokenizer.pad_token_id
    others = {*_named(tokenizer).values(), *getattr(tokenizer, "extra_special_tokens", [])}
    if pad is None or pad in others or index is None or index < tokenizer.vocab_size or index < len(tokenizer) - 1:
        return None
    return _hash(tokenizer, pad)


def _hash(tokenizer: Tokenizer, left_out: str | None) -> str:
    """Return the hash, as it would be without the token *left_out*."""
    template = _template(tokenizer)
    is_fast = getattr(tokenizer, "backend_tokenizer", None) is not None
    skipped = special_token_ids(tokenizer)
    if not is_fast:
        skipped |= _ids(tokenizer, tokenizer.all_special_tokens)  # decoding leaves out the pad token too
    names = _named(tokenizer)
    if "pad_token" in str(template):
        names["pad_token"] = str(tokenizer.pad_token)
    facts = {
        "special_tokens": names,
        "special_ids": sorted(skipped - _ids(tokenizer, [] if left_out is None else [left_out])),
        "text_ids": list(tokenizer(_TEXT)["input_ids"]),
        "split_special_tokens": bool(getattr(tokenizer, "split_special_tokens", False)),
        "cleans": [bool(getattr(tokenizer, name, False)) for name in _CLEANING],
        "template": template,
        "conversations": [] if template is None else _conversations(tokenizer),
    }
    vocabulary = _backend(tokenizer, left_out) if is_fast else _files(tokenizer, left_out)
    return hashlib.sha256((vocabulary + json.dumps(facts, sort_keys=True, default=str)).encode()).hexdigest()


def _named(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the special tokens by name, as templates print them, without the pad token."""
    return {name: text for name, text in tokenizer.special_tokens_map.items() if name != "pad_token"}


def _ids(tokenizer: Tokenizer, tokens: Sequence[str]) -> frozenset[int]:
    found: list[int | None] = tokenizer.convert_tokens_to_ids(list(tokens))
    return frozenset(index for index in found if index is not None)


def _template(tokenizer: Tokenizer) -> str | dict[str, str] | None:
    """Return the text of the chat template that prompts go through, None where there is none."""
    found: str | dict[str, str] | None = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default", found)
    return found or None


def _conversations(tokenizer: Tokenizer) -> list[str | None]:
    """Return what the template makes of three conversations; one that it refuses is known by the template's text."""
    found: list[str | None] = [None, None, None]
    for place, prompt in enumerate(_PROMPTS):
        with suppress(Exception):
            found[place] = rendered(tokenizer, prompt, add_generation_prompt=True)
    with suppress(Exception):
        found[2] = rendered(tokenizer, CONVERSATION)
    return found


def _backend(tokenizer: Tokenizer, left_out: str | None) -> str:
    """Return the Rust tokenizer as text, without padding and truncation."""
    from tokenizers import Tokenizer as Backend

    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    text: str = backend.to_str()
    if left_out is None:
        return text
    document = json.loads(text)
    document["added_tokens"] = [each for each in document["added_tokens"] if each["content"] != left_out]
    shorter: str = Backend.from_str(json.dumps(document)).to_str()
    return shorter


def _files(tokenizer: Tokenizer, left_out: str | None) -> str:
    """Return a Python tokenizer as text: its class, its tokens, the hash of each file of its vocabulary."""
    tokens = {text: index for text, index in tokenizer.get_vocab().items() if text != left_out}
    added = {index: repr(each) for index, each in tokenizer.added_tokens_decoder.items() if str(each) != left_out}
    with tempfile.TemporaryDirectory() as folder:
        with suppress(*_SAVES_NO_FILES):  # one that has none, of bytes say, is known by its tokens
            tokenizer.save_vocabulary(folder)
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}
    return json.dumps([type(tokenizer).__name__, tokens, added, files], sort_keys=True)
