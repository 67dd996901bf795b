"""What the rows of a dataset folder are known by: the point of their prompt, and their key. Torch-free."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def identities(folder: Path) -> dict[int, tuple[float, str]]:
    """Return (split_point, key) by row: equal split points are equal normalised first user turns."""
    table: dict[str, list[Any]] = pq.read_table(
        folder / "examples.parquet", columns=["row", "split_point", "key"]
    ).to_pydict()
    return {row: (p, key) for row, p, key in zip(table["row"], table["split_point"], table["key"], strict=True)}
