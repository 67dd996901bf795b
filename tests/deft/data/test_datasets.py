import gzip
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.data import writer as dataset_writer
from deft.data.datasets import import_files, read_examples
from deft.errors import DeftError, InvalidInput, InvalidRows
from deft.examples import Example

GOOD: dict[str, Any] = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
TEXT = st.text(min_size=1).filter(lambda text: bool(text.strip()))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def load(folder: Path, *rows: object, name: str = "rows.jsonl", **options: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows))
    return import_files([path], folder / "out", **options)


def examples(folder: Path) -> list[Example]:
    return [example for _, example in read_examples(folder / "out")]


# Formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "name", "prompt", "responses"),
    [
        (GOOD, "trl.preference.plain.explicit", "Why?", ("Because.", "No.")),
        ({**GOOD, "chosen": "  kept as it is "}, "trl.preference.plain.explicit", "Why?", ("  kept as it is ", "No.")),
        (
            {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " Because.\n", "rejected": " No."},
            "trl.preference.plain.explicit",
            "\n\nHuman: Why?\n\nAssistant:",
            ("Because.", "No."),
        ),
        (
            {"chosen": "\n\nHuman: Duck?\n\nAssistant: Duckduck", "rejected": "\n\nHuman: Duck?\n\nAssistant: DG "},
            "hh.transcript",
            "\n\nHuman: Duck?\n\nAssistant:",
            ("Duckduck", "DG"),
        ),
        (
            {
                "chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant: d\n\ne",
                "rejected": "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant: f",
            },
            "hh.transcript",
            "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant:",
            ("d\n\ne", "f"),
        ),
        (
            {"prompt": [user("Why?")], "chosen": [assistant("Because.")], "rejected": [assistant("No.")]},
            "trl.preference.conversational.explicit",
            [user("Why?")],
            ("Because.", "No."),
        ),
        (
            {"prompt": "Why?", "chosen": [assistant("Because.")], "rejected": [assistant("No.")]},
            "trl.preference.conversational.explicit",
            [user("Why?")],
            ("Because.", "No."),
        ),
        (
            {
                "prompt": "Why?",
                "chosen": [user("Why?"), assistant("Because.")],
                "rejected": [user("Why?"), assistant("No.")],
            },
            "trl.preference.conversational.explicit",
            [user("Why?")],
            ("Because.", "No."),
        ),
        (
            {
                "prompt": [user("Why?")],
                "chosen": [user("Why?"), assistant("Because.")],
                "rejected": [user("Why?"), assistant("No.")],
            },
            "trl.preference.conversational.explicit",
            [user("Why?")],
            ("Because.", "No."),
        ),
        (
            {
                "chosen": [{"role": "system", "content": "s"}, user("Why?"), assistant("Because.")],
                "rejected": [{"role": "system", "content": "s"}, user("Why?"), assistant("No.")],
            },
            "trl.preference.conversational.implicit",
            [{"role": "system", "content": "s"}, user("Why?")],
            ("Because.", "No."),
        ),
        ({"prompt": "Why?", "responses": ["a", "b", "c"]}, "deft.responses", "Why?", ("a", "b", "c")),
        ({"prompt": [user("Why?")], "responses": ["a", "b"]}, "deft.responses", [user("Why?")], ("a", "b")),
    ],
)
def test_a_known_format_is_told_by_keys_and_types(tmp_path: Path, row, name, prompt, responses) -> None:  # type: ignore[no-untyped-def]
    assert load(tmp_path, row)["format"] == name
    (example,) = examples(tmp_path)
    assert (example.prompt, example.responses, example.source_line) == (prompt, responses, 1)


def test_the_users_own_values_are_carried(tmp_path: Path) -> None:
    own = {"scores": [2, 0.5], "weight": 3, "source": "web", "aspect": "safe", "split": "test", "flavour": "mild"}
    summary = load(
        tmp_path, {"prompt": "Why?", "responses": ["a", "b"], **own}, {"prompt": "x", "responses": ["a", "b"]}
    )
    assert examples(tmp_path) == [
        Example("Why?", ("a", "b"), (2.0, 0.5), 3.0, "web", "safe", "test", 1),
        Example("x", ("a", "b"), source_line=2),
    ]
    assert summary["counts"] == {"source": {"web": 1}}


