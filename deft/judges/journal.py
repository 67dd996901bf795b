"""The replies that were paid for, kept as they come: one JSON line each, synced, so that nothing is asked twice.

A line that a crash has cut is skipped when the journal is read again. An endpoint may send anything: a reply is made
plain before it is kept, and again when it is read. Knows keys and replies, no question.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock

from deft.cache import append

MOST_TOKENS = 100_000_000
"""No question and no reply costs more; an endpoint that says so is not believed."""


MOST_CHARACTERS = 200_000
"""Of a reply's text are kept. The longest reply that may be asked for, of 32,768 tokens, is shorter."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the *text*, its cost in tokens, the *retries* that it took.

    *is_cut*: it was longer than is kept, or the server broke it off.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    is_cut: bool = False

    @property
    def whole_text(self) -> str:
        """The text where all of it is kept; of one that is cut nothing can be sure, so it is empty."""
        return "" if self.is_cut else self.text


def plain(reply: Reply) -> Reply:
    """Return *reply* with a text that can be stored and costs that can be added up, whatever an endpoint sent.

    What is no text holds no verdict: it becomes an empty one. Half a surrogate pair becomes U+FFFD. One of more than
    `MOST_CHARACTERS` is cut. A cost that is no whole number from 0 to `MOST_TOKENS` is not known: it counts as 0, as
    one that is not told does.
    """
    text = reply.text if isinstance(reply.text, str) else ""
    return replace(
        reply,
        text=storable(text[:MOST_CHARACTERS]),
        is_cut=reply.is_cut is True or len(text) > MOST_CHARACTERS,
        prompt_tokens=_counted(reply.prompt_tokens),
        completion_tokens=_counted(reply.completion_tokens),
        retries=_counted(reply.retries),
    )


def storable(text: str) -> str:
    """Return *text* with U+FFFD in place of each half of a surrogate pair, which no UTF-8 can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _counted(number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MOST_TOKENS:
        return number
    return 0


class Journal:
    """Replies by the key of their question, in the file at *path*; None: in memory alone."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = Lock()
        self.replies: dict[str, Reply] = {} if path is None else _read(path)

    def add(self, key: str, reply: Reply) -> None:
        """Keep *reply*, on the disk before this returns."""
        with self._lock:
            self.replies[key] = reply
            if self._path is not None:
                line = json.dumps({"key": key, **asdict(reply)}) + "\n"
                append(self._path, line.encode())


def _read(path: Path) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                stored = json.loads(line)
                key = stored.pop("key")
                found[key] = plain(Reply(**stored))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
    return found
