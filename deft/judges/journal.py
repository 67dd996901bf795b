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


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the *text*, its cost in tokens, and the *retries* that it took."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


def plain(reply: Reply) -> Reply:
    """Return *reply* with a text that can be stored and costs that can be added up, whatever an endpoint sent.

    What is no text holds no verdict: it becomes an empty one. Half a surrogate pair becomes U+FFFD. A cost that is no
    whole number from 0 to `MOST_TOKENS` is not known: it counts as 0, as one that is not told does.
    """
    return replace(
        reply,
        text=storable(reply.text) if isinstance(reply.text, str) else "",
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
