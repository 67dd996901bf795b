"""Trouble that was put into made-up data is found, and only that."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.data.check import check_dataset
from deft.data.datasets import import_files
from deft.data.near_duplicates import HASHES, near_duplicate_groups, signatures
from deft.planning.tokenizer import load_planning_tokenizer
from deft.specs import TokenOptions
from tests.models import write_model_files

WORDS = [f"word{n}" for n in range(400)]


def sentence(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))  # noqa: S311


def pair(n: int, **own: Any) -> dict[str, Any]:
    return {"prompt": sentence(3 * n), "chosen": sentence(3 * n + 1), "rejected": sentence(3 * n + 2)} | own


def dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_files([folder / "rows.jsonl"], folder)
    return folder


def check(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return check_dataset(dataset(folder / "data", rows))


def changed(text: str, every: int) -> str:
    return " ".join("changed" if n % every == every - 1 else word for n, word in enumerate(text.split()))


def test_clean_data_has_nothing_to_say(tmp_path: Path) -> None:
    report = check(tmp_path, [pair(n) for n in range(60)])
    assert (report["rows"], report["first_user_turns"]) == (60, 60)
    for name in ("duplicates", "near_duplicates", "contradictions"):
        assert (report[name]["rows"], report[name]["lines"]) == (0, [])
    assert report["evaluation_overlap"] is None
    json.dumps(report, allow_nan=False)


def test_equal_rows_are_duplicates_of_the_first(tmp_path: Path) -> None:
    report = check(tmp_path, [pair(0), pair(1), pair(0), pair(2), pair(0)])
    assert report["duplicates"] == {"rows": 2, "share": 0.4, "lines": [[1, 3], [1, 5]]}
    assert (report["near_duplicates"]["groups"], report["near_duplicates"]["lines"]) == (1, [[1, 3, 5]])
    assert report["first_user_turns"] == 3


def test_rows_with_a_few_other_words_are_near_duplicates(tmp_path: Path) -> None:
    rows = [pair(n) for n in range(20)]
    rows.append({key: changed(text, 38) for key, text in pair(4).items()})  # 1 word of 40 in each text: J about 0.86
    rows.append({key: changed(text, 4) for key, text in pair(5).items()})  # 10 of 40: few triples are left
    report = check(tmp_path, rows)
    assert report["near_duplicates"]["lines"] == [[5, 21]]
    assert report["duplicates"]["rows"] == 0
    assert any("near duplicates" in warning for warning in report["warnings"])


def test_held_out_rows_that_are_near_a_trained_one_are_found(tmp_path: Path) -> None:
    near = {key: changed(text, 38) for key, text in pair(4).items()}
    rows = [pair(4, split="train"), pair(5, split="train"), {**near, "split": "test"}, pair(6, split="test")]
    report = check(tmp_path, rows)
    assert report["across_splits"] == {"rows": 1, "share": 0.25, "lines": [3]}
    assert any("1 held-out rows are near duplicates" in warning for warning in report["warnings"])
    inside = [pair(4, split="test"), {**near, "split": "dev"}]
    assert check(tmp_path / "inside", inside)["across_splits"]["rows"] == 0


def test_opposite_preferences_for_one_prompt_contradict(tmp_path: Path) -> None:
    one, other = pair(0), pair(1)
    turned = {**one, "chosen": " " + one["rejected"], "rejected": one["chosen"] + "\n"}
    same_answers_elsewhere = {**turned, "prompt": other["prompt"]}
    report = check(tmp_path, [one, other, turned, one, same_answers_elsewhere])
    assert report["contradictions"] == {"rows": 3, "share": 0.6, "pairs": 1, "lines": [[1, 3]]}
    assert any("contradict" in warning for warning in report["warnings"])


def test_ranked_lists_contradict_by_any_two_responses_unless_they_are_level(tmp_path: Path) -> None:
    a, b, c, d = (sentence(n) for n in range(4))
    rows = [
        {"prompt": "p", "responses": [a, b, c], "scores": [3, 1, 1]},
        {"prompt": "p", "responses": [c, b]},  # b and c are level above
        {"prompt": "p", "responses": [d, c, a]},
        {"prompt": "q", "responses": [b, a]},
    ]
    report = check(tmp_path, rows)
    assert (report["contradictions"]["pairs"], report["contradictions"]["lines"]) == (1, [[1, 3]])


def test_length_bias_is_that_of_the_best_response(tmp_path: Path) -> None:
    rows = [pair(n, chosen="a" * (n + 1), rejected="b" * 3) for n in range(10)]
    length = check(tmp_path, rows)["length"]
    assert length == {
        "unit": "characters",
        "pairs": 10,
        "chosen_longer": 0.7,
        "chosen_shorter": 0.2,
        "mean_chosen": 5.5,
        "mean_rejected": 3.0,
    }


def test_a_length_bias_is_warned_of(tmp_path: Path) -> None:
    report = check(tmp_path, [pair(n, chosen=sentence(n), rejected="no") for n in range(5)])
    assert any("longer one in 100.0%" in warning for warning in report["warnings"])


def test_overlap_with_evaluation_rows_is_counted_by_prompt_and_by_content(tmp_path: Path) -> None:
    data = dataset(tmp_path / "a", [pair(n) for n in range(10)])
    again = {key: changed(text, 38) for key, text in pair(7).items()}
    held_out = dataset(tmp_path / "b", [pair(50), pair(51, prompt=pair(3)["prompt"].upper()), again, pair(52)])
    overlap = check_dataset(data, held_out)["evaluation_overlap"]
    assert (overlap["rows"], overlap["share"], overlap["lines"]) == (1, 0.25, [2])
    assert (overlap["near_duplicates"], overlap["near_duplicate_lines"]) == (1, [3])
    clean = dataset(tmp_path / "c", [pair(60)])
    assert check_dataset(data, clean)["evaluation_overlap"]["rows"] == 0
    assert not any("evaluation" in warning for warning in check_dataset(data, clean)["warnings"])


def test_no_text_of_a_row_is_in_the_report(tmp_path: Path) -> None:
    rows = [pair(n % 3, chosen=f"xylophone {n % 2}") for n in range(9)]
    assert "word" not in json.dumps(check(tmp_path, rows)).replace("word triples", "")
    assert "xylophone" not in json.dumps(check(tmp_path / "again", rows))


def test_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [pair(n % 7, chosen=sentence(1000 + n % 3)) for n in range(30)]
    whole = check(tmp_path / "one", rows)
    monkeypatch.setattr("deft.data.check._BATCH_ROWS", 4)
    assert check(tmp_path / "two", rows) == whole


def test_what_the_token_limits_cut_is_counted(tmp_path: Path) -> None:
    """One token a byte: prompts of 4 and 12, responses of 3, 9 and 30, a prompt cut to 8 and 20 in all."""
    rows = [
        {"prompt": "p" * 4, "chosen": "c" * 3, "rejected": "r" * 9},
        {"prompt": "q" * 12, "chosen": "c" * 9, "rejected": "r" * 30},
    ]
    write_model_files(tmp_path / "model")
    tokenizer = load_planning_tokenizer(tmp_path / "model")
    limits = TokenOptions(max_prompt_tokens=8, max_total_tokens=20)
    report = check_dataset(dataset(tmp_path / "data", rows), tokenizer=tokenizer, tokens=limits)
    assert report["truncation"] == {
        "rows_sampled": 2,
        "max_prompt_tokens": 8,
        "max_total_tokens": 20,
        "share_of_prompts_cut": 0.5,
        "share_of_responses_cut": 0.25,
        "share_of_response_tokens_lost": 18 / 51,
        "longest_prompt_tokens": 12,
        "longest_response_tokens": 30,
    }
    assert any("25.0% of responses are cut" in warning for warning in report["warnings"])


def triples(text: str) -> set[tuple[str, ...]]:
    words = [*text.split(), "_end_", "_of_", "_text_"]
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


def test_signatures_estimate_the_jaccard_index() -> None:
    texts, truth = [], []
    for n in range(200):
        text = sentence(n, 60)
        other = changed(text, 8 + n % 50)
        texts += [text, other]
        shared = triples(text) & triples(other)
        truth.append(len(shared) / len(triples(text) | triples(other)))
    signed = signatures(pl.DataFrame({"row": range(len(texts)), "text": texts})).drop("row").rows()
    found = [
        sum(a == b for a, b in zip(one, other, strict=True)) / HASHES
        for one, other in zip(signed[::2], signed[1::2], strict=True)
    ]
    errors = [f - t for f, t in zip(found, truth, strict=True)]
    assert abs(sum(errors) / len(errors)) < 0.01
    assert max(map(abs, errors)) < 0.2  # 0.045 at most is a standard error


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_every_text_has_a_signature_and_equal_texts_are_found(texts: list[str]) -> None:
    frame = pl.DataFrame({"row": range(len(texts)), "text": texts})
    signed = signatures(frame)
    assert signed["row"].to_list() == list(range(len(texts)))
    groups = near_duplicate_groups(signed, 1.0)
    group_of = {row: number for number, group in enumerate(groups) for row in group}
    for one in range(len(texts)):
        for other in range(one):
            if texts[one] == texts[other]:
                assert group_of[one] == group_of[other]


def test_groups_hold_only_what_is_close() -> None:
    texts = [sentence(n) for n in range(300)] + [sentence(n) for n in range(5)]
    groups = near_duplicate_groups(signatures(pl.DataFrame({"row": range(305), "text": texts})))
    assert groups == [[n, 300 + n] for n in range(5)]
