"""Rows of any JSON written to one Parquet file, streamed, with one type a column. Torch-free.

A column's type is known only when its last value was seen. So the writer starts with the types of the first rows; when
later rows need another one, it rewrites what it has: null becomes anything, whole numbers become doubles, and values
that fit no one type become JSON text, all of the column.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
COMPRESSION = "zstd"

JSON_TEXT = None
"""The kind of a column whose values fit no one type; every other kind is an Arrow type."""

Kind = Any  # an Arrow type, or JSON_TEXT


def json_bytes(value: object) -> bytes:
    """Return *value* as JSON; bytes become base64, what JSON does not know becomes its text, NaN becomes null."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _json_text(values: Sequence[object]) -> pa.Array:
    return pa.array([None if value is None else json_bytes(value).decode() for value in values], pa.string())


def typed(values: list[Any]) -> pa.Array | None:
    """Return *values* as one Arrow array, or None if no one type holds them all unchanged."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return None
    if pa.types.is_nested(array.type):
        return array if _is_storable(array.type) and array.to_pylist() == values else None
    if pa.types.is_float64(array.type) and any(type(value) is int and float(value) != value for value in values):
        return None
    return array


def _is_storable(kind: pa.DataType) -> bool:
    # Parquet has no type for an object without keys.
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


def _in_kind(values: list[Any], kind: Kind, array: pa.Array | None = None) -> pa.Array:
    if kind is JSON_TEXT:
        return _json_text(values)
    return array if array is not None and array.type == kind else pa.array(values, kind)


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
        if self._writer is None or kinds != self._kinds:
            self._change_kinds(kinds)
        self._append({name: _in_kind(columns[name], self._kinds[name], arrays[name]) for name in names})

    def close(self) -> None:
        """Finish the file. Without a row there is no file."""
        if self._writer is not None:
            self._writer.close()

    def _is_json(self, name: str) -> bool:
        return name in self._kinds and self._kinds[name] is JSON_TEXT

    def _kind_with(self, name: str, array: pa.Array | None) -> Kind:
        return JSON_TEXT if array is None else merged(self._kinds.get(name, pa.null()), array.type)

    def _append(self, arrays: dict[str, pa.Array]) -> None:
        table = pa.table(arrays)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, compression=COMPRESSION)
        self._writer.write_table(table)

    def _change_kinds(self, kinds: dict[str, Kind]) -> None:
        """Rewrite what is written, streamed, so that every column has its new kind."""
        old_kinds, self._kinds = self._kinds, kinds
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        earlier = self.path.with_name(self.path.name + ".earlier")
        self.path.rename(earlier)
        with pq.ParquetFile(earlier) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                self._append({n: self._converted(table, n, old_kinds.get(n, pa.null())) for n in kinds})
        earlier.unlink()

    def _converted(self, table: pa.Table, name: str, old: Kind) -> pa.Array:
        new = self._kinds[name]
        if name not in table.column_names:
            return pa.nulls(table.num_rows, pa.string() if new is JSON_TEXT else new)
        if old == new:
            return table.column(name)
        return _in_kind(table.column(name).to_pylist(), new)
