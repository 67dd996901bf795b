"""The canonical record: a prompt and its ranked responses, and what is derived from them alone.

Torch-free. Knows no file format: `deft.data.importers` makes examples, `deft.data.datasets` keeps them.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any, TypedDict

import orjson


class Message(TypedDict):
    """One turn of a conversation; further keys of the user's (a name, tool calls) may ride along."""

    role: str
    content: str


ROLES = ("system", "developer", "user", "assistant", "tool")
ASSISTANT_MARK = "\n\nAssistant:"
"""Where a response begins in an HH-RLHF transcript."""
HUMAN_MARK = "\n\nHuman:"


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt (text, or a list of messages) with two or more responses, best first.

    *scores* (one a response, higher is better), *weight*, *source*, *aspect* and *split* are the user's own and may be
    missing. *source_line* is the 1-based line of a text file, else the 1-based number of the record.
    """

    prompt: str | list[Message]
    responses: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    weight: float | None = None
    source: str | None = None
    aspect: str | None = None
    split: str | None = None
    source_line: int = 0


def is_transcript(prompt: str) -> bool:
    """Return whether *prompt* is an HH-RLHF transcript that waits for the assistant's words."""
    return prompt.endswith("Assistant:")


def prompt_text(prompt: str | list[Message]) -> str:
    """Return *prompt* as the text that is stored: itself, or the JSON of its messages."""
    return prompt if isinstance(prompt, str) else orjson.dumps(prompt).decode()


def prompt_from_text(text: str, *, is_messages: bool) -> str | list[Message]:
    """Undo `prompt_text`."""
    if not is_messages:
        return text
    messages: list[Message] = orjson.loads(text)
    return messages


def key_of(prompt: str | list[Message], responses: tuple[str, ...]) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of prompt and responses: the example's identity."""
    return hashlib.sha256(orjson.dumps([prompt, responses], option=orjson.OPT_SORT_KEYS)).hexdigest()


def first_user_turn(prompt: str | list[Message]) -> str:
    """Return the first message of the user, the first Human turn of a transcript, or else the whole prompt."""
    if isinstance(prompt, str):
        return _first_human_turn(prompt) if is_transcript(prompt) else prompt
    contents: list[Any] = [message["content"] for message in prompt if message["role"] == "user"]
    return str(contents[0]) if contents else prompt_text(prompt)


def _first_human_turn(transcript: str) -> str:
    # The blank line before the first mark may have been stripped with the ends of the text.
    _, mark, rest = ("\n\n" + transcript.lstrip()).partition(HUMAN_MARK)
    return rest.split(ASSISTANT_MARK, 1)[0].split(HUMAN_MARK, 1)[0] if mark else transcript


def normalised(text: str) -> str:
    """Return *text* in NFKC, case-folded, its white space collapsed and trimmed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def split_point_of(prompt: str | list[Message]) -> float:
    """Return the place of *prompt* in [0, 1) by which it falls into a split.

    It is the SHA-256 of the normalised first user turn, its first 53 bits / 2^53 (a double holds no more), so that
    conversations with one beginning share a split, whatever their continuations and answers.
    """
    digest = hashlib.sha256(normalised(first_user_turn(prompt)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
