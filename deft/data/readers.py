"""Files to records: JSONL, JSON arrays, CSV, TSV, Parquet and Arrow, the text ones also as .gz and .zst. Torch-free.

A reader streams: it holds one block and one record at a time, under caps on decompressed bytes and on one record. What
is wrong with one record comes out as a `BadRow` in its place; what is wrong with the file raises. Readers know nothing
of prompts and responses.
"""

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.data.arrow_files import arrow_records, parquet_records
from deft.data.blocks import array_elements, lines, refused, text_blocks, without_bom
from deft.data.row_checks import BadRow
from deft.errors import InvalidRows, shown
from deft.strict_json import parse

Record = tuple[int, Any]
"""A 1-based line (text lines) or record number (all else), and the row, or the `BadRow` that stands for it."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_CSV = "CSV as of RFC 4180"
_LATIN1 = "save it as UTF-8: iconv -f LATIN1 -t UTF-8 FILE"
_QUOTES = 'put texts with quotes, delimiters or newlines in "...", and write a quote in them as ""'
MAX_BYTES = 8 * 2**30
MAX_RECORD_BYTES = 16 * 2**20


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
        InvalidRows: the file is no container that is read, or not UTF-8; later, while reading: it is cut off, or a
            record is over *max_record_bytes*.
        TooLarge: later, while reading: more than *max_bytes* after decompression.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        return Source("parquet", parquet_records(path, max_bytes))
    if magic.startswith(b"ARROW1") or path.suffix in (".arrow", ".feather"):
        return Source("arrow", arrow_records(path, max_bytes))
    blocks = without_bom(text_blocks(path, magic, max_bytes))
    first = next(blocks, b"")
    return _text_source(path, itertools.chain([first], blocks), first, max_record_bytes)


def _text_source(path: Path, blocks: Iterator[bytes], first: bytes, max_record_bytes: int) -> Source:
    _refuse_other_encodings(first)
    suffix = _suffix(path)
    if suffix in _DELIMITERS:
        return Source(suffix[1:], _csv_records(blocks, _DELIMITERS[suffix], max_record_bytes), is_typed=False)
    if first.lstrip().startswith(b"["):
        return Source("json", _parsed(array_elements(blocks, max_record_bytes)))
    if first.lstrip().split(b"\n", 1)[0].strip() == b"{":
        raise refused(
            "unknown_container",
            "one JSON object over several lines",
            "one object a line, or an array of objects",
            "write each row on one line (JSONL), or put the rows in [ ... ]",
        )
    if first.lstrip().startswith(b"{") or not first.strip() or suffix in (".jsonl", ".ndjson", ".json"):
        return Source("jsonl", _parsed(lines(blocks, max_record_bytes)))
    raise _unknown_container(first)


def _suffix(path: Path) -> str:
    """Return the suffix of *path* without that of its compression, in lower case."""
    return (Path(path.stem) if path.suffix.lower() in (".gz", ".zst") else path).suffix.lower()


def _unknown_container(first: bytes) -> InvalidRows:
    return refused(
        "unknown_container",
        f"a file that begins with '{shown(first[:24].decode('latin-1'))}'",
        "JSONL, a JSON array, CSV, TSV, Parquet or Arrow; .gz or .zst of the text ones",
        "convert the file, or give it the name that says what it is (.csv, .jsonl, ...)",
    )


def _refuse_other_encodings(first: bytes) -> None:
    for magic, what in (
        (b"PAR1", "Parquet"),
        (b"ARROW1", "Arrow"),
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ):
        if first.startswith(magic):
            expected = "text; Parquet and Arrow are compressed inside, and nothing is compressed twice"
            raise refused("compressed_twice", f"a compressed {what} file", expected, "decompress the file once")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first[:1024]:
        fix = "save the file as UTF-8: iconv -f UTF-16 -t UTF-8 FILE"
        raise refused("wrong_encoding", "UTF-16 or binary data", "text in UTF-8", fix)


def _parsed(documents: Iterator[tuple[int, bytes]]) -> Iterator[Record]:
    for line, document in documents:
        try:
            yield line, parse(document)
        except BadRow as bad:
            yield line, bad


# Tables ------------------------------------------------------------------------------------------------------------


def _csv_records(blocks: Iterator[bytes], delimiter: str, max_record_bytes: int) -> Iterator[Record]:
    """Yield the rows of a CSV file, numbered by the line on which they begin, all values text."""
    csv.field_size_limit(max_record_bytes)
    # Bytes that are not UTF-8 pass as lone surrogates, so that it is the row which is refused, not the block.
    text = io.TextIOWrapper(io.BufferedReader(_Blocks(blocks)), encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = _header(next(reader, []))
        line = reader.line_num + 1
        while (cells := _next_cells(reader, line)) is not None:
            if cells:
                yield line, cells if isinstance(cells, BadRow) else _csv_row(header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise refused("malformed_csv", shown(str(error)), _CSV, _QUOTES, line) from error


def _next_cells(reader: Any, line: int) -> list[str] | BadRow | None:  # noqa: ANN401 - csv's reader has no public type
    """Return the cells of the row that begins on *line*, None at the end.

    A quote in the wrong place spoils the lines that were read up to it; the next row begins after them.

    Raises:
        csv.Error: a quoted text that never ends, or one over the limit: where the next row begins is unknown.
    """
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        if "expected after" not in str(error):
            raise
        lines_read = f" in lines {line} to {reader.line_num}, all left out" if reader.line_num > line else ""
        return BadRow("malformed_csv", None, shown(str(error)) + lines_read, _CSV, _QUOTES)
    return cells


def _header(names: list[str]) -> list[str]:
    byte = _wrong_byte(names)
    if byte is not None:
        raise refused("wrong_encoding", f"the byte {byte} in the header", "UTF-8", _LATIN1, 1)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        found = f"the column {shown(twice)} twice"
        raise refused("duplicate_key", found, "every column once", "rename one of the columns", 1)
    return names


def _csv_row(header: list[str], cells: list[str]) -> dict[str, str] | BadRow:
    byte = _wrong_byte(cells)
    if byte is not None:
        return BadRow("wrong_encoding", None, f"the byte {byte}", "UTF-8", _LATIN1)
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    found, expected = f"{len(cells)} cells", f"{len(header)}, as in the header"
    return BadRow("cell_count", None, found, expected, "quote texts that hold the delimiter or a newline")


def _wrong_byte(cells: list[str]) -> str | None:
    """Return the first byte of *cells* that was not UTF-8, as 0xNN."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:
        return f"0x{ord(error.object[error.start]) - 0xDC00:02x}"
    return None


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