def test_a_column_map_reads_other_names(tmp_path: Path) -> None:
    row = {"question": "Why?", "good": "Because.", "bad": "No.", "chosen": 1, "where": "web"}
    mapping = {"prompt": "question", "chosen": "good", "rejected": "bad", "source": "where"}
    assert load(tmp_path, row, columns=mapping)["format"] == "trl.preference.plain.explicit"
    assert examples(tmp_path) == [Example("Why?", ("Because.", "No."), source="web", source_line=1)]
    assert pq.read_table(tmp_path / "out" / "original.parquet").to_pylist() == [row]


def test_a_column_can_be_left_unread(tmp_path: Path) -> None:
    row = {**GOOD, "split": "train_prefs", "source": 7}
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, row)
    assert "--map source=" in refusal.value.findings[0].fix
    load(tmp_path, row, columns={"split": "", "source": ""})
    assert (examples(tmp_path)[0].split, examples(tmp_path)[0].source) == (None, None)


@pytest.mark.parametrize("ours", ["split", "source", "aspect"])
def test_the_way_to_leave_a_mapped_column_unread_is_by_our_name(tmp_path: Path, ours: str) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, {**GOOD, "theirs": 7}, columns={ours: "theirs"})
    finding = refusal.value.findings[0]
    assert (finding.column, finding.fix.split("--map ")[1]) == ("theirs", f"{ours}=")


def test_times_that_become_text_are_told(tmp_path: Path) -> None:
    times = pa.array([1_600_000_000_000_000_001, None], pa.timestamp("ns"))
    table = pa.table({**{name: [text] * 2 for name, text in GOOD.items()}, "at": times})
    pq.write_table(table, tmp_path / "pairs.parquet")
    (tmp_path / "out").mkdir()
    assert import_files([tmp_path / "pairs.parquet"], tmp_path / "out")["json_columns"] == ["at"]
    at = pq.read_table(tmp_path / "out" / "original.parquet")["at"].to_pylist()
    assert [text and orjson.loads(text) for text in at] == ["2020-09-13 12:26:40.000000001", None]


def test_csv_gives_numbers_and_lists_as_text(tmp_path: Path) -> None:
    data = b'prompt,responses,scores,weight,source\nWhy?,"[""a"", ""b""]","[1, 0.5]",2,\n'
    load(tmp_path, data, name="rows.csv")
    assert examples(tmp_path) == [Example("Why?", ("a", "b"), (1.0, 0.5), 2.0, source_line=2)]
    original = pq.read_table(tmp_path / "out" / "original.parquet").to_pylist()
    assert original == [
        {"prompt": "Why?", "responses": '["a", "b"]', "scores": "[1, 0.5]", "weight": "2", "source": ""}
    ]


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    row = {"prompt": "x", "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    assert load(tmp_path, row)["format"] == "trl.preference.plain.explicit"
    assert load(tmp_path, row, format="hh.transcript")["format"] == "hh.transcript"
    assert examples(tmp_path)[0].responses == ("b", "c")


# Bad rows ----------------------------------------------------------------------------------------------------------

HH = "\n\nHuman: a\n\nAssistant: "
DIALOGUES = {"chosen": HH + "x", "rejected": HH + "y"}
RANKED = {"prompt": "x", "responses": ["a", "b"]}
IMPLICIT = {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]}


