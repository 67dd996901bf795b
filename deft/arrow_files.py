"""The rows of Parquet and Arrow files as Python values that lose nothing, under a cap of bytes. Torch-free.

Knows nothing of prompts and responses; what a file is, `deft.readers` finds out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deft.blocks import refused, too_many_bytes
from deft.errors import shown

Numbered = tuple[int, dict[str, Any]]


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
            memory.seek(0)
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
            for row in _rows(part, number):
                number += 1
                yield number, row


def _columns_once(schema: pa.Schema) -> None:
    """Refuse a table with two columns of one name: a row could hold only one of them."""
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        found = f"the column {shown(twice)} twice"
        raise refused("duplicate_key", found, "every column once", "rename one of the columns")


def _rows(part: pa.RecordBatch, before: int) -> list[dict[str, Any]]:
    """Return the rows of *part*, of which *before* came earlier, as Python values that lose nothing.

    Raises:
        InvalidRows: a column holds values that Python has no type for.
    """
    columns: dict[str, list[Any]] = {}
    for name, column in zip(part.schema.names, part.columns, strict=True):
        try:
            columns[name] = _no_finer_than_microseconds(column).to_pylist()
        except (pa.ArrowException, OverflowError, ValueError) as error:
            found = f"{shown(str(column.type))} in the column {shown(name)}: {shown(str(error))}"
            expected, fix = (
                "values between the years 1 and 9999, in microseconds or coarser",
                "write the column as text",
            )
            raise refused("value_range", found, expected, fix, before + 1) from error
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _no_finer_than_microseconds(column: pa.Array) -> pa.Array:
    """Return *column* with times in nanoseconds as microseconds, as text where that would cut a value.

    Raises:
        ArrowInvalid: such times stand within lists or objects.
    """
    if "[ns" not in str(column.type):
        return column
    kind = column.type
    if pa.types.is_nested(kind):
        return column.cast(_in_microseconds(kind))
    try:
        return column.cast(_in_microseconds(kind))
    except pa.ArrowInvalid:
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
