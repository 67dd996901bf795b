"""Rows on which arms differ, by hand."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft.reporting.contrasts import contrasts

ARMS = {"deft": "deft", "random": "random", "random-2": "random"}


def _pairs(folder: Path) -> Path:
    margins = {
        "base": [None, None, None],
        "deft": [1.0, -2.0, 0.5],
        "random": [1.0, 2.0, 0.0],
        "random-2": [2.0, 2.0, 1.0],
    }
    rows = [
        {"row": row, "system": system, "margin": own[place]}
        for system, own in margins.items()
        for place, row in enumerate((4, 7, 9))
    ]
    path = folder / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_the_widest_range_comes_first_and_draws_are_averaged(tmp_path: Path) -> None:
    found = contrasts(_pairs(tmp_path), ARMS)
    assert [(each["row"], each["range"]) for each in found["rows"]] == [(7, 4.0), (4, 0.5), (9, 0.0)]
    assert found["rows"][1]["margins"] == {"deft": 1.0, "random": 1.5}


def test_two_arms_disagree_where_one_prefers_the_chosen_response_and_the_other_does_not(tmp_path: Path) -> None:
    found = contrasts(_pairs(tmp_path), ARMS)
    assert found["disagreement"] == [{"arms": ["deft", "random"], "share": pytest.approx(1 / 3)}]
    assert found["of_rows"] == 3


def test_rows_are_named_by_their_line_and_source_and_by_no_text(tmp_path: Path) -> None:
    examples = {"row": range(10), "source_line": range(101, 111), "source": ["a"] * 10, "prompt": ["secret"] * 10}
    pq.write_table(pa.table({name: list(values) for name, values in examples.items()}), tmp_path / "examples.parquet")
    found = contrasts(_pairs(tmp_path), ARMS, tmp_path / "examples.parquet")
    assert (found["rows"][0]["source_line"], found["rows"][0]["source"]) == (108, "a")
    assert "secret" not in str(found)


def test_one_arm_alone_differs_from_nothing(tmp_path: Path) -> None:
    assert contrasts(_pairs(tmp_path), {"deft": "deft"})["rows"] == []
