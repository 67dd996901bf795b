"""Lists of any number of responses through the torch-free part: upload, checks, selection, the files handed out."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from deft.data.datasets import have_scores, import_files, read_examples
from deft.distribution import Counts, Distribution, count_responses, difference, save
from deft.errors import InvalidRows
from deft.examples import Example
from deft.reports import Silent
from deft.specs import Selection, SelectSpec
from deft.subsets import run_select

LIST = {"prompt": "Why?", "responses": ["a", "b", "c"]}
TURNS = ["<|prompter|>Is it hot?", "<|assistant|>Yes. ", "<|prompter|> How hot?\nVery?", "<|assistant|>"]
PRO = {
    "meta": {"path": "x", "line_num": 3, "task": "dialogue"},
    "prefix": [TURNS, TURNS, TURNS],
    "suffix": ["Boiling.", " Warm\n", "No."],
    "reward": [2.5, 0.25, -1],
    "sft_index": 0,
}
PRO_PROMPT = "\n\nHuman: Is it hot?\n\nAssistant: Yes.\n\nHuman: How hot?\nVery?\n\nAssistant:"


def load(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl", **options: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return import_files([path], folder / "out", **options)


def examples(folder: Path) -> list[Example]:
    return [example for _, example in read_examples(folder / "out")]


# Upload ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [[TURNS, TURNS, TURNS], TURNS])
def test_pros_own_files_are_read(tmp_path: Path, prefix: object) -> None:
    summary = load(tmp_path, {**PRO, "prefix": prefix}, name="train.json")
    assert summary["format"] == "pro.ranked"
    assert (summary["responses"], summary["rows_with"]) == ({"3": 1}, {"scores": 1, "weight": 0})
    assert examples(tmp_path) == [Example(PRO_PROMPT, ("Boiling.", "Warm", "No."), (2.5, 0.25, -1.0), source_line=1)]


def test_pros_rewards_can_be_left_unread(tmp_path: Path) -> None:
    rising = {**PRO, "reward": [0.25, 2.5, -1]}
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, rising)
    (finding,) = refusal.value.findings
    assert (finding.code, finding.column) == ("scores_order", "reward")
    assert "--map scores=" in finding.fix
    load(tmp_path, rising, columns={"scores": ""})
    assert examples(tmp_path)[0].scores is None


def test_ranks_put_responses_and_scores_in_order_and_the_users_file_keeps_its_own(tmp_path: Path) -> None:
    row = {**LIST, "ranks": [2, 3, 1], "scores": [0.5, 0.5, 4]}
    load(tmp_path, row, {**LIST, "ranks": [3, 1, 2]}, LIST)
    found = [(example.responses, example.scores) for example in examples(tmp_path)]
    assert found == [(("c", "a", "b"), (4.0, 0.5, 0.5)), (("b", "c", "a"), None), (("a", "b", "c"), None)]
    original = pq.read_table(tmp_path / "out" / "original.parquet").to_pylist()
    assert (original[0]["responses"], original[0]["ranks"]) == (["a", "b", "c"], [2, 3, 1])


def test_ranks_of_a_csv_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,responses,ranks\nWhy?,"[""a"", ""b""]","[2, 1]"\nWho?,"[""a"", ""b""]",\n')
    import_files([path], tmp_path / "out")
    assert [example.responses for example in examples(tmp_path)] == [("b", "a"), ("a", "b")]


@pytest.mark.parametrize(
    ("good", "bad", "code", "column"),
    [
        (LIST, {**LIST, "ranks": [1, 2, 3], "scores": [1, 3, 0]}, "ranks_contradict_scores", "scores"),
        (LIST, {**LIST, "ranks": [1, 1, 2]}, "ranks_values", "ranks"),
        (LIST, {**LIST, "ranks": [0, 1, 2]}, "ranks_values", "ranks"),
        (LIST, {**LIST, "ranks": [1, 2]}, "ranks_values", "ranks"),
        (LIST, {**LIST, "ranks": [1, 2.5, 3]}, "ranks_values", "ranks"),
        (LIST, {**LIST, "ranks": "best first"}, "wrong_type", "ranks"),
        (LIST, {**LIST, "ranks": [1, "x", 3]}, "wrong_type", "ranks[1]"),
        (LIST, {**LIST, "weight": -1}, "weight_range", "weight"),
        (LIST, {**LIST, "weight": 1e12}, "weight_range", "weight"),
        (LIST, {**LIST, "responses": ["a"]}, "too_few_responses", "responses[0]"),
        (PRO, {**PRO, "sft_index": 1}, "sft_index", "sft_index"),
        (PRO, {**PRO, "reward": [1, 2, 0]}, "scores_order", "reward"),
        (PRO, {**PRO, "reward": [1, 0]}, "scores_count", "reward"),
        (PRO, {**PRO, "prefix": [TURNS, TURNS]}, "prefix_count", "prefix"),
        (
            PRO,
            {**PRO, "prefix": [TURNS, ["<|prompter|>Else?", "<|assistant|>"], TURNS]},
            "context_mismatch",
            "prefix[1]",
        ),
        (PRO, {**PRO, "prefix": ["Is it hot?", "<|assistant|>"]}, "unknown_turn", "prefix[0]"),
        (PRO, {**PRO, "prefix": TURNS[:3]}, "last_turn", "prefix[2]"),
        (PRO, {**PRO, "prefix": [*TURNS[:3], "<|assistant|>Well"]}, "last_turn", "prefix[3]"),
        (PRO, {**PRO, "prefix": []}, "wrong_type", "prefix"),
        (PRO, {**PRO, "prefix": [[TURNS], TURNS, TURNS]}, "wrong_type", "prefix[0][0]"),
        (PRO, {**PRO, "suffix": "a"}, "wrong_type", "suffix"),
        (PRO, {**PRO, "suffix": ["a"], "prefix": TURNS, "reward": [1]}, "too_few_responses", "suffix[0]"),
    ],
)
def test_a_bad_list_is_refused_with_line_column_and_fix(
    tmp_path: Path, good: dict[str, Any], bad: dict[str, Any], code: str, column: str
) -> None:
    with pytest.raises(InvalidRows, match=f"{code} 1") as refusal:
        load(tmp_path, good, bad)
    (finding,) = refusal.value.findings
    assert (finding.code, finding.line, finding.column) == (code, 2, column)
    assert finding.found
    assert finding.expected
    assert finding.fix


def test_contradicting_ranks_and_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, {**LIST, "ranks": [3, 1, 2], "scores": [5, 1, 0.5]})
    assert refusal.value.findings[0].found == "rank 2 with the score 0.5, rank 3 with 5"


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, -0.5, 0.0])
def test_a_weight_that_is_not_finite_or_not_positive_is_refused_in_parquet_too(tmp_path: Path, weight: float) -> None:
    table = pa.table({"prompt": ["a", "b"], "responses": [["c", "d"]] * 2, "weight": [1.0, weight]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InvalidRows) as refusal:
        import_files([tmp_path / "rows.parquet"], tmp_path / "out")
    assert [(finding.line, finding.column) for finding in refusal.value.findings] == [(2, "weight")]


def test_whether_rows_have_scores_is_told_of_the_rows_asked_for(tmp_path: Path) -> None:
    load(tmp_path, {**LIST, "scores": [3, 2, 1]}, LIST, {**LIST, "scores": [3, 2, 1]})
    assert have_scores(tmp_path / "out", [0, 2])
    assert not have_scores(tmp_path / "out", [0, 1, 2])


# Q_diff and selection ----------------------------------------------------------------------------------------------


def test_the_first_response_counts_as_chosen_and_all_others_as_rejected() -> None:
    """Chosen: 5, 5, 6. Rejected: 6, 7 and 5, 7, 7, so Q_diff = (2/3 - 1/5, 1/3 - 1/5, 0 - 3/5) for 5, 6, 7."""
    counts = count_responses([[[5, 5], [6], [7]], [[6], [5, 7], [7]]], 9, [])
    assert counts.chosen[5:8].tolist() == [2, 1, 0]
    assert counts.rejected[5:8].tolist() == [1, 1, 3]
    assert difference(counts)[5:8] == pytest.approx([2 / 3 - 1 / 5, 1 / 3 - 1 / 5, -3 / 5])


@pytest.fixture
def scoring(tmp_path: Path) -> Path:
    """Five lists of two to four responses with scores, scored with R_d that the tests can add up."""
    rows = []
    for number in range(5):
        count = 2 + number % 3
        responses = [f"answer {number} {rank}" for rank in range(count)]
        rows.append(
            {"prompt": f"q{number}", "responses": responses, "scores": list(range(count, 0, -1)), "tag": number}
        )
    load(tmp_path, *rows)
    folder = tmp_path / "scoring"
    folder.mkdir()
    for name in ("examples.parquet", "original.parquet"):
        (folder / name).write_bytes((tmp_path / "out" / name).read_bytes())
    r_d = {0: [1, 0], 1: [2, 5, 3], 2: [3, -1, 0, 7], 3: [4, 9], 4: [5, 6, 8]}
    table = [(row, k, 10 + row, float(value)) for row, values in r_d.items() for k, value in enumerate(values)]
    columns = ("row", "response", "response_tokens", "r_d")
    types = (pa.int64(), pa.int32(), pa.int32(), pa.float64())
    arrays = [pa.array(values, kind) for values, kind in zip(zip(*table, strict=True), types, strict=True)]
    pq.write_table(pa.table(dict(zip(columns, arrays, strict=True))), folder / "scores.parquet")
    zeros = np.zeros(9, np.int64)
    save(folder / "distribution.safetensors", Distribution(Counts(zeros, zeros, 5), np.zeros(9)))
    return folder


@pytest.mark.parametrize(
    ("by", "values", "lowest"),
    [
        ("chosen", [1, 2, 3, 4, 5], [0, 1]),
        ("rejected", [0, 4, 2, 9, 7], [0, 2]),  # the mean over all other responses
        ("margin", [1, -2, 1, -5, -2], [1, 3]),  # chosen minus that mean; of the tie the lower row
    ],
)
def test_selection_ranks_lists_by_chosen_rejected_or_margin(
    scoring: Path, tmp_path: Path, by: Any, values: list[float], lowest: list[int]
) -> None:
    out = tmp_path / "subset"
    out.mkdir()
    spec = SelectSpec(scoring="sc_1", selection=Selection(count=2, by=by))
    run_select(spec, inputs={"scoring": scoring}, out=out, report=Silent())
    ledger = pq.read_table(out / "ledger.parquet").to_pylist()
    found = {
        "chosen": [row["deft_r_d"] for row in ledger],
        "rejected": [row["deft_r_d_rejected"] for row in ledger],
        "margin": [row["deft_r_d"] - row["deft_r_d_rejected"] for row in ledger],
    }
    assert found[by] == values
    assert [row["row"] for row in ledger if row["deft_kept"]] == lowest


def test_the_kept_files_carry_all_responses_and_scores(scoring: Path, tmp_path: Path) -> None:
    out = tmp_path / "subset"
    out.mkdir()
    spec = SelectSpec(scoring="sc_1", selection=Selection(count=2, end="highest"))
    run_select(spec, inputs={"scoring": scoring}, out=out, report=Silent())
    before = dict(read_examples(scoring))
    assert dict(read_examples(out)) == {3: before[3], 4: before[4]}
    assert before[4].scores == (3.0, 2.0, 1.0)
    kept = [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]
    assert [(row["responses"], row["scores"], row["tag"]) for row in kept] == [
        (list(before[3].responses), [2, 1], 3),
        (list(before[4].responses), [3, 2, 1], 4),
    ]
    opened = load_dataset("parquet", data_files=str(out / "kept.parquet"), split="train", cache_dir=str(tmp_path))
    assert opened["scores"] == [[2, 1], [3, 2, 1]]
