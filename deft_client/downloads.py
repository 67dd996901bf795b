"""Files of an artifact on the caller's disk: resumed, checked, and in place only when complete."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from deft.folders import sha256_of
from deft_client.errors import DownloadCorrupt, RangeNotSatisfiable, UnexpectedAnswer
from deft_client.exchange import Exchange, is_passing, pause_seconds

OnBytes = Callable[[str, int, int], None]
"""Called as a file grows: its path, the bytes on disk, the bytes in all."""


def place(folder: Path, path: str) -> Path:
    """Return where the artifact's file *path* belongs below *folder*.

    Raises:
        UnexpectedAnswer: the path leads outside the folder.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise UnexpectedAnswer(f"the service named a file outside the folder: {path!r}")
    return folder.joinpath(*parts)


def download(exchange: Exchange, url: str, entry: Mapping[str, Any], folder: Path, on_bytes: OnBytes | None) -> Path:
    """Bring the file *entry* (`path`, `bytes`, `sha256`) from *url* into *folder* and return where it is.

    A file that is there with the right hash is left alone. A transfer that broke goes on where it stopped (now, and
    in a later call), in `NAME.part`; the name is given by a rename once the hash is right.

    Raises:
        DownloadCorrupt: the hash is wrong, also after one fresh transfer.
        ServiceError, Unreachable: as in every request.
    """
    target = place(folder, entry["path"])
    if target.is_file() and target.stat().st_size == entry["bytes"] and sha256_of(target) == entry["sha256"]:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for _ in range(2):
        _fill(exchange, url, entry, part, on_bytes)
        if sha256_of(part) == entry["sha256"]:
            part.replace(target)
            return target
        part.unlink()
    raise DownloadCorrupt(f"{entry['path']} is not what the service recorded: its SHA-256 differs")


def _fill(exchange: Exchange, url: str, entry: Mapping[str, Any], part: Path, on_bytes: OnBytes | None) -> None:
    """Fetch what *part* lacks; give up after `attempts` tries in a row that brought no byte."""
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(exchange, url, entry, part, on_bytes)
            return
        except RangeNotSatisfiable:
            part.unlink(missing_ok=True)
        except Exception as error:
            if not is_passing(error):
                raise
            failures = failures + 1 if _size(part) == before else 0
            if failures >= exchange.attempts:
                raise
            exchange.pause(pause_seconds(failures + 1))


def _fetch(exchange: Exchange, url: str, entry: Mapping[str, Any], part: Path, on_bytes: OnBytes | None) -> None:
    have = _size(part)
    if have > entry["bytes"]:
        part.unlink()
        have = 0
    if have == entry["bytes"] and part.exists():
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{entry["sha256"]}"'}
    with exchange.stream(url, headers) as response:
        is_continued = have > 0 and response.status_code == 206
        done = have if is_continued else 0
        with part.open("ab" if is_continued else "wb") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                if on_bytes is not None:
                    on_bytes(entry["path"], done, entry["bytes"])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
