"""Files to records: JSONL, JSON arrays, CSV, TSV, Parquet and Arrow, the text ones also as .gz and .zst. Torch-free.

A reader streams: it holds one block and one record at a time, under caps on decompressed bytes and on one record. What
is wrong with one record comes out as a `BadRow` in its place; what is wrong with the file raises. Readers know nothing
of prompts and responses.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deft.errors import Finding, InvalidRows, TooLarge, shown
from deft.row_checks import BadRow
from deft.strict_json import parse

Record = tuple[int, Any]
"""A 1-based line (text lines) or record number (all else), and the row, or the `BadRow` that stands for it."""

MAX_BYTES = 8 * 2**30
MAX_RECORD_BYTES = 16 * 2**20
_BLOCK = 2**20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Source:
    """An opened file: its *container* (jsonl, json, csv, tsv, parquet, arrow) and its records.

    *is_typed* is False where every value is text (CSV), so that a number can only be given as its digits.
    """

    container: str
    records: Iterator[Record]
    is_typed: bool = True


def open_source(path: Path, *, max_bytes: int = MAX_BYTES, max_record_bytes: int = MAX_RECORD_BYTES) -> Source:
    """Return the records of the file at *path*; what the file is follows from its first bytes, then from its name.

    Raises:
        InvalidRows: the file is no container that is read, or not UTF-8; later, while reading: it is cut off.
        TooLarge: later, while reading: more than *max_bytes* after decompression, or a record over *max_record_bytes*.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        return Source("parquet", _parquet_records(path, max_bytes))
    if magic.startswith(b"ARROW1") or path.suffix in (".arrow", ".feather"):
        return Source("arrow", _arrow_records(path, max_bytes))
    blocks = _without_bom(_text_blocks(path, magic, max_bytes))
    first = next(blocks, b"")
    return _text_source(path, _again(first, blocks), first, max_record_bytes)


def _text_source(path: Path, blocks: Iterator[bytes], first: bytes, max_record_bytes: int) -> Source:
    _refuse_other_encodings(first)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if ".csv" in suffixes or ".tsv" in suffixes:
        kind, delimiter = ("csv", ",") if ".csv" in suffixes else ("tsv", "\t")
        return Source(kind, _csv_records(blocks, delimiter, max_record_bytes), is_typed=False)
    if first.lstrip().startswith(b"["):
        return Source("json", _parsed(array_elements(blocks, max_record_bytes)))
    if first.lstrip().startswith(b"{") or not first.strip() or {".jsonl", ".ndjson", ".json"} & set(suffixes):
        return Source("jsonl", _parsed(lines(blocks, max_record_bytes)))
    raise _refused(
        "unknown_container",
        f"a file that begins with '{shown(first[:24].decode('latin-1'))}'",
        "JSONL, a JSON array, CSV, TSV, Parquet or Arrow; .gz or .zst of the text ones",
        "convert the file, or give it the name that says what it is (.csv, .jsonl, ...)",
    )


def _refused(code: str, found: str, expected: str, fix: str, line: int | None = None) -> InvalidRows:
    finding = Finding(code, found, expected, fix, line=line)
    return InvalidRows(f"The file cannot be read: found {found}, expected {expected}.", code=code, findings=[finding])


def _too_large(code: str, found: str, expected: str, fix: str, line: int | None = None) -> TooLarge:
    finding = Finding(code, found, expected, fix, line=line)
    return TooLarge(f"The file is too large: found {found}, expected {expected}.", code=code, findings=[finding])


def _refuse_other_encodings(first: bytes) -> None:
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first[:1024]:
        fix = "save the file as UTF-8: iconv -f UTF-16 -t UTF-8 FILE"
        raise _refused("wrong_encoding", "UTF-16 or binary data", "text in UTF-8", fix)


# Bytes -------------------------------------------------------------------------------------------------------------


