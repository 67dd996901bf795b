import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.data.columns import OneTypeWriter

DAY = datetime.date(2026, 1, 2)
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5)

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
FLAT = SCALARS | st.text(max_size=3)
CELLS = (
    FLAT
    | st.lists(FLAT, max_size=2)
    | st.lists(st.lists(SCALARS, max_size=2), max_size=2)
    | st.dictionaries(st.sampled_from("xy"), FLAT, max_size=2)
    | st.lists(st.dictionaries(st.sampled_from("xy"), SCALARS, max_size=2), max_size=2)
)


def write(path: Path, *chunks: list[dict[str, Any]]) -> OneTypeWriter:
    writer = OneTypeWriter(path)
    for chunk in chunks:
        writer.write(chunk)
    writer.close()
    return writer


@pytest.mark.parametrize(
    ("one", "other", "kind", "back"),
    [
        (1, 2, pa.int64(), [1, 2]),
        (1, 0.5, pa.float64(), [1.0, 0.5]),
        (None, "x", pa.string(), [None, "x"]),
        ("x", None, pa.string(), ["x", None]),
        ("x", 1, pa.string(), ['"x"', "1"]),
        (True, 1, pa.string(), ["true", "1"]),
        ("x", ["x"], pa.string(), ['"x"', '["x"]']),
        ([], ["x"], pa.list_(pa.string()), [[], ["x"]]),
        ([1], [0.5], pa.list_(pa.float64()), [[1.0], [0.5]]),
        ({"a": 1}, {"a": None}, pa.struct([("a", pa.int64())]), [{"a": 1}, {"a": None}]),
        ({"a": 1}, {"b": 1}, pa.string(), ['{"a":1}', '{"b":1}']),
        ([2**53 + 1], [0.5], pa.string(), [f"[{2**53 + 1}]", "[0.5]"]),
        ({}, {}, pa.string(), ["{}", "{}"]),
        ([{}], None, pa.string(), ["[{}]", None]),
        (2**53 + 1, 0.5, pa.string(), [str(2**53 + 1), "0.5"]),
        (2**64 - 1, 1, pa.string(), [str(2**64 - 1), "1"]),
        (2.5, True, pa.string(), ["2.5", "true"]),
        ([2.5], [True], pa.string(), ["[2.5]", "[true]"]),
        ({"a": 2.5}, {"a": True}, pa.string(), ['{"a":2.5}', '{"a":true}']),
        (DAY, MOMENT, pa.string(), ['"2026-01-02"', '"2026-01-02T03:04:05"']),
        (
            MOMENT,
            MOMENT.replace(tzinfo=datetime.UTC),
            pa.string(),
            ['"2026-01-02T03:04:05"', '"2026-01-02T03:04:05+00:00"'],
        ),
        (datetime.timedelta(seconds=1), 5, pa.string(), ['"0:00:01"', "5"]),
        (b"x", "y", pa.string(), ['"eA=="', '"y"']),
        (float("inf"), "x", pa.string(), ['"inf"', '"x"']),
        (pa.MonthDayNano([1, 2, 3]), None, pa.string(), ["[1,2,3]", None]),
    ],
)
@pytest.mark.parametrize("is_together", [True, False])
def test_one_type_a_column_and_else_json_text(tmp_path: Path, one, other, kind, back, is_together) -> None:  # type: ignore[no-untyped-def]
    rows = [{"c": one}, {"c": other}]
    writer = write(tmp_path / "a.parquet", *([rows] if is_together else [rows[:1], rows[1:]]))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("c").type == kind
    assert table["c"].to_pylist() == back
    assert writer.json_columns == (
        ["c"] if kind == pa.string() and not isinstance(one, str | None) else writer.json_columns
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_columns_that_come_late_or_stay_away_are_null(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"b": 1}, {"b": 2, "a": "x"}], [{"c": [1]}], [{"a": None}])
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"b": 1, "a": None, "c": None},
        {"b": 2, "a": "x", "c": None},
        {"b": None, "a": None, "c": [1]},
        {"b": None, "a": None, "c": None},
    ]


def test_a_column_that_became_json_text_stays_it(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.parquet", [{"c": 1}], [{"c": "x"}], [{"c": "y"}, {"c": None}])
    assert pq.read_table(tmp_path / "a.parquet")["c"].to_pylist() == ["1", '"x"', '"y"', None]
    assert writer.json_columns == ["c"]


def test_values_that_json_does_not_know_survive_from_typed_files(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    write(tmp_path / "a.parquet", [{"t": moment, "b": b"\xff", "f": float("inf")}])
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"t": moment, "b": b"\xff", "f": float("inf")}]


def test_nan_in_lists_stays_nan(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.parquet", [{"c": [float("nan")]}, {"c": [1.0]}])
    (first,), second = pq.read_table(tmp_path / "a.parquet")["c"].to_pylist()
    assert (first != first, second, writer.json_columns) == (True, [1.0], [])


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.dictionaries(st.sampled_from("abc"), CELLS), min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_every_value_comes_back(tmp_path_factory: Any, chunks: list[list[dict[str, Any]]]) -> None:
    path = tmp_path_factory.mktemp("columns") / "a.parquet"
    writer = write(path, *([{"id": "x", **row} for row in chunk] for chunk in chunks))
    back = pq.read_table(path).to_pylist()
    for row, stored in zip([row for chunk in chunks for row in chunk], back, strict=True):
        assert stored.pop("id") == "x"
        for name, value in stored.items():
            if name in writer.json_columns and value is not None:
                value = orjson.loads(value)
            assert value == row.get(name)
