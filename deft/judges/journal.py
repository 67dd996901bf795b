"""The replies that were paid for, kept as they come: one JSON line each, synced, so that nothing is asked twice.

A line that a crash has cut is skipped when the journal is read again. An endpoint may send anything: a reply is made
plain before it is kept, and again when it is read. Knows keys and replies, no question.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock

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
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, key: str, reply: Reply) -> None:
        """Keep *reply*, on the disk before this returns."""
        with self._lock:
            self.replies[key] = reply
            if self._path is not None:
                line = json.dumps({"key": key, **asdict(reply)}) + "\n"
                _append(self._path, line.encode())


def _append(path: Path, line: bytes) -> None:
    """Append *line* in one write, behind a line end of its own where a crash has cut the line before it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" + line if is_cut else line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