def _text_blocks(path: Path, magic: bytes, max_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of *path* in blocks of at most 1 MiB, at most *max_bytes* in all."""
    total = 0
    try:
        with pa.input_stream(str(path), compression=_compression(path, magic)) as stream:
            while block := stream.read(_BLOCK):
                total += len(block)
                if total > max_bytes:
                    raise _bomb(max_bytes)
                yield block
    except OSError as error:
        # pyarrow names a truncated or damaged stream only in its message.
        fix = "compress the file anew and upload it again; the checksum of the copy should be that of the original"
        raise _refused("damaged_compression", shown(str(error)), "a complete .gz or .zst file", fix) from error


def _bomb(max_bytes: int) -> TooLarge:
    fix = "upload the rows in several datasets"
    return _too_large("too_many_bytes", f"more than {max_bytes:,} bytes of data", f"at most {max_bytes:,}", fix)


def _compression(path: Path, magic: bytes) -> str | None:
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if path.suffix in (".gz", ".zst") or magic.startswith((b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        fix = "decompress the file, or compress it with gzip or zstd"
        raise _refused("unknown_compression", f"bytes that begin 0x{magic[:4].hex()}", "gzip, zstd or none", fix)
    return None


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _without_bom(blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(blocks, b"")
    yield first.removeprefix(_BOM)
    yield from blocks


# Lines and array elements ------------------------------------------------------------------------------------------


def _parsed(documents: Iterator[tuple[int, bytes]]) -> Iterator[Record]:
    for line, document in documents:
        try:
            yield line, parse(document)
        except BadRow as bad:
            yield line, bad


def lines(blocks: Iterator[bytes], max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their 1-based numbers. CRLF and no final newline are fine."""
    number, rest = 0, b""
    for block in blocks:
        *complete, rest = (rest + block).split(b"\n") if rest else block.split(b"\n")
        for line in complete:
            number += 1
            if len(line) > max_line_bytes:
                raise _long_record(number, max_line_bytes)
            if line and not line.isspace():
                yield number, line
        if len(rest) > max_line_bytes:
            raise _long_record(number + 1, max_line_bytes)
    if rest and not rest.isspace():
        yield number + 1, rest


def _long_record(number: int, limit: int) -> TooLarge:
    fix = "put one record on each line, and remove the row if it really is that long"
    return _too_large("record_too_long", f"a record of more than {limit:,} bytes", f"at most {limit:,}", fix, number)


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
"""A whole string, a quote whose string has not ended yet, or a sign that structures JSON."""


def array_elements(blocks: Iterator[bytes], max_record_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of one JSON array, with their 1-based numbers, cut at the commas but not parsed.

    Raises:
        InvalidRows: the array does not end, or something follows it.
        TooLarge: an element is over *max_record_bytes*.
    """
    buffer, begin, scanned, depth, number = b"", 0, 0, 0, 0
    for block in blocks:
        buffer, scanned, begin = buffer[begin:] + block, scanned - begin, 0
        for token in _TOKEN.finditer(buffer, scanned):
            sign = token.group()
            scanned = token.start()
            if sign == b'"':
                break
            if sign in b"[{":
                depth += 1
                begin = token.end() if depth == 1 else begin
            elif sign in b"]}":
                depth -= 1
            is_end = depth == 0
            if is_end or (sign == b"," and depth == 1):
                element, begin = buffer[begin : token.start()].strip(), token.end()
                if element or number or not is_end:
                    number += 1
                    yield number, element
            if is_end:
                _nothing_follows(buffer[begin:], blocks)
                return
        else:
            scanned = len(buffer)
        if len(buffer) - begin > max_record_bytes:
            raise _long_record(number + 1, max_record_bytes)
    found = f"the end of the file in element {number + 1}"
    raise _refused("truncated", found, "an array that ends with ]", "upload the whole file", number + 1)


def _nothing_follows(rest: bytes, blocks: Iterator[bytes]) -> None:
    for part in (rest, *blocks):
        if part.strip():
            found = f"'{shown(part.strip()[:24].decode('latin-1'))}' after the array"
            raise _refused("malformed_json", found, "one array", "remove what follows the closing ]")


# Tables ------------------------------------------------------------------------------------------------------------


def _csv_records(blocks: Iterator[bytes], delimiter: str, max_record_bytes: int) -> Iterator[Record]:
    """Yield the rows of a CSV file, numbered by the line on which they begin, all values text."""
    csv.field_size_limit(max_record_bytes)
    text = io.TextIOWrapper(io.BufferedReader(_Blocks(blocks)), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = _header(next(reader, []))
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, _csv_row(header, cells)
            line = reader.line_num + 1
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        fix = "save it as UTF-8: iconv -f LATIN1 -t UTF-8 FILE"
        raise _refused("wrong_encoding", f"the byte 0x{byte:02x} after line {line}", "UTF-8", fix, line) from error
    except csv.Error as error:
        fix = 'put texts with quotes, delimiters or newlines in "...", and write a quote in them as ""'
        raise _refused("malformed_csv", shown(str(error)), "CSV as of RFC 4180", fix, line) from error


def _header(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        found = f"the column {shown(twice)} twice"
        raise _refused("duplicate_key", found, "every column once", "rename one of the columns", 1)
    return names


def _csv_row(header: list[str], cells: list[str]) -> dict[str, str] | BadRow:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    found, expected = f"{len(cells)} cells", f"{len(header)}, as in the header"
    return BadRow("cell_count", None, found, expected, "quote texts that hold the delimiter or a newline")


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file that can be read once."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _parquet_records(path: Path, max_bytes: int) -> Iterator[Record]:
    with _readable("Parquet"), pq.ParquetFile(path) as file:
        yield from _numbered(file.iter_batches(batch_size=1024), max_bytes)


def _arrow_records(path: Path, max_bytes: int) -> Iterator[Record]:
    """Yield the rows of an Arrow file or stream (what `datasets` caches is a stream)."""
    with _readable("Arrow"), pa.memory_map(str(path)) as memory:
        try:
            file = pa.ipc.open_file(memory)
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
        except pa.ArrowInvalid:
            memory.seek(0)
            batches = iter(pa.ipc.open_stream(memory))
        yield from _numbered(batches, max_bytes)


@contextmanager
def _readable(container: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        fix = "write the file anew and upload it again"
        raise _refused("damaged_file", shown(str(error)), f"a complete {container} file", fix) from error


def _numbered(batches: Iterator[Any], max_bytes: int) -> Iterator[Record]:
    number, total = 0, 0
    for batch in batches:
        for start in range(0, batch.num_rows, 1024):
            part = batch.slice(start, 1024)
            total += part.nbytes
            if total > max_bytes:
                raise _bomb(max_bytes)
            for row in part.to_pylist():
                number += 1
                yield number, row
