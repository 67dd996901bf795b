"""The histogram counts every scored row once, and the kept ones beside the cut."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft.reporting.rewards import reward_histogram


def _subset(folder: Path) -> Path:
    ranks = [None if row % 10 == 9 else row + 1 for row in range(100)]
    ledger = {
        "deft_r_d": [row / 100 if rank else None for row, rank in enumerate(ranks)],
        "deft_r_d_rejected": [0.5 if rank else None for rank in ranks],
        "deft_kept": [row < 20 and rank is not None for row, rank in enumerate(ranks)],
        "deft_rank": ranks,
    }
    pq.write_table(pa.table(ledger), folder / "ledger.parquet")
    return folder


def _summary(**more: Any) -> dict[str, Any]:
    return {"by": "chosen", "end": "lowest", "cut_value": 0.18, **more}


def test_all_scored_rows_are_counted_and_the_kept_ones_lie_below_the_cut(tmp_path: Path) -> None:
    found = reward_histogram(_subset(tmp_path), _summary())
    assert found is not None
    assert (sum(found["scored"]), sum(found["kept"]), found["rows"], found["rows_kept"]) == (90, 18, 90, 18)
    assert (found["edges"][0], found["edges"][-1], found["cut"]) == (0.0, 0.98, 0.18)
    last = max(place for place, count in enumerate(found["kept"]) if count)
    assert found["edges"][last] <= 0.18


def test_a_margin_is_counted_where_it_ranked(tmp_path: Path) -> None:
    found = reward_histogram(_subset(tmp_path), _summary(by="margin"))
    assert found is not None
    assert (found["edges"][0], found["edges"][-1]) == (pytest.approx(-0.5), pytest.approx(0.48))


@pytest.mark.parametrize("more", [{"end": "random"}, {"end": "length"}, {"by": "length_adjusted"}])
def test_what_did_not_cut_at_a_reward_has_no_cut(tmp_path: Path, more: dict[str, str]) -> None:
    found = reward_histogram(_subset(tmp_path), _summary(**more))
    assert found is not None
    assert found["cut"] is None


def test_nothing_scored_has_no_histogram(tmp_path: Path) -> None:
    empty = {name: pa.nulls(3, kind) for name, kind in _COLUMNS.items()}
    pq.write_table(pa.table(empty), tmp_path / "ledger.parquet")
    assert reward_histogram(tmp_path, _summary()) is None


_COLUMNS = {
    "deft_r_d": pa.float64(),
    "deft_r_d_rejected": pa.float64(),
    "deft_kept": pa.bool_(),
    "deft_rank": pa.int64(),
}
