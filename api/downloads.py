"""Files over HTTP, of artifacts or made for one answer: ETag, HEAD, conditional requests and one byte range, streamed.

The path is looked up in the manifest, never joined to a folder unseen. It knows no route.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.problems import problem_of, request_id_of
from deft.errors import ArtifactCorrupt, Finding, NotFound, RangeNotSatisfiable, shown

CHUNK_BYTES = 256 * 1024
RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})", re.ASCII)
MEDIA_TYPES: Mapping[str, str] = {
    ".parquet": "application/vnd.apache.parquet",
    ".jsonl": "application/jsonl",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes from *start* up to, not including, *end*, of *size*."""

    start: int
    end: int
    size: int


def requested_slice(header: str, size: int) -> Slice | None:
    """Return the one range that *header* asks for; None for several ranges or a form we do not serve.

    RFC 9110 section 14.2 lets a server ignore a Range header; a client must take the whole file then.

    Raises:
        RangeNotSatisfiable: the range begins behind the end.
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        wanted = Slice(max(0, size - int(last)), size, size)
    else:
        wanted = Slice(int(first), min(size, int(last) + 1) if last else size, size)
        if last and int(last) < int(first):
            return None
    if wanted.start >= wanted.end:
        raise RangeNotSatisfiable(f"The file has {size} bytes.")
    return wanted


def is_match(header: str, etag: str) -> bool:
    """Whether *etag* is among those of an If-None-Match header (weak comparison)."""
    return header.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in header.split(",")}


def entry_of(files: Sequence[Mapping[str, Any]], path: str) -> Mapping[str, Any]:
    """Return the manifest's entry for *path*.

    Raises:
        NotFound: the manifest has no such file.
    """
    for entry in files:
        if entry["path"] == path:
            return entry
    fix = "Look at `files` of the artifact."
    finding = Finding("not_found", shown(path), "a file of this artifact", fix, column="path")
    raise NotFound("The artifact has no such file.", findings=[finding])


def file_response(request: Request, folder: Path, entry: Mapping[str, Any]) -> Response:
    """Return the answer to a GET or HEAD of the file *entry* of the published artifact in *folder*.

    Raises:
        ArtifactCorrupt: the file is missing or not of the recorded size; nothing has been sent.
    """
    path = folder / entry["path"]
    more = {"Content-Disposition": disposition(PurePosixPath(entry["path"]).name)}
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    content = Content(lambda: path.open("rb"), lambda: _checked_size(path, entry), entry["sha256"], media_type, more)
    return _response(request, content)


def made_response(request: Request, file: IO[bytes], media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the answer to a GET or HEAD of what *file* holds, an open one of our own, which the answer closes.

    Its ETag is the SHA-256, as that of a file of an artifact.
    """
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    size = file.tell()
    content = Content(lambda: file, lambda: size, digest.hexdigest(), media_type, headers)
    answer = _response(request, content)
    if not isinstance(answer, StreamingResponse):
        file.close()
    return answer


@dataclass(frozen=True, slots=True)
class Content:
    """Something to send: how it is opened, its size (once it is needed) and SHA-256 in hex, its type, more headers."""

    open: Callable[[], IO[bytes]]
    size: Callable[[], int]
    sha256: str
    media_type: str
    headers: Mapping[str, str]


def _response(request: Request, content: Content) -> Response:
    etag = f'"{content.sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes"}
    if is_match(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    size = content.size()
    headers |= {**content.headers, "Repr-Digest": _digest(content.sha256)}
    try:
        part = requested_slice(_range_of(request, etag), size)
    except RangeNotSatisfiable as error:
        return problem_of(request_id_of(request), error, {"Content-Range": f"bytes */{size}"})
    return _answer(request, content, part or Slice(0, size, size), headers, is_partial=part is not None)


def _range_of(request: Request, etag: str) -> str:
    """Return the Range header if it is to be obeyed: by GET alone, and If-Range must name exactly this version."""
    is_obeyed = request.method == "GET" and request.headers.get("if-range", etag) == etag
    return request.headers.get("range", "") if is_obeyed else ""


def _checked_size(path: Path, entry: Mapping[str, Any]) -> int:
    try:
        size = path.stat().st_size
    except OSError:
        raise ArtifactCorrupt("A file of the artifact is missing from the store.") from None
    if size != entry["bytes"]:
        raise ArtifactCorrupt("A file of the artifact has not the recorded size.")
    return size


def _digest(sha256: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def disposition(name: str) -> str:
    """Return the Content-Disposition that saves the file as *name* (RFC 6266), whatever characters it has."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in name)
    extended = f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else ""
    return f'attachment; filename="{plain}"{extended}'


def _answer(request: Request, content: Content, part: Slice, headers: dict[str, str], *, is_partial: bool) -> Response:
    headers["Content-Length"] = str(part.end - part.start)
    if is_partial:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{part.size}"
    status = 206 if is_partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=content.media_type)
    return StreamingResponse(_bytes_of(content, part), status, headers, content.media_type)


def _bytes_of(content: Content, part: Slice) -> Iterator[bytes]:
    with content.open() as file:
        file.seek(part.start)
        left = part.end - part.start
        while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
