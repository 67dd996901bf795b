"""Rows of any JSON written to one Parquet file, streamed, with one type a column. Torch-free.

A column's type is known only when its last value was seen. So the writer starts with the types of the first rows; when
later rows need another one, it rewrites what it has: null becomes anything, whole numbers become doubles, and values
that fit no one type become JSON text, all of the column.
"""

import base64
import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
COMPRESSION = "zstd"


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer with zstd, and without dictionaries and statistics: long texts make them slow and useless."""
    return pq.ParquetWriter(path, schema, compression=COMPRESSION, use_dictionary=False, write_statistics=False)


class TimeText(str):
    """A time that no column of times here can hold, as text; a column with one becomes JSON text, and is told."""

    __slots__ = ()


JSON_TEXT = None
"""The kind of a column whose values fit no one type; every other kind is an Arrow type."""

Kind = Any  # an Arrow type, or JSON_TEXT


def json_bytes(value: object) -> bytes:
    """Return *value* as JSON; bytes become base64, what JSON does not know becomes its text."""
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a whole number of over 64 bits
        return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _json_text(values: Sequence[object]) -> pa.Array:
    texts = [None if value is None else json_bytes(_with_named_numbers(value)).decode() for value in values]
    return pa.array(texts, pa.string())


def _with_named_numbers(value: object) -> object:
    """Return *value* with its NaN and infinities as text: JSON would make them null."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_with_named_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_named_numbers(item) for name, item in value.items()}
    return value


def typed(values: list[Any]) -> pa.Array | None:
    """Return *values* as one Arrow array, or None if no one type holds them all unchanged."""
    try:
        array = pa.array(values)
        back = array.to_pylist() if pa.types.is_nested(array.type) else None
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return None
    if not _is_storable(array.type):
        return None
    if pa.types.is_nested(array.type):
        return array if _are_identical(back, values) else None
    kinds = {type(value) for value in values} - {type(None)}
    if TimeText in kinds:
        return None
    if kinds == {int, float}:
        return array if all(float(value) == value for value in values if type(value) is int) else None
    zones = {value.tzinfo for value in values if isinstance(value, datetime)}
    return array if len(kinds) <= 1 and len(zones) <= 1 else None


def _are_identical(one: object, other: object) -> bool:
    """Whether two values are the same, types of numbers included: True is not 1, and NaN is NaN."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_identical, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_identical(one[name], other[name]) for name in one)
    if type(one) is not type(other):
        return {type(one), type(other)} == {int, float} and one == other
    return one == other or (one != one and other != other)


def _is_storable(kind: pa.DataType) -> bool:
    # Parquet has no type for an object without keys, and none for an interval of months, days and nanoseconds.
    if kind == pa.month_day_nano_interval():
        return False
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_is_storable(field.type) for field in kind)
    return not pa.types.is_nested(kind) or all(_is_storable(kind.field(i).type) for i in range(kind.num_fields))


def merged(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both, unchanged, or None."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        item = merged(one.value_type, other.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_struct(one) and pa.types.is_struct(other) and [f.name for f in one] == [f.name for f in other]:
        kinds = [merged(a.type, b.type) for a, b in zip(one, other, strict=True)]
        return None if None in kinds else pa.struct([(f.name, k) for f, k in zip(one, kinds, strict=True)])
    return None


class _DoesNotFit(Exception):
    """A value of *column* turned out not to fit the kind that looked right, say a large integer among doubles."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(column)


def _in_kind(name: str, values: list[Any], kind: Kind, array: pa.Array | None = None) -> pa.Array:
    if kind is JSON_TEXT:
        return _json_text(values)
    if array is not None and array.type == kind:
        return array
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise _DoesNotFit(name) from error


def _writer(path: Path, kinds: dict[str, Kind]) -> pq.ParquetWriter:
    fields = [(name, pa.string() if kind is JSON_TEXT else kind) for name, kind in kinds.items()]
    return parquet_writer(path, pa.schema(fields))


class OneTypeWriter:
    """Writes rows to the Parquet file at *path*, a row group a call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kinds: dict[str, Kind] = {}
        self._writer: pq.ParquetWriter | None = None

    @property
    def json_columns(self) -> list[str]:
        """The columns that became JSON text."""
        return [name for name, kind in self._kinds.items() if kind is JSON_TEXT]

    def write(self, rows: list[Row]) -> None:
        """Append *rows*; a key that a row lacks is null."""
        names = dict.fromkeys([*self._kinds, *(name for row in rows for name in row)])
        columns = {name: [row.get(name) for row in rows] for name in names}
        arrays = {name: None if self._is_json(name) else typed(values) for name, values in columns.items()}
        kinds = {name: self._kind_with(name, array) for name, array in arrays.items()}
        while True:
            try:
                table = {name: _in_kind(name, columns[name], kinds[name], arrays[name]) for name in names}
                self._ready_for(kinds).write_table(pa.table(table))
                return
            except _DoesNotFit as misfit:
                kinds[misfit.column] = JSON_TEXT

    def close(self) -> None:
        """Finish the file. Without a row there is no file."""
        if self._writer is not None:
            self._writer.close()

    def _is_json(self, name: str) -> bool:
        return name in self._kinds and self._kinds[name] is JSON_TEXT

    def _kind_with(self, name: str, array: pa.Array | None) -> Kind:
        return JSON_TEXT if array is None else merged(self._kinds.get(name, pa.null()), array.type)

    def _ready_for(self, kinds: dict[str, Kind]) -> pq.ParquetWriter:
        """Return a writer of *kinds* that has all earlier rows: where kinds changed, they are rewritten, streamed."""
        if self._writer is None:
            self._writer = _writer(self.path, kinds)
        elif kinds != self._kinds:
            self._writer.close()
            wider = self.path.with_name(self.path.name + ".wider")
            writer = _writer(wider, kinds)
            with pq.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    writer.write_table(pa.table({name: self._converted(table, name, kinds[name]) for name in kinds}))
            wider.replace(self.path)
            self._writer = writer
        self._kinds = dict(kinds)
        return self._writer

    def _converted(self, table: pa.Table, name: str, kind: Kind) -> pa.Array:
        if name not in self._kinds:
            return pa.nulls(table.num_rows, pa.string() if kind is JSON_TEXT else kind)
        if self._kinds[name] == kind:
            return table.column(name)
        return _in_kind(name, table.column(name).to_pylist(), kind)