@pytest.mark.parametrize(
    ("first", "bad", "code", "column"),
    [
        (GOOD, {**GOOD, "chosen": " \n"}, "empty_response", "chosen"),
        (GOOD, {**GOOD, "rejected": ""}, "empty_response", "rejected"),
        (GOOD, {**GOOD, "prompt": " "}, "empty_prompt", "prompt"),
        (GOOD, {**GOOD, "rejected": "Because. "}, "equal_responses", "rejected"),
        (GOOD, {"prompt": "Why?", "chosen": "x"}, "missing_column", "rejected"),
        (GOOD, {**GOOD, "chosen": None}, "missing_value", "chosen"),
        (GOOD, {**GOOD, "chosen": True}, "wrong_type", "chosen"),
        (GOOD, {**GOOD, "chosen": 7}, "wrong_type", "chosen"),
        (GOOD, {**GOOD, "prompt": ["x"]}, "wrong_type", "prompt"),
        (GOOD, {**GOOD, "rejected": {"text": "x"}}, "wrong_type", "rejected"),
        (GOOD, [1, 2], "not_an_object", None),
        (GOOD, 3, "not_an_object", None),
        (GOOD, b'{"prompt": ', "malformed_json", None),
        (GOOD, {**GOOD, "weight": 0}, "weight_range", "weight"),
        (GOOD, {**GOOD, "weight": 1e-300}, "weight_range", "weight"),
        (GOOD, {**GOOD, "weight": True}, "wrong_type", "weight"),
        (GOOD, {**GOOD, "weight": "1"}, "wrong_type", "weight"),
        (GOOD, {**GOOD, "split": "elsewhere"}, "unknown_split", "split"),
        (GOOD, {**GOOD, "source": ["a"]}, "wrong_type", "source"),
        (GOOD, {**GOOD, "source": "s" * 201}, "name_too_long", "source"),
        (GOOD, {**GOOD, "aspect": "s" * 201}, "name_too_long", "aspect"),
        (GOOD, {**GOOD, "deft_rank": 1}, "reserved_column", "deft_rank"),
        (RANKED, {**RANKED, "responses": ["a"]}, "too_few_responses", "responses[0]"),
        (RANKED, {**RANKED, "responses": []}, "too_few_responses", "responses"),
        (RANKED, {**RANKED, "responses": "ab"}, "wrong_type", "responses"),
        (RANKED, {**RANKED, "responses": ["a", None]}, "missing_value", "responses[1]"),
        (RANKED, {**RANKED, "responses": ["a", "b", "a"]}, "equal_responses", "responses[2]"),
        (RANKED, {**RANKED, "scores": [1]}, "scores_count", "scores"),
        (RANKED, {**RANKED, "scores": [0, 1]}, "scores_order", "scores"),
        (RANKED, {**RANKED, "scores": [0, "1"]}, "wrong_type", "scores[1]"),
        (DIALOGUES, {"chosen": HH, "rejected": HH + "y"}, "empty_response", "chosen"),
        (DIALOGUES, {"chosen": HH + "x", "rejected": HH.upper() + HH + "y"}, "context_mismatch", "rejected"),
        (DIALOGUES, {"chosen": "Human: x", "rejected": HH + "y"}, "no_assistant_turn", "chosen"),
        (DIALOGUES, {"chosen": HH + "x\n\nHuman: z", "rejected": HH + "y"}, "last_turn", "chosen"),
        (
            IMPLICIT,
            {"chosen": [user("a"), assistant("b")], "rejected": [user("z"), assistant("c")]},
            "context_mismatch",
            "rejected",
        ),
        (
            IMPLICIT,
            {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("b"), user("c")]},
            "context_mismatch",
            "rejected",
        ),
        (
            IMPLICIT,
            {"chosen": [assistant("b")], "rejected": [assistant("c")]},
            "empty_prompt",
            "chosen",
        ),
        (
            IMPLICIT,
            {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("b")]},
            "equal_responses",
            "rejected",
        ),
        (
            IMPLICIT,
            {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), user("c")]},
            "response_turns",
            "rejected",
        ),
        (
            {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            {"prompt": [user("a")], "chosen": [assistant("b"), assistant("d")], "rejected": [assistant("c")]},
            "response_turns",
            "chosen",
        ),
        (
            {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            {"prompt": [{"role": "robot", "content": "a"}], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            "unknown_role",
            "prompt[0].role",
        ),
        (
            {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            {"prompt": [{"role": "user", "content": [1]}], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            "wrong_type",
            "prompt[0].content",
        ),
        (
            {"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            {"prompt": [], "chosen": [assistant("b")], "rejected": [assistant("c")]},
            "wrong_type",
            "prompt",
        ),
    ],
)
def test_a_bad_row_is_refused_or_skipped_with_line_and_reason(tmp_path: Path, first, bad, code, column) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidRows, match=f"1 of 3 rows cannot be used: {code} 1") as refusal:
        load(tmp_path, first, bad, first)
    (finding,) = refusal.value.findings
    assert (finding.code, finding.line, finding.column) == (code, 2, column)
    assert finding.found
    assert finding.expected
    assert finding.fix
    assert list((tmp_path / "out").iterdir()) == []

    summary = load(tmp_path, first, bad, first, on_bad_row="skip")
    assert (summary["rows"], summary["rejected"], summary["rejected_by_code"]) == (2, 1, {code: 1})
    rejected = (tmp_path / "out" / "rejected_rows.jsonl").read_bytes()
    assert orjson.loads(rejected) == finding.as_dict() == summary["findings"][0]
    assert [example.source_line for example in examples(tmp_path)] == [1, 3]


def test_a_finding_repeats_at_most_80_characters_of_a_row(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, GOOD, {**GOOD, "chosen": "s3cret" * 50, "rejected": "s3cret" * 50})
    assert refusal.value.findings[0].found.count("s3cret") < 80 / 6


def test_the_first_20_findings_and_the_count_of_each_code(tmp_path: Path) -> None:
    rows = [GOOD] + [{**GOOD, "chosen": ""}] * 25 + [{**GOOD, "chosen": 1}] * 3
    with pytest.raises(InvalidRows, match="28 of 29 rows cannot be used: empty_response 25, wrong_type 3") as refusal:
        load(tmp_path, *rows)
    assert [finding.line for finding in refusal.value.findings] == list(range(2, 22))


@pytest.mark.parametrize("on_bad_row", ["refuse", "skip"])
@pytest.mark.parametrize("rows", [[{**GOOD, "chosen": ""}], [b"{", b"}"], [[1]], [b"nothing"]])
def test_a_file_without_a_good_row_is_refused_in_either_mode(
    tmp_path: Path, rows: list[object], on_bad_row: str
) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, *rows, on_bad_row=on_bad_row)
    assert refusal.value.findings
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("data", [b"", b" \n\n", b"[ ]", b"prompt,chosen,rejected\n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, data, name=name)
    assert refusal.value.findings


@pytest.mark.parametrize(
    "options", [{"on_bad_row": "drop"}, {"format": "trl"}, {"columns": {"prmpt": "x"}}, {"columns": {"prompt": 1}}]
)
def test_an_unknown_option_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        load(tmp_path, GOOD, **options)
    assert not isinstance(refusal.value, InvalidRows)
    assert refusal.value.findings[0].pointer


@pytest.mark.parametrize(
    ("row", "code", "fix"),
    [
        (
            {"question": "q", "good": "g", "bad": "b"},
            "unknown_columns",
            "--map prompt=question,chosen=good,rejected=bad",
        ),
        ({"instruction": "q", "answers": ["g", "b"]}, "unknown_columns", "--map prompt=instruction,responses=answers"),
        ({"prompt": "q", "Chosen": "g", "reject": "b"}, "unknown_columns", "--map chosen=Chosen,rejected=reject"),
        ({"a": 1}, "unknown_columns", "--map prompt=YOUR_COLUMN,chosen=YOUR_COLUMN,rejected=YOUR_COLUMN"),
        ({"chosen": "whole text", "rejected": "other text"}, "implicit_plain", "add a column prompt"),
    ],
)
def test_unknown_columns_come_with_the_map_to_paste(tmp_path: Path, row: dict[str, Any], code: str, fix: str) -> None:
    with pytest.raises(InvalidRows) as refusal:
        load(tmp_path, row)
    (finding,) = refusal.value.findings
    assert finding.code == code
    assert fix in finding.fix


def test_a_mapped_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRows, match="no column sorce, but prompt, chosen, rejected"):
        load(tmp_path, GOOD, columns={"source": "sorce"})


def test_rows_before_a_cut_end_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_writer, "CHUNK_ROWS", 2)
    data = gzip.compress(b"\n".join([orjson.dumps(GOOD)] * 500))[:-10]
    with pytest.raises(InvalidRows, match="Truncated"):
        load(tmp_path, data, name="rows.jsonl.gz", on_bad_row="skip")
    assert list((tmp_path / "out").iterdir()) == []


# What is kept ------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt": TEXT, "responses": st.lists(TEXT, min_size=2, max_size=4, unique_by=str.strip)},
            optional={
                "weight": st.floats(0.01, 1e6),
                "source": st.text(max_size=200),
                "note": st.none() | st.integers(0, 9),
            },
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_rows_survive_import_unchanged(tmp_path_factory: Any, rows: list[dict[str, Any]], chunk: int) -> None:
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_writer, "CHUNK_ROWS", chunk)
        load(folder, *rows)
    back = examples(folder)
    for row, example in zip(rows, back, strict=True):
        is_transcript = row["prompt"].endswith("Assistant:")
        assert example.prompt == row["prompt"]
        assert list(example.responses) == [text.strip() if is_transcript else text for text in row["responses"]]
        assert (example.weight, example.source) == (row.get("weight"), row.get("source"))
    original = pq.read_table(folder / "out" / "original.parquet").to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in original] == [
        {k: v for k, v in row.items() if v is not None} for row in rows
    ]


