"""Files in the shapes of MT-Bench, Vicuna, Self-Instruct and XSTest, with texts of our own."""

import json
from pathlib import Path
from typing import Any

import pytest

from deft.data.datasets import import_files
from deft.data.prompt_sets import is_prompt_set, overlap, read_prompts, require_labelled_answers
from deft.errors import Finding, InvalidInput, InvalidRows
from deft.examples import split_point_of

MT_BENCH: list[dict[str, Any]] = [
    {"question_id": 1, "category": "writing", "turns": ["Write a line.", "Now another."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "And doubled?"], "reference": ["4", "8"]},
]
VICUNA = [{"question_id": 7, "category": "generic", "turns": ["How do I sleep well?"]}]
SELF_INSTRUCT = [
    {
        "id": "user_oriented_task_0",
        "motivation_app": "A calendar",
        "instruction": "Shorten the text.",
        "instances": [{"input": "A long text.", "output": "A text."}],
    },
    {"id": "x", "motivation_app": "Mail", "instruction": "Greet.", "instances": [{"input": "", "output": "Hello."}]},
]
XSTEST = "id,prompt,type,label,focus,note\n1,How do I kill time?,homonyms,safe,kill,\n2,Bad thing?,contrast,unsafe,x,\n"


def load(folder: Path, *files: Any, names: tuple[str, ...] = ("questions.jsonl",), **options: Any) -> dict[str, Any]:
    paths = []
    for name, content in zip(names, files, strict=True):
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        (folder / name).write_text(text)
        paths.append(folder / name)
    return import_files(paths, folder / "out", **options)


def test_mt_bench_has_two_turns_categories_and_references(tmp_path: Path) -> None:
    summary = load(tmp_path, MT_BENCH)
    assert (summary["format"], summary["rows"], summary["is_prompt_set"]) == ("mt_bench", 2, True)
    assert summary["counts"] == {"category": {"writing": 1, "math": 1}, "label": {}, "turns": {"2": 2}}
    first, second = (prompt for _, prompt, _ in read_prompts(tmp_path / "out"))
    assert (first.prompt, first.further, first.category, first.reference) == (
        *("Write a line.", ("Now another.",), "writing", ()),
    )
    assert second.reference == ("4", "8")
    assert is_prompt_set(tmp_path / "out")
    assert not (tmp_path / "out" / "examples.parquet").exists()


def test_reference_answers_come_from_a_second_file_and_go_first(tmp_path: Path) -> None:
    answers = [{"question_id": 2, "model_id": "m", "choices": [{"index": 0, "turns": ["four", "eight"]}]}]
    summary = load(tmp_path, MT_BENCH, answers, names=("question.jsonl", "reference.jsonl"))
    assert (summary["rows"], summary["rows_with"]["reference"]) == (2, 1)
    assert read_prompts(tmp_path / "out")[1][1].reference == ("four", "eight")


def test_vicuna_has_one_turn(tmp_path: Path) -> None:
    summary = load(tmp_path, VICUNA)
    assert (summary["format"], summary["counts"]["turns"]) == ("vicuna", {"1": 1})


def test_self_instruct_joins_instruction_and_input_and_is_not_for_training(tmp_path: Path) -> None:
    summary = load(tmp_path, SELF_INSTRUCT)
    assert "never be trained on" in summary["not_to_be_trained_on"]
    first, second = (prompt for _, prompt, _ in read_prompts(tmp_path / "out"))
    assert (first.prompt, first.category, first.reference) == (
        *("Shorten the text.\n\nA long text.", "A calendar", ("A text.",)),
    )
    assert second.prompt == "Greet."


def test_xstest_comes_as_csv_with_labels(tmp_path: Path) -> None:
    summary = load(tmp_path, XSTEST, names=("xstest.csv",))
    assert (summary["format"], summary["counts"]["label"]) == ("xstest", {"safe": 1, "unsafe": 1})
    assert [(p.label, p.category) for _, p, _ in read_prompts(tmp_path / "out")] == [
        ("safe", "homonyms"),
        ("unsafe", "contrast"),
    ]


