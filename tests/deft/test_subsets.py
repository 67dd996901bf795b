import hashlib
from pathlib import Path

import datasets
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft.data.datasets import import_files, read_examples
from deft.errors import ArtifactCorrupt, InvalidInput
from deft.reports import Silent
from deft.specs import Selection, SelectSpec
from deft.subsets import run_select

# Keys in an order of their own, values of several types, a null, and text that needs escapes.
USER_ROWS = [
    {
        "zeta": None if row == 2 else row * 0.5,
        "prompt": f"Question {row}?",
        "chosen": f'good\u2028\n"{row}"',
        "rejected": "bad",
        "tags": ["a", f"b{row}"],
        "flavour": "mild",
    }
    for row in range(6)
]
# Row 4 is not scored.
R_D = {0: 0.5, 1: -0.5, 2: 0.25, 3: -0.75, 5: 0.0}


@pytest.fixture
def scoring(tmp_path: Path) -> Path:
    folder = tmp_path / "scoring"
    upload = tmp_path / "rows.jsonl"
    upload.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in USER_ROWS))
    import_files([upload], folder)
    scores = [
        {"row": row, "response": response, "response_tokens": 10 + row, "r_d": r_d if response == 0 else -2 * r_d}
        for row, r_d in R_D.items()
        for response in (0, 1)
    ]
    pq.write_table(pa.Table.from_pylist(scores), folder / "scores.parquet")
    (folder / "distribution.safetensors").write_bytes(b"a distribution")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "subset"
    folder.mkdir()
    return folder


def run(scoring: Path, out: Path, **selection: object) -> dict[str, object]:
    spec = SelectSpec(scoring="sc_1", selection=Selection.model_validate(selection))
    return run_select(spec, inputs={"scoring": scoring}, out=out, checkpoints=None, report=Silent())