def test_one_content_one_hash_whatever_the_container(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "prompt": "Who?"}]
    plain = load(tmp_path / "a", *rows)
    array = load(tmp_path / "b", orjson.dumps(rows), name="rows.json")
    packed = load(tmp_path / "c", gzip.compress(b"\r\n".join(map(orjson.dumps, rows))), name="rows.jsonl.gz")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    table = import_files([tmp_path / "rows.parquet"], tmp_path / "d")
    assert len({summary["content_hash"] for summary in (plain, array, packed, table)}) == 1
    others = [load(tmp_path / "e", *rows[::-1]), load(tmp_path / "f", *rows[:1]), load(tmp_path / "g", *rows, GOOD)]
    assert plain["content_hash"] not in {summary["content_hash"] for summary in others}


def test_several_files_make_one_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(GOOD))
    (tmp_path / "b.csv").write_bytes(b"prompt,chosen,rejected,extra\nx,y,z,1\nx,y,y,2\n")
    paths = [tmp_path / "a.jsonl", tmp_path / "b.csv"]
    summary = import_files(paths, tmp_path / "out", on_bad_row="skip")
    assert [file["name"] for file in summary["files"]] == ["a.jsonl", "b.csv"]
    assert summary["rows"] == 2
    assert (summary["findings"][0]["pointer"], summary["findings"][0]["line"]) == ("/files/1", 3)
    original = pq.read_table(tmp_path / "out" / "original.parquet").to_pylist()
    assert original == [{**GOOD, "extra": None}, {"prompt": "x", "chosen": "y", "rejected": "z", "extra": "1"}]


