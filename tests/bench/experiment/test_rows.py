"""Rows are divided by prompt, the same on any machine; a missing source or too few rows are said."""

import gzip
import json
from pathlib import Path

import pytest

from bench.experiment.design import SOURCES
from bench.experiment.rows import PARTS, divide, prepare
from deft.data.datasets import read_examples
from deft.errors import InvalidInput

SIZES = {"train": 6, "development": 2, "test": 4}


def _rows(count: int, of_a_prompt: int = 3) -> list[dict[str, str]]:
    return [
        {"id": str(n), "prompt": f"p{n // of_a_prompt}", "chosen": f"good {n}", "rejected": f"bad {n}", "source": "x"}
        for n in range(count)
    ]


def test_no_prompt_is_in_two_parts_and_none_counts_more_than_twice() -> None:
    found = divide(_rows(60), "hh_rlhf", SIZES)
    prompts = {part: [row["prompt"] for row in own] for part, own in found.items()}
    assert {part: len(own) for part, own in prompts.items()} == SIZES
    sets = [set(own) for own in prompts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))
    assert all(own.count(prompt) <= 2 for own in prompts.values() for prompt in own)


def test_the_order_of_the_file_changes_nothing() -> None:
    assert divide(_rows(60), "a", SIZES) == divide(reversed(_rows(60)), "a", SIZES)


def test_rows_of_more_characters_than_the_plan_says_are_left_out() -> None:
    longer = [{**row, "prompt": f"long{n}", "chosen": "x" * 1000} for n, row in enumerate(_rows(60))]
    found = divide([*longer, *_rows(60)], "a", SIZES)
    assert found == divide(_rows(60), "a", SIZES)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too few rows"):
        divide(_rows(9), "a", SIZES)


def test_datasets_are_made_of_plain_and_compressed_files_once(tmp_path: Path) -> None:
    for source in SOURCES[1:]:
        (tmp_path / f"{source}.jsonl").write_text("\n".join(map(json.dumps, _rows(60))))
    with pytest.raises(InvalidInput, match=SOURCES[0]):
        prepare(tmp_path, tmp_path / "out", SIZES)
    content = "\n".join(map(json.dumps, _rows(60))).encode()
    (tmp_path / f"{SOURCES[0]}.jsonl.gz").write_bytes(gzip.compress(content))
    folder = prepare(tmp_path, tmp_path / "out", SIZES)
    for part in PARTS:
        examples = [example for _, example in read_examples(folder / part)]
        assert len(examples) == 3 * SIZES[part]
        assert {example.source for example in examples} == set(SOURCES)
    made_at = (folder / "train" / "dataset.json").stat().st_mtime_ns
    assert prepare(tmp_path, tmp_path / "out", SIZES) == folder
    assert (folder / "train" / "dataset.json").stat().st_mtime_ns == made_at


def test_other_rows_get_a_folder_of_their_own(tmp_path: Path) -> None:
    for source in SOURCES:
        (tmp_path / f"{source}.jsonl").write_text("\n".join(map(json.dumps, _rows(60))))
    first = prepare(tmp_path, tmp_path / "out", SIZES)
    others = [{**row, "chosen": row["chosen"] + "!"} for row in _rows(60)]
    (tmp_path / f"{SOURCES[0]}.jsonl").write_text("\n".join(map(json.dumps, others)))
    assert prepare(tmp_path, tmp_path / "out", SIZES) != first
