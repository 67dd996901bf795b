"""The rows of Parquet and Arrow files as Python values that lose nothing, under a cap of bytes. Torch-free.

Knows nothing of prompts and responses; what a file is, `deft.readers` finds out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deft.blocks import refused, too_many_bytes
from deft.errors import shown
from deft.row_checks import BadRow

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
Numbered = tuple[int, dict[str, Any] | BadRow]


def parquet_records(path: Path, max_bytes: int) -> Iterator[Numbered]:
    """Yield the rows of a Parquet file."""
    with _readable("Parquet"), pq.ParquetFile(path) as file:
        _columns_once(file.schema_arrow)
        yield from _numbered(file.iter_batches(batch_size=1024), max_bytes)


def arrow_records(path: Path, max_bytes: int) -> Iterator[Numbered]:
    """Yield the rows of an Arrow file or stream (what `datasets` caches is a stream)."""
    with _readable("Arrow"), pa.memory_map(str(path)) as memory:
        try:
            file = pa.ipc.open_file(memory)
            _columns_once(file.schema)
            batches = (file.get_batch(index) for index in range(file.num_record_batches))
        except pa.ArrowInvalid:
            _ends_whole(memory)
            stream = pa.ipc.open_stream(memory)
            _columns_once(stream.schema)
            batches = iter(stream)
        yield from _numbered(batches, max_bytes)


@contextmanager
def _readable(container: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, SystemError) as error:
        fix = "write the file anew and upload it again"
        raise refused("damaged_file", shown(str(error)), f"a complete {container} file", fix) from error


def _numbered(batches: Iterator[Any], max_bytes: int) -> Iterator[Numbered]:
    number, total = 0, 0
    for batch in batches:
        batch.validate(full=True)  # offsets are read as they stand: a wrong one would crash the process
        for start in range(0, batch.num_rows, 1024):
            part = batch.slice(start, 1024)
            total += part.nbytes
            if total > max_bytes:
                raise too_many_bytes(max_bytes)
            for row in _rows(part):
                number += 1
                yield number, row


def _ends_whole(memory: pa.MemoryMappedFile) -> None:
    """Refuse a stream without its end marker, which may have lost its last batches; leave *memory* at its start."""
    memory.seek(max(memory.size() - len(_END_OF_STREAM), 0))
    if memory.read() != _END_OF_STREAM:
        fix = "write the file anew, and close its writer"
        raise refused("damaged_file", "an Arrow stream without its end", "a complete Arrow file", fix)
    memory.seek(0)


def _columns_once(schema: pa.Schema) -> None:
    """Refuse a table with two columns of one name: a row could hold only one of them."""
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        found = f"the column {shown(twice)} twice"
        raise refused("duplicate_key", found, "every column once", "rename one of the columns")


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
    try:
        plain = _no_finer_than_microseconds(column)
    except pa.ArrowException as error:
        expected, fix = "times in microseconds or coarser within lists and objects", "write the column as text"
        found = f"{shown(str(column.type))} in the column {shown(name)}"
        raise refused("value_range", found, expected, fix) from error
    try:
        found_values: list[Any] = plain.to_pylist()
    except (pa.ArrowException, OverflowError, ValueError):
        return [_value(name, scalar) for scalar in plain]
    return found_values


def _value(name: str, scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except (pa.ArrowException, OverflowError, ValueError) as error:
        found = f"{shown(str(scalar.type))}: {shown(str(error))}"
        expected = "a value that Python has a type for: years 1 to 9999, known time zones, every key of an object once"
        return BadRow("value_range", shown(name), found, expected, "write the column as text, or remove the row")


def _no_finer_than_microseconds(column: pa.Array) -> pa.Array:
    """Return *column* with times in nanoseconds as microseconds, as text where that would cut a value.

    Raises:
        ArrowException: such times stand within lists or objects.
    """
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
        if pa.types.is_nested(kind):
            raise
        return column.cast(pa.int64()).cast(pa.string()) if pa.types.is_duration(kind) else column.cast(pa.string())


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _in_microseconds(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(_in_microseconds(kind.value_type))
    return pa.list_(_in_microseconds(kind.value_type)) if pa.types.is_list(kind) else kind
