"""Bytes of text files, streamed: decompression, lines and the elements of a JSON array, each under a cap. Torch-free.

Nothing is parsed here; `deft.data.readers` makes records of the pieces.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from deft.errors import Finding, InvalidRows, TooLarge, shown

_BLOCK = 2**20
_BOM = b"\xef\xbb\xbf"


def refused(code: str, found: str, expected: str, fix: str, line: int | None = None) -> InvalidRows:
    """Return the refusal of a whole file."""
    finding = Finding(code, found, expected, fix, line=line)
    return InvalidRows(f"The file cannot be read: found {found}, expected {expected}.", code=code, findings=[finding])


def text_blocks(path: Path, magic: bytes, max_bytes: int) -> Iterator[bytes]:
    """Yield the decompressed bytes of *path* in blocks of at most 1 MiB, at most *max_bytes* in all."""
    total, compression = 0, _compression(path, magic)
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            while block := stream.read(_BLOCK):
                total += len(block)
                if total > max_bytes:
                    raise too_many_bytes(max_bytes)
                yield block
    except OSError as error:
        if compression is None:
            raise
        # pyarrow names a truncated or damaged stream only in its message.
        fix = "compress the file anew and upload it again; the checksum of the copy should be that of the original"
        raise refused("damaged_compression", shown(str(error)), "a complete .gz or .zst file", fix) from error


def too_many_bytes(max_bytes: int) -> TooLarge:
    """Return the refusal of a file that holds more than *max_bytes* of data."""
    found, expected = f"more than {max_bytes:,} bytes of data", f"at most {max_bytes:,}"
    finding = Finding("too_many_bytes", found, expected, "upload the rows in several datasets")
    return TooLarge(f"The file is too large: found {found}, expected {expected}.", findings=[finding])


def _compression(path: Path, magic: bytes) -> str | None:
    if magic.startswith(b"\x1f\x8b"):
        return "gzip"
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if path.suffix in (".gz", ".zst") or magic.startswith((b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        fix = "decompress the file, or compress it with gzip or zstd"
        raise refused("unknown_compression", f"bytes that begin 0x{magic[:4].hex()}", "gzip, zstd or none", fix)
    return None


def without_bom(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *blocks* without the byte order mark before the first character, if there is one."""
    first = next(blocks, b"")
    yield first.removeprefix(_BOM)
    yield from blocks


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


def _long_record(number: int, limit: int) -> InvalidRows:
    fix = "put one record on each line, and remove the row if it really is that long"
    return refused("record_too_long", f"a record of more than {limit:,} bytes", f"at most {limit:,}", fix, number)


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
"""A whole string, a quote whose string has not ended yet, or a sign that structures JSON."""


def array_elements(blocks: Iterator[bytes], max_record_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of one JSON array, with their 1-based numbers, cut at the commas but not parsed.

    Raises:
        InvalidRows: the array does not end, something follows it, or an element is over *max_record_bytes*.
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
            if is_end and sign != b"]":
                found, expected = (
                    f"an array that is closed by }} after element {number + 1}",
                    "an array that ends with ]",
                )
                raise refused("malformed_json", found, expected, "correct the end of the file", number + 1)
            if is_end or (sign == b"," and depth == 1):
                element, begin = buffer[begin : token.start()].strip(), token.end()
                if element or number or not is_end:
                    number += 1
                    if len(element) > max_record_bytes:
                        raise _long_record(number, max_record_bytes)
                    yield number, element
            if is_end:
                _nothing_follows(buffer[begin:], blocks)
                return
        else:
            scanned = len(buffer)
        if len(buffer) - begin > max_record_bytes:
            raise _long_record(number + 1, max_record_bytes)
    found = f"the end of the file in element {number + 1}"
    raise refused("truncated", found, "an array that ends with ]", "upload the whole file", number + 1)


def _nothing_follows(rest: bytes, blocks: Iterator[bytes]) -> None:
    for part in (rest, *blocks):
        if part.strip():
            found = f"'{shown(part.strip()[:24].decode('latin-1'))}' after the array"
            raise refused("malformed_json", found, "one array", "remove what follows the closing ]")