def test_rows_are_written_in_chunks_so_that_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_writer, "CHUNK_CHARACTERS", 1000)
    load(tmp_path, *({**GOOD, "prompt": "x" * 400} for _ in range(10)))
    for name in ("examples.parquet", "original.parquet"):
        metadata = pq.ParquetFile(tmp_path / "out" / name).metadata
        assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 3, 3, 1]


def test_the_summary_is_in_the_folder_and_splits_add_up(tmp_path: Path) -> None:
    summary = load(tmp_path, *({**GOOD, "prompt": f"q{n}"} for n in range(50)))
    assert orjson.loads((tmp_path / "out" / "dataset.json").read_bytes()) == summary
    assert sum(summary["splits"].values()) == 50
    assert summary["splits"]["train"] > 25
    assert not (tmp_path / "out" / "rejected_rows.jsonl").exists()


CELLS = (
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.lists(st.text() | st.none(), max_size=2)
    | st.just([user("a")])
)
NAMES = st.sampled_from(["prompt", "chosen", "rejected", "responses", "weight", "x"])


@settings(max_examples=60)
@given(st.lists(st.dictionaries(NAMES, CELLS)))
def test_any_rows_are_imported_or_refused_by_an_error_of_ours(tmp_path_factory: Any, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        summary = load(folder, *rows, on_bad_row="skip")
    except DeftError:
        return
    assert summary["rows"] + summary["rejected"] == len(rows)
