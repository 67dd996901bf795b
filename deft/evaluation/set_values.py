"""The rows of values.parquet that answers to prompt sets are summed into. Torch-free; knows columns, no metric."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

OF_SETS = pa.schema(
    [
        ("row", pa.int64()),
        ("sample", pa.int32()),
        ("prompt", pa.int64()),
        ("source", pa.string()),
        ("system", pa.string()),
        ("arm", pa.string()),
        ("metric", pa.string()),
        ("sums", pa.list_(pa.float64())),
        ("set", pa.string()),
        ("category", pa.string()),
        ("label", pa.string()),
        ("kind", pa.string()),
    ]
)
"""Columns of values.parquet where prompt sets were answered; the last four are null in other rows."""


def append_values(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Append *rows* of prompt sets to values.parquet, or begin it with them."""
    own = pa.Table.from_pylist(list(rows), schema=OF_SETS)
    tables = [pq.read_table(path), own] if path.is_file() else [own]
    found = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(tables[0].schema.metadata)
    pq.write_table(found, path, compression="zstd")