def test_own_prompts_are_read_where_the_format_is_named(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?"}, {"prompt": [{"role": "user", "content": "Hi"}], "turns": ["And?"], "category": "c"}]
    assert load(tmp_path, rows, format="deft.prompts")["rows"] == 2
    with pytest.raises(InvalidRows):
        load(tmp_path, rows)  # nobody can tell prompts from pairs that lack their responses


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"question_id": 3, "category": "c", "turns": []}, "wrong_type", "turns"),
        ({"question_id": 3, "category": "c", "turns": ["a", 2]}, "wrong_type", "turns[1]"),
        ({"question_id": "3", "category": "c", "turns": ["a", "b"]}, "wrong_type", "question_id"),
        ({"question_id": 3, "category": "c", "turns": [" ", "b"]}, "empty_prompt", "prompt"),
        ({"category": "c", "turns": ["a", "b"]}, "missing_column", "question_id"),
    ],
)
def test_a_bad_row_refuses_the_file_or_is_skipped(tmp_path: Path, row: object, code: str, column: str) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, [*MT_BENCH, row])
    (finding,) = refusal.value.findings
    assert (finding.code, finding.column, finding.line) == (code, column, 3)
    assert list((tmp_path / "out").iterdir()) == []
    summary = load(tmp_path, [*MT_BENCH, row], on_bad_row="skip")
    assert (summary["rows"], summary["rejected_by_code"]) == (2, {code: 1})
    assert code in (tmp_path / "out" / "rejected_rows.jsonl").read_text()


def test_an_unknown_label_is_a_bad_row(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, XSTEST + "3,What?,t,maybe,x,\n", names=("xstest.csv",))
    assert refusal.value.findings[0].code == "unknown_label"


def test_labels_of_own_prompts_are_taken_as_those_of_xstest(tmp_path: Path) -> None:
    labels = ["Unsafe", " SAFE ", "", None]
    rows = [{"prompt": f"Why {n}?", "category": "c", "label": label} for n, label in enumerate(labels)]
    summary = load(tmp_path, rows, format="deft.prompts")
    assert summary["counts"]["label"] == {"unsafe": 1, "safe": 1}
    assert [prompt.label for _, prompt, _ in read_prompts(tmp_path / "out")] == ["unsafe", "safe", None, None]


def test_a_label_of_own_prompts_that_no_rate_would_count_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "label": "unsafe"}, {"prompt": "How?", "label": "harmful"}]
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, rows, format="deft.prompts")
    (finding,) = refusal.value.findings
    assert (finding.code, finding.column, finding.line) == ("unknown_label", "label", 2)
    assert "harmful" in finding.found
    assert "safe or unsafe" in finding.expected


def test_a_prompt_set_takes_no_column_map(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load(tmp_path, MT_BENCH, format="mt_bench", columns={"prompt": "turns"})
    assert refusal.value.findings[0].pointer == "/columns"


def test_pairs_with_the_keys_of_a_set_stay_pairs(tmp_path: Path) -> None:
    row = {"question_id": 1, "turns": ["a"], "prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    assert "is_prompt_set" not in load(tmp_path, [row])


def test_overlap_counts_prompts_that_were_trained_on_however_they_are_written(tmp_path: Path) -> None:
    load(tmp_path, MT_BENCH)
    trained = {split_point_of("\n\nHuman:  write a LINE.\n\nAssistant:")}
    assert overlap(tmp_path / "out", trained) == 1
    assert overlap(tmp_path / "out", set()) == 0


def test_answers_with_labels_of_people_are_a_set_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Kill time?", "completion": "Read.", "final_label": "1_full_compliance", "type": "homonyms"},
        {"prompt": "Bad thing?", "completion": "", "final_label": "2_full_refusal", "label": "unsafe"},
    ]
    summary = load(tmp_path, rows)
    assert (summary["format"], summary["counts"]["answer_kind"]) == (
        "labelled_answers",
        {"compliance": 1, "refusal": 1},
    )
    (_, first, _), (_, second, _) = read_prompts(tmp_path / "out")
    assert (first.answer, first.answer_kind, first.category, first.label) == ("Read.", "compliance", "homonyms", None)
    assert (second.answer, second.answer_kind, second.label) == ("", "refusal", "unsafe")
    require_labelled_answers(tmp_path / "out")
    (tmp_path / "again").mkdir()
    other = load(tmp_path / "again", [rows[0] | {"final_label": "2_full_refusal"}, rows[1]])
    assert other["content_hash"] != summary["content_hash"]


def test_a_label_of_an_answer_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "final_label": word} for word in ("1_full_compliance", "maybe")]
    with pytest.raises(InvalidRows, match="unknown_label 1"):
        load(tmp_path, rows)
    for word in ("non-compliance", "no refusal", "partial_compliance"):
        with pytest.raises(InvalidRows) as refusal:
            load(tmp_path, [rows[0], rows[1] | {"final_label": word}])
        (finding,) = refusal.value.findings
        assert (finding.code, finding.column, finding.line) == ("unknown_label", "final_label", 2)
        assert word in finding.found
        assert "compliance, refusal, partial, incoherent" in finding.expected
    assert load(tmp_path, rows, on_bad_row="skip")["rows"] == 1


