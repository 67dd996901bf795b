"""The replies that were paid for, kept as they come: one JSON line each, synced, so that nothing is asked twice.

Several processes may keep one journal at once: a question is held while it is asked, by a lock that the system lets go
of when a process dies, and what others have kept is read meanwhile.

A line that a crash has cut is skipped when the journal is read again. An endpoint may send anything: a reply is made
plain before it is kept, and again when it is read. Knows keys and replies, no question.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock

from deft.cache import append

LOOK_SECONDS = 0.05
"""Between two tries to hold a question that another process asks."""

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
        self._read_bytes = 0
        self.replies: dict[str, Reply] = {}
        self._read_on()

    def add(self, key: str, reply: Reply) -> None:
        """Keep *reply*, on the disk before this returns."""
        with self._lock:
            self.replies[key] = reply
            if self._path is not None:
                line = json.dumps({"key": key, **asdict(reply)}) + "\n"
                append(self._path, line.encode())

    def reply_to(self, key: str) -> Reply | None:
        """Return the reply to the question *key*, whichever process kept it; None: there is none yet."""
        with self._lock:
            if key not in self.replies:
                self._read_on()
            return self.replies.get(key)

    @contextmanager
    def held(self, key: str, between: Callable[[], None]) -> Iterator[None]:
        """Hold the question *key* against every other holder of this journal, in this process too.

        Some questions share a lock. Until it is free, *between* is called every `LOOK_SECONDS`; it may raise. Where
        the folder knows no locks nothing is held.
        """
        descriptor = self._opened(key[:2])
        try:
            while descriptor is not None and not _is_locked(descriptor):
                between()
                time.sleep(LOOK_SECONDS)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _opened(self, name: str) -> int | None:
        """Return an open file to lock, one of 256 beside the journal; None: there can be none."""
        if self._path is None:
            return None
        path = self._path.with_suffix(".locks") / name
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        return None

    def _read_on(self) -> None:
        """Take over what was written since the last time, by this process and by others; half a line is read again."""
        if self._path is None or not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read()
        self._read_bytes += lines.rfind(b"\n") + 1
        self.replies |= _replies_in(lines)


def _is_locked(descriptor: int) -> bool:
    """Lock the file; return whether it is, or cannot be whatever one waits for."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _replies_in(lines: bytes) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    for line in lines.splitlines():
        try:
            stored = json.loads(line)
            key = stored.pop("key")
            found[key] = plain(Reply(**stored))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return found
