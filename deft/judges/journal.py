"""The replies that were paid for, kept as they come: one JSON line each, synced, so that nothing is asked twice.

A line that a crash has cut is skipped when the journal is read again. Knows keys and replies, no question.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the *text*, its cost in tokens, and the *retries* that it took."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


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
                found[key] = Reply(**stored)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
    return found