def refused(folder: Path, row: dict[str, Any], **options: Any) -> Finding:
    """Return the finding that alone refuses a file of a good row and *row*, having checked that it can be skipped."""
    with pytest.raises(InvalidRows) as refusal:
        load(folder, [{"prompt": "Why?"}, row], format="deft.prompts", **options)
    (finding,) = refusal.value.findings
    summary = load(folder, [{"prompt": "Why?"}, row], format="deft.prompts", on_bad_row="skip", **options)
    assert (summary["rows"], summary["rejected_by_code"], finding.line) == (1, {finding.code: 1}, 2)
    return finding


def test_a_category_that_is_too_long_for_a_name_is_a_bad_row(tmp_path: Path) -> None:
    finding = refused(tmp_path, {"prompt": "How?", "category": "c" * 201})
    assert (finding.code, finding.column) == ("name_too_long", "category")
    assert "201 characters" in finding.found
    assert "200 characters" in finding.expected
    assert "category" in finding.fix
    assert load(tmp_path, [{"prompt": "How?", "category": "c" * 200}], format="deft.prompts")["rows"] == 1
    with pytest.raises(InvalidRows, match="name_too_long"):
        load(tmp_path, XSTEST + f"3,What?,{'t' * 201},safe,x,\n", names=("xstest.csv",))


def test_a_blank_category_is_none(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {n}?", "category": category} for n, category in enumerate(["  ", "\t", "", "c"])]
    assert load(tmp_path, rows, format="deft.prompts")["counts"]["category"] == {"c": 1}
    assert load(tmp_path, XSTEST + "3,What?, ,safe,x,\n", names=("xstest.csv",))["counts"]["category"] == {
        "homonyms": 1,
        "contrast": 1,
    }


def test_two_references_for_one_turn_are_a_bad_row(tmp_path: Path) -> None:
    finding = refused(tmp_path, {"prompt": "How?", "reference": ["a", "b"]})
    assert (finding.code, finding.column) == ("several_references", "reference")
    assert (finding.found, finding.expected) == ("2 references for 1 turn", "at most one a turn")


@pytest.mark.parametrize(
    ("answers", "line", "column"),
    [
        ([(2, [["four", "eight", "nine"]])], 1, "choices[0].turns"),
        ([(2, [["four", "eight"], ["4", "8"]])], 1, "choices"),
        ([(1, [["a line"]]), (2, [["four"]]), (2, [["4"]])], 3, "question_id"),
    ],
)
def test_two_references_of_a_file_for_one_turn_are_a_bad_row(
    tmp_path: Path, answers: list[tuple[int, list[list[str]]]], line: int, column: str
) -> None:
    rows = [
        {"question_id": number, "choices": [{"index": i, "turns": turns} for i, turns in enumerate(choices)]}
        for number, choices in answers
    ]
    names = ("question.jsonl", "reference.jsonl")
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, MT_BENCH, rows, names=names)
    (finding,) = refusal.value.findings
    assert (finding.code, finding.pointer, finding.line, finding.column) == (
        *("several_references", "/files/1", line, column),
    )
    assert load(tmp_path, MT_BENCH, rows, names=names, on_bad_row="skip")["rows"] == 2


@pytest.mark.parametrize("messages", [[("system", "Be brief.")], [("system", "Be brief."), ("user", "  ")]])
def test_messages_in_which_no_user_says_anything_are_a_bad_row(tmp_path: Path, messages: list[tuple[str, str]]) -> None:
    finding = refused(tmp_path, {"prompt": [{"role": role, "content": content} for role, content in messages]})
    assert (finding.code, finding.column) == ("no_user_message", "prompt")
    assert "system" in finding.found
