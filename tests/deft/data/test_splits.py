from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.data.datasets import import_files, read_examples
from deft.data.splits import apart_from, chosen_rows, split_at
from deft.errors import InvalidInput
from deft.specs import Rows, SplitFractions

NAMES = ["train", "reward_model", "evaluation"]


def pair(prompt: str, **own: object) -> dict[str, object]:
    return {"prompt": prompt, "chosen": "yes", "rejected": "no", **own}


def dataset(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    import_files([folder / "rows.jsonl"], folder)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("many") / "d", [pair(f"question {n % 900}") for n in range(1000)])


def rows_in(folder: Path, split: str = "all", **options: object) -> list[int]:
    return chosen_rows(folder, Rows.model_validate({"split": split, **options}))


def prompts(folder: Path, rows: list[int]) -> set[object]:
    everything = dict(read_examples(folder))
    return {everything[row].prompt for row in rows}


def test_splits_partition_the_rows_about_80_10_10(many: Path) -> None:
    parts = [rows_in(many, name) for name in NAMES]
    assert sorted(row for part in parts for row in part) == list(range(1000)) == rows_in(many)
    # Binomial: standard deviations are about 13 and 10 rows; 5 of those.
    assert [len(part) for part in parts] == pytest.approx([800, 100, 100], abs=60)


def test_one_prompt_is_in_one_split(many: Path) -> None:
    train, reward_model, evaluation = (prompts(many, rows_in(many, name)) for name in NAMES)
    assert not train & reward_model
    assert not train & evaluation
    assert not reward_model & evaluation


def test_turns_and_spelling_do_not_move_a_dialogue(tmp_path: Path) -> None:
    texts = [f"\n\nHuman: Is {n} prime?\n\nAssistant:" for n in range(40)]
    longer = [text.upper().replace("HUMAN:", "Human:").replace("ASSISTANT:", "Assistant:") for text in texts]
    longer = [text + " Yes.\n\nHuman: Why?\n\nAssistant:" for text in longer]
    folder = dataset(tmp_path / "d", [pair(text) for text in texts + longer])
    evaluation = rows_in(folder, "evaluation", fractions={"train": 0.5, "reward_model": 0.0, "evaluation": 0.5})
    assert 0 < len(evaluation) < 80
    assert {row % 40 for row in evaluation if row < 40} == {row % 40 for row in evaluation if row >= 40}


def test_a_split_column_stands_before_the_hash(tmp_path: Path) -> None:
    own = ["train", "TEST", "validation", "eval", "reward_model", None, "evaluation", " train "]
    folder = dataset(tmp_path / "d", [pair(f"q{n}", split=name) for n, name in enumerate(own)])
    hashed = rows_in(folder, "train")
    assert set(hashed) - {5} == {0, 7}
    assert set(rows_in(folder, "evaluation")) - {5} == {1, 2, 3, 6}
    assert set(rows_in(folder, "reward_model")) - {5} == {4}


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d", [pair("q", split="train")])
    with pytest.raises(InvalidInput, match="evaluation") as refusal:
        rows_in(folder, "evaluation")
    assert refusal.value.findings[0].found == "0 of 1 rows in the split evaluation"


def test_a_sample_is_sorted_seeded_and_nested(many: Path) -> None:
    sample = rows_in(many, sample=50)
    assert sample == sorted(set(sample))
    assert len(sample) == 50
    assert sample == rows_in(many, sample=50)
    assert sample != rows_in(many, sample=50, seed=1)
    assert set(sample) < set(rows_in(many, sample=51))
    assert rows_in(many, sample=5000) == rows_in(many)


def test_a_sample_does_not_depend_on_the_order_or_company_of_rows(tmp_path: Path) -> None:
    rows = [pair(f"q{n}") for n in range(60)]
    one = dataset(tmp_path / "one", rows)
    other = dataset(tmp_path / "other", rows[::-1])
    fewer = dataset(tmp_path / "fewer", rows[10:])
    sample = prompts(one, rows_in(one, sample=20))
    assert prompts(other, rows_in(other, sample=20)) == sample
    assert sample - {f"q{n}" for n in range(10)} <= prompts(fewer, rows_in(fewer, sample=20))


def test_every_row_is_sampled_about_equally_often(many: Path) -> None:
    times = Counter(row for seed in range(60) for row in rows_in(many, sample=500, seed=seed))
    # 60 draws at one half: mean 30, standard deviation 3.9; also the copies of one prompt (rows 900 to 999) are drawn.
    assert sum(times[row] for row in range(900, 1000)) / 100 == pytest.approx(30, abs=2)
    assert set(times) == set(range(1000))


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.floats(0, 1))
def test_every_point_falls_into_a_split_that_has_a_share(point: float, one: float, two: float) -> None:
    low, high = sorted((one, two))
    fractions = SplitFractions(train=low, reward_model=high - low, evaluation=1 - high)
    assert getattr(fractions, split_at(point, fractions)) > 0


def test_rows_are_kept_apart_by_their_first_user_turns_however_they_are_spelt(tmp_path: Path) -> None:
    trained = dataset(
        tmp_path / "a", [pair("\n\nHuman: One?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant:"), pair("Two")]
    )
    asked = [pair("\n\nHuman:  one?\n\nAssistant:"), pair("three"), pair("TWO"), pair("two, too")]
    held_out = dataset(tmp_path / "b", asked)
    assert apart_from(held_out, [0, 1, 2, 3], trained, Rows()) == [1, 3]
    assert apart_from(held_out, [2, 3], trained, Rows()) == [3]


def test_only_the_rows_that_were_trained_on_are_kept_apart_from(tmp_path: Path) -> None:
    trained = dataset(tmp_path / "a", [pair("one", split="train"), pair("two", split="test")])
    held_out = dataset(tmp_path / "b", [pair("one"), pair("two")])
    assert apart_from(held_out, [0, 1], trained, Rows(split="train")) == [1]
