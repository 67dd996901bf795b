"""The mean hidden states of an earlier scoring, by the content of an example: what need not be run again. Torch-free.

A state depends on the model, the adapter on it, its precision, the tokenizer, the token options, and the example's own
texts: not on Q_diff. An example's key is the SHA-256 of its prompt and responses (`deft.examples.key_of`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deft.errors import ArtifactCorrupt
from deft.scoring.extending import HIDDEN, require_extendable

SETTINGS = ("base_weights_hash", "config_hash", "adapter_hash", "dtype", "tokenizer_sha256", "options")
"""What must be equal for states to be."""


@dataclass(frozen=True, slots=True)
class StoredStates:
    """The scored responses of an earlier scoring: *table* (scores.parquet), *hidden* float32 [S, D] in its order.

    *places* says where the responses of each example begin and end, by the example's key.
    """

    table: pa.Table
    hidden: NDArray[np.float32]
    places: Mapping[str, tuple[int, int]]

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def take(self, rows: Sequence[int], keys: Sequence[str]) -> tuple[pa.Table, NDArray[np.float32]]:
        """Return table and states of the examples *keys*, as the rows *rows* of another data set."""
        spans = [self.places[key] for key in keys]
        at = np.concatenate([np.arange(start, stop) for start, stop in spans] or [np.zeros(0, np.int64)])
        table = self.table.take(pa.array(at))
        numbers = np.repeat(np.asarray(rows, np.int64), [stop - start for start, stop in spans])
        return table.set_column(0, "row", pa.array(numbers, pa.int64())), self.hidden[at]


def open_states(folder: Path, settings: Mapping[str, str | None]) -> StoredStates:
    """Open the scoring in *folder*, made with the same *settings* (those of `SETTINGS`), for its states.

    Raises:
        InvalidInput: a setting differs, or the scoring has no states since its head is soft-capped.
        ArtifactCorrupt: its files do not belong together.
    """
    require_extendable(folder, {name: settings[name] for name in SETTINGS})
    table = pq.read_table(folder / "scores.parquet")
    hidden = np.load(folder / HIDDEN, mmap_mode="r")
    if len(hidden) != table.num_rows or table.column_names[0] != "row":
        raise ArtifactCorrupt(f"{HIDDEN} and scores.parquet do not have the same responses")
    rows, starts = np.unique(table["row"].to_numpy(), return_index=True)
    stops = np.append(starts[1:], table.num_rows)
    keys = keys_of(folder)
    if len(rows) and rows[-1] >= len(keys):
        raise ArtifactCorrupt("a scored row is not in examples.parquet")
    spans = zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True)
    return StoredStates(table, hidden, {keys[row]: (start, stop) for row, start, stop in spans})


def keys_of(folder: Path) -> list[str]:
    """Return the key of every example of the dataset or scoring in *folder*, by row."""
    keys: list[str] = pq.read_table(folder / "examples.parquet", columns=["key"])["key"].to_pylist()
    return keys
