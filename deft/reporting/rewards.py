"""The distribution of what a selection ranked by, and where it cut. Torch-free; reads a subset's ledger alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

BINS = 40
COLUMNS = ["deft_r_d", "deft_r_d_rejected", "deft_kept", "deft_rank"]


def reward_histogram(subset: Path, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return counts [`BINS`] of scored and of kept rows between `edges`, and the cut; None: nothing was scored.

    *subset* is a subset's folder and *summary* its summary. What is counted is what ranked the rows, except for
    `length_adjusted` and for ends that do not rank by R_d, where it is R_d of the chosen response and there is no cut.
    """
    ledger = pq.read_table(subset / "ledger.parquet", columns=COLUMNS)
    scored = ledger.filter(pc.is_valid(ledger["deft_rank"]))
    if scored.num_rows == 0:
        return None
    by = str(summary["by"])
    values, kept = _ranked_by(scored, by), scored["deft_kept"].to_numpy(zero_copy_only=False).astype(bool)
    is_cut = by != "length_adjusted" and summary["end"] in ("lowest", "highest")
    edges = np.histogram_bin_edges(values, BINS)
    return {
        "by": by,
        "end": summary["end"],
        "edges": [float(edge) for edge in edges],
        "scored": _counted(values, edges),
        "kept": _counted(values[kept], edges),
        "cut": summary.get("cut_value") if is_cut else None,
        "rows": scored.num_rows,
        "rows_kept": int(kept.sum()),
    }


def _ranked_by(scored: pa.Table, by: str) -> NDArray[np.float64]:
    chosen = scored["deft_r_d"].to_numpy()
    if by not in ("rejected", "margin"):
        return np.asarray(chosen, np.float64)
    rejected = scored["deft_r_d_rejected"].to_numpy()
    return np.asarray(rejected if by == "rejected" else chosen - rejected, np.float64)


def _counted(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[int]:
    return [int(count) for count in np.histogram(values, edges)[0]]