def jsonl(path: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_kept_files_hold_the_users_columns_unchanged_and_ours_behind(scoring: Path, out: Path) -> None:
    run(scoring, out, count=2)
    expected = [
        {**USER_ROWS[1], "deft_r_d": -0.5, "deft_rank": 2, "deft_kept": True, "deft_source_line": 2},
        {**USER_ROWS[3], "deft_r_d": -0.75, "deft_rank": 1, "deft_kept": True, "deft_source_line": 4},
    ]
    assert jsonl(out / "kept.jsonl") == expected
    assert pq.read_table(out / "kept.parquet").to_pylist() == expected
    assert list(jsonl(out / "kept.jsonl")[0]) == list(expected[0])


@pytest.mark.parametrize("container", ["json", "parquet"])
@pytest.mark.parametrize("stem", ["kept", "ledger"])
def test_files_open_in_datasets(scoring: Path, out: Path, tmp_path: Path, container: str, stem: str) -> None:
    run(scoring, out, count=3)
    path = out / f"{stem}.{'jsonl' if container == 'json' else container}"
    opened = datasets.load_dataset(container, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert [dict(row) for row in opened] == jsonl(out / f"{stem}.jsonl")


def test_no_file_has_a_schema_key_of_another_library(scoring: Path, out: Path) -> None:
    run(scoring, out, count=3)
    for path in out.glob("*.parquet"):
        assert pq.read_schema(path).metadata is None


def test_ledger_has_the_fate_of_every_row(scoring: Path, out: Path) -> None:
    run(scoring, out, count=2)
    ledger = jsonl(out / "ledger.jsonl")
    assert [entry["row"] for entry in ledger] == list(range(6))
    assert [entry["reason"] for entry in ledger] == [
        "not_selected", "kept", "not_selected", "kept", "not_scored", "not_selected",
    ]  # fmt: skip
    assert [entry["deft_rank"] for entry in ledger] == [5, 2, 4, 1, None, 3]
    assert ledger[0] == {
        "row": 0,
        "deft_source_line": 1,
        "deft_r_d": 0.5,
        "deft_r_d_rejected": -1.0,
        "chosen_tokens": 10,
        "deft_rank": 5,
        "deft_kept": False,
        "reason": "not_selected",
    }
    assert pq.read_table(out / "ledger.parquet").to_pylist() == ledger


def test_examples_keep_the_row_numbers_of_the_dataset(scoring: Path, out: Path) -> None:
    run(scoring, out, count=2)
    everything = dict(read_examples(scoring))
    assert read_examples(out) == [(1, everything[1]), (3, everything[3])]
    assert (out / "distribution.safetensors").read_bytes() == b"a distribution"


def test_summary_says_what_was_asked_and_what_it_came_to(scoring: Path, out: Path) -> None:
    summary = run(scoring, out, keep=0.4, end="highest", by="margin")
    # Margins are 3 * R_d, so the highest two are rows 0 (1.5) and 2 (0.75).
    assert (summary["kept"], summary["scored"], summary["rows"]) == (2, 5, 6)
    assert (summary["keep"], summary["end"], summary["by"], summary["cut_value"]) == (0.4, "highest", "margin", 0.75)
    assert summary["mean_r_d_kept"] == 0.375
    assert summary["mean_chosen_tokens_scored"] == pytest.approx(12.2)
    assert orjson.loads((out / "subset.json").read_bytes()) == summary
    assert "| end | highest |" in (out / "README.md").read_text()


def test_sums_are_those_of_the_files(scoring: Path, out: Path) -> None:
    run(scoring, out, count=1)
    lines = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in lines} == {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    assert all(hashlib.sha256((out / name).read_bytes()).hexdigest() == digest for digest, name in lines)


def test_selecting_twice_gives_the_same_bytes(scoring: Path, out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    run(scoring, out, end="random", count=2, seed=7)
    run(scoring, again, end="random", count=2, seed=7)
    assert (out / "SHA256SUMS").read_text() == (again / "SHA256SUMS").read_text()


def test_rejected_is_the_mean_over_all_but_the_first_response(scoring: Path, out: Path) -> None:
    values = [(0, 0, 1.0), (0, 1, 2.0), (0, 2, 4.0), (1, 0, 0.0), (1, 1, 1.0), (1, 2, 1.0)]
    scores = [{"row": a, "response": b, "response_tokens": 1, "r_d": c} for a, b, c in values]
    pq.write_table(pa.Table.from_pylist(scores), scoring / "scores.parquet")
    run(scoring, out, by="rejected", count=1)
    assert [entry["deft_r_d_rejected"] for entry in jsonl(out / "ledger.jsonl")][:2] == [3.0, 1.0]
    assert [entry["deft_rank"] for entry in jsonl(out / "ledger.jsonl")][:2] == [2, 1]


def test_a_score_of_a_row_that_does_not_exist_is_corruption(scoring: Path, out: Path) -> None:
    score = {"row": 6, "response": 0, "response_tokens": 1, "r_d": 0.0}
    pq.write_table(pa.Table.from_pylist([score]), scoring / "scores.parquet")
    with pytest.raises(ArtifactCorrupt, match="not in examples"):
        run(scoring, out, count=1)


def test_margin_without_scored_rejected_responses_is_refused(scoring: Path, out: Path) -> None:
    score = {"row": 0, "response": 0, "response_tokens": 1, "r_d": 0.0}
    pq.write_table(pa.Table.from_pylist([score]), scoring / "scores.parquet")
    with pytest.raises(InvalidInput, match="not scored"):
        run(scoring, out, by="margin", count=1)


def test_how_much_of_each_source_was_kept_is_said(scoring: Path, out: Path) -> None:
    examples = pq.read_table(scoring / "examples.parquet")
    sources = pa.array(["a|b", "c", "a|b", "c", "c", None], pa.string())
    named = examples.set_column(examples.column_names.index("source"), "source", sources)
    pq.write_table(named, scoring / "examples.parquet")
    summary = run(scoring, out, count=2)
    told = [("c", 2, 2), ("a|b", 2, 0), (None, 1, 0)]
    assert sorted(summary["sources"], key=str) == sorted(
        ({"source": name, "scored": scored, "kept": kept} for name, scored, kept in told), key=str
    )
    card = (out / "README.md").read_text()
    assert "a/b 0 / 2" in card
    assert "c 2 / 2" in card
    assert orjson.loads((out / "subset.json").read_bytes())["sources"] == summary["sources"]
