"""The rows of Parquet and Arrow files as Python values that lose nothing, under a cap of bytes. Torch-free.

Knows nothing of prompts and responses; what a file is, `deft.data.readers` finds out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deft.data.blocks import refused, too_many_bytes
from deft.data.columns import TimeText
from deft.data.row_checks import BadRow
from deft.errors import InvalidRows, shown
from deft.strict_json import MAX_DEPTH

_VIEWS = {"string_view": pa.large_string(), "binary_view": pa.large_binary()}
"""Types whose slices share their buffers, and what holds the values of a slice alone."""

_BYTES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
Numbered = tuple[int, dict[str, Any] | BadRow]


def parquet_records(path: Path, max_bytes: int) -> Iterator[Numbered]:
    """Yield the rows of a Parquet file."""
    with _readable("Parquet"), pq.ParquetFile(path) as file:
        _check_columns(file.schema_arrow)
        yield from _numbered(file.iter_batches(batch_size=1024), max_bytes)


def arrow_records(path: Path, max_bytes: int) -> Iterator[Numbered]:
    """Yield the rows of an Arrow file or stream (what `datasets` caches is a stream)."""
    with _readable("Arrow"), pa.memory_map(str(path)) as memory:
        try:
            is_stream = False
            file = pa.ipc.open_file(memory)
            _check_columns(file.schema)
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
        except pa.ArrowInvalid:
            is_stream = True
            _ends_whole(memory)
            stream = pa.ipc.open_stream(memory)
            _check_columns(stream.schema)
            batches = iter(stream)
        yield from _numbered(batches, max_bytes)
        if is_stream and memory.tell() < memory.size():
            fix = "write one stream with all rows, or upload the streams as several files"
            raise refused("damaged_file", "more bytes after the end of an Arrow stream", "one stream", fix)


@contextmanager
def _readable(container: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, SystemError) as error:
        if "too deeply nested" in str(error):
            raise _unreadable("a column of very many levels") from error
        fix = "write the file anew and upload it again"
        raise refused("damaged_file", shown(str(error)), f"a complete {container} file", fix) from error


def _numbered(batches: Iterator[Any], max_bytes: int) -> Iterator[Numbered]:
    number, total = 0, 0
    for batch in batches:
        batch.validate(full=True)  # offsets are read as they stand: a wrong one would crash the process
        for start in range(0, batch.num_rows, 1024):
            part = batch.slice(start, 1024)
            total += sum(map(_bytes_of_values, part.columns))
            if total > max_bytes:
                raise too_many_bytes(max_bytes)
            for row in _rows(part):
                number += 1
                yield number, row


def _bytes_of_values(column: pa.Array) -> int:
    """Return the bytes of the values of *column*: each as often as it stands there, and nothing that it shares."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _bytes_of_values(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return _bytes_of_values(pc.run_end_decode(column))
    if pa.types.is_dictionary(kind):
        return _bytes_of_entries(column)
    plain = _VIEWS.get(str(kind))
    return int((column if plain is None else column.cast(plain)).nbytes)


def _bytes_of_entries(column: pa.DictionaryArray) -> int:
    """Return the bytes of the entries that *column* names, each as often as it does; none is copied so often."""
    counts = pc.value_counts(column.indices)
    entries = column.dictionary.cast(_VIEWS.get(str(column.type.value_type), column.type.value_type))
    if entries.type not in _BYTES:
        return int(column.dictionary_decode().nbytes)
    used = entries.take(counts.field("values"))
    return int(pc.sum(pc.multiply(pc.binary_length(used), counts.field("counts"))).as_py() or 0)


def _ends_whole(memory: pa.MemoryMappedFile) -> None:
    """Refuse a stream without its end marker, which may have lost its last batches; leave *memory* at its start."""
    memory.seek(max(memory.size() - len(_END_OF_STREAM), 0))
    if memory.read() != _END_OF_STREAM:
        fix = "write the file anew, and close its writer"
        raise refused("damaged_file", "an Arrow stream without its end", "a complete Arrow file", fix)
    memory.seek(0)


def _check_columns(schema: pa.Schema) -> None:
    """Refuse a table with two columns of one name, of which a row could hold one, or with a type that loses values."""
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        found = f"the column {shown(twice)} twice"
        raise refused("duplicate_key", found, "every column once", "rename one of the columns")
    for field in schema:
        if not _is_readable(_unwrapped(field.type)):
            raise _unreadable(f"the column {shown(field.name)} of type {shown(str(field.type))}")


def _unreadable(found: str) -> InvalidRows:
    expected = f"text, numbers, times, and lists and objects of them, at most {MAX_DEPTH} levels deep"
    return refused("unreadable_type", found, expected, "write the column as JSON text")


def _unwrapped(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a column that is stored as an extension, a dictionary or runs."""
    if isinstance(kind, pa.BaseExtensionType):
        return _unwrapped(kind.storage_type)
    return kind.value_type if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) else kind


def _is_readable(kind: pa.DataType, depth: int = 0) -> bool:
    """Whether values of *kind* come out as JSON's values or single ones that lose nothing."""
    if depth > MAX_DEPTH:
        return False
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        return len(set(names)) == len(names) and all(_is_readable(field.type, depth + 1) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_readable(kind.value_type, depth + 1)
    if pa.types.is_nested(kind) or pa.types.is_union(kind):
        return False
    return depth == 0 or (_unwrapped(kind) == kind and "[ns" not in str(kind))


def _rows(part: pa.RecordBatch) -> list[dict[str, Any] | BadRow]:
    """Return the rows of *part* as Python values that lose nothing; a row with one that Python cannot hold is bad."""
    names = part.schema.names
    columns = [_values(name, column) for name, column in zip(names, part.columns, strict=True)]
    rows: list[dict[str, Any] | BadRow] = []
    for values in zip(*columns, strict=True):
        bad = next((value for value in values if isinstance(value, BadRow)), None)
        rows.append(bad or dict(zip(names, values, strict=True)))
    return rows


def _values(name: str, column: pa.Array) -> list[Any]:
    plain = _no_finer_than_microseconds(column)
    try:
        found: list[Any] = plain.to_pylist()
    except (pa.ArrowException, OverflowError, ValueError):
        return [_value(name, scalar) for scalar in plain]
    if pa.types.is_string(plain.type) and "[ns" in str(column.type):
        return [None if text is None else TimeText(text) for text in found]
    return found


def _value(name: str, scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (pa.ArrowException, OverflowError, ValueError) as error:
        found = f"{shown(str(scalar.type))}: {shown(str(error))}"
        expected = "a value that Python has a type for: years 1 to 9999, known time zones, every key of an object once"
        return BadRow("value_range", shown(name), found, expected, "write the column as text, or remove the row")


def _no_finer_than_microseconds(column: pa.Array) -> pa.Array:
    """Return *column* with times in nanoseconds as microseconds, as text where that would cut a value."""
    if "[ns" not in str(column.type):
        return column
    if isinstance(column, pa.ExtensionArray):
        return _no_finer_than_microseconds(column.storage)
    if pa.types.is_dictionary(column.type):
        return _no_finer_than_microseconds(column.dictionary_decode())
    if pa.types.is_run_end_encoded(column.type):
        return _no_finer_than_microseconds(pc.run_end_decode(column))
    kind = column.type
    try:
        return column.cast(_in_microseconds(kind))
    except pa.ArrowInvalid:
        return column.cast(pa.int64()).cast(pa.string()) if pa.types.is_duration(kind) else column.cast(pa.string())


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time64(kind) else pa.duration("us")
