"""What jobs on one machine keep for each other, in a folder that may be lost at any time. Torch-free.

Each context, which is all that some numbers depend on, has a folder of its own. A file there is named by its own
SHA-256 and appears by one rename: what is damaged or half-written is not believed. A journal is a file that grows by
lines. It knows bytes, not what they say.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from deft.folders import sync

LARGEST_BYTES = 64 * 2**20
"""What all contexts of one kind may hold together; beyond it the files that were used longest ago go."""

SAFETENSORS = ".safetensors"
_LITTER_SECONDS = 3600.0


def name_of(context: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of *context*."""
    return hashlib.sha256(json.dumps(dict(context), sort_keys=True).encode()).hexdigest()


def folder_of(root: Path, context: Mapping[str, str]) -> Path:
    """Return where below *root* the files of *context* lie."""
    return root / name_of(context)[:32]


def put(folder: Path, content: bytes) -> None:
    """Write *content* as a file of *folder* under its own hash, by one rename.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        staged.write_bytes(content)
        sync(staged)
        staged.rename(folder / (hashlib.sha256(content).hexdigest() + SAFETENSORS))
    finally:
        staged.unlink(missing_ok=True)


def contents(folder: Path) -> Iterator[bytes]:
    """Yield the files of *folder*, which now count as used; one that is not what its name says is removed."""
    for path in sorted(folder.glob("*" + SAFETENSORS)):
        with suppress(OSError):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != path.stem:
                path.unlink()
                continue
            os.utime(path)
            yield content


def append(path: Path, lines: bytes) -> None:
    """Append whole *lines* to a journal in one write, on the disk before this returns; it is made where there is none.

    They begin a line of their own where a crash has cut the one before.

    Raises:
        OSError: they cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" + lines if is_cut else lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget_oldest(root: Path, largest: int = LARGEST_BYTES, files: str = "*/*" + SAFETENSORS) -> None:
    """Remove what killed jobs left below *root*, and of its *files* those used longest ago until *largest* bytes stay.

    Other jobs may do the same meanwhile.

    Raises:
        OSError: a file cannot be removed.
    """
    for used_at, _, path in _used(root, "*/.*.tmp"):
        if used_at < time.time() - _LITTER_SECONDS:
            path.unlink(missing_ok=True)
    found = _used(root, files)
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= largest:
            break
        path.unlink(missing_ok=True)
        total -= size


def _used(root: Path, files: str) -> list[tuple[float, int, Path]]:
    """Return when each of *files* below *root* was used, its bytes and its path, the oldest first."""
    found = []
    for path in root.glob(files):
        with suppress(FileNotFoundError):  # it went meanwhile
            told = path.stat()
            found.append((told.st_mtime, told.st_size, path))
    return sorted(found)
