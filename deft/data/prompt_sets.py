"""Prompt sets: a user's files of prompts without responses, as one immutable folder; and reading it back. Torch-free.

    prompts.parquet      the prompts, in file order
    rejected_rows.jsonl  with on_bad_row = skip: what was wrong with each of the other rows
    dataset.json         the summary

A set is small (`MOST_PROMPTS`) and is held in memory whole. The formats are in `deft.data.prompt_formats`.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from deft.data import row_checks
from deft.data.prompt_formats import (
    NOT_TO_BE_TRAINED_ON,
    PROMPT_FORMATS,
    Prompt,
    References,
    prompt_format_of,
)
from deft.data.readers import open_source
from deft.data.row_checks import BadRow
from deft.errors import Finding, InvalidInput, InvalidRows, TooLarge
from deft.examples import prompt_from_text, prompt_text, split_point_of
from deft.folders import sha256_of

FILE = "prompts.parquet"
MOST_PROMPTS = 100_000
FINDINGS_LISTED = 20
DETECTION_ROWS = 5
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source_line", pa.int64()),
        ("prompt", pa.string()),
        ("prompt_is_messages", pa.bool_()),
        ("further", pa.list_(pa.string())),
        ("category", pa.string()),
        ("label", pa.string()),
        ("reference", pa.list_(pa.string())),
        ("split_point", pa.float64()),
        ("key", pa.string()),
    ]
)
LABELLED = pa.schema([*SCHEMA, ("answer", pa.string()), ("answer_kind", pa.string())])
"""The columns of a set of answers that people have labelled."""


def is_prompt_set(folder: Path) -> bool:
    """Return whether *folder* is that of a prompt set."""
    return (folder / FILE).is_file()


def read_prompts(folder: Path) -> list[tuple[int, Prompt, float]]:
    """Return (row, prompt, split point) of every prompt of the set in *folder*, in order."""
    found = []
    for stored in pq.read_table(folder / FILE).to_pylist():
        prompt = Prompt(
            prompt_from_text(stored["prompt"], is_messages=stored["prompt_is_messages"]),
            tuple(stored["further"]),
            stored["category"],
            stored["label"],
            tuple(stored["reference"]),
            stored["source_line"],
            answer=stored.get("answer"),
            answer_kind=stored.get("answer_kind"),
        )
        found.append((stored["row"], prompt, stored["split_point"]))
    return found


def require_labelled_answers(folder: Path) -> None:
    """Check that the set in *folder* holds answers that people have labelled, for a judge of safety.

    Raises:
        InvalidInput: `no_labels`: it has none.
    """
    if "answer_kind" not in pq.read_schema(folder / FILE).names:
        expected = "a set of format labelled_answers"
        fix = "upload answers with labels of people: prompt, completion, final_label"
        finding = Finding("no_labels", "prompts without answers", expected, fix, pointer="/labels")
        raise InvalidInput("The labels are no answers that people have labelled.", code="no_labels", findings=[finding])


def overlap(folder: Path, trained: set[float]) -> int:
    """Return how many prompts of the set begin with a user turn of a row that was trained on (by split points)."""
    points = pq.read_table(folder / FILE, columns=["split_point"])["split_point"].to_pylist()
    return sum(point in trained for point in points)


# Importing ---------------------------------------------------------------------------------------------------------


def detected(path: Path, form: str, columns: Mapping[str, str] | None, max_bytes: int) -> str | None:
    """Return the prompt format of the file at *path*, None where it is no prompt set.

    Raises:
        InvalidInput: a prompt format was asked for together with a column map.
        InvalidRows: the file cannot be read.
    """
    if form in PROMPT_FORMATS:
        if columns:
            finding = Finding("unknown_option", "a column map", "none", "leave it out", pointer="/columns")
            raise InvalidInput("A prompt set has the columns of its format.", findings=[finding])
        return form
    if form != "auto" or columns:
        return None
    first = itertools.islice(open_source(path, max_bytes=max_bytes).records, DETECTION_ROWS)
    return next(filter(None, (prompt_format_of(row) for _, row in first if isinstance(row, dict))), None)


@dataclass
class _Import:
    """What has been read of the files of one set."""

    prompts: list[Prompt] = field(default_factory=list)
    references: dict[int, References] = field(default_factory=dict)
    bad: list[Finding] = field(default_factory=list)


def import_prompts(paths: Sequence[Path], out: Path, *, form: str, keeps_going: bool, max_bytes: int) -> dict[str, Any]:
    """Check every row of the files at *paths*, write them as one prompt set to the folder *out*, return its summary.

    Nothing is written unless the set is stored.

    Raises:
        InvalidRows: a row cannot be used (with *keeps_going*: no row can); the first 20 findings are listed.
        TooLarge: more than `MOST_PROMPTS` rows, or a file over *max_bytes*.
    """
    read = _Import()
    for index, path in enumerate(paths):
        _read_file(read, path, f"/files/{index}" if len(paths) > 1 else None, form, max_bytes)
    prompts = [_with_reference(prompt, read) for prompt in read.prompts]
    if not prompts or (read.bad and not keeps_going):
        raise _refusal(read)
    table = _table(prompts)
    pq.write_table(table, out / FILE, compression="zstd")
    if read.bad:
        lines = [orjson.dumps(finding.as_dict(), option=orjson.OPT_APPEND_NEWLINE) for finding in read.bad]
        (out / "rejected_rows.jsonl").write_bytes(b"".join(lines))
    summary = _summary(prompts, read.bad, table, paths, form)
    (out / "dataset.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    return summary


def _read_file(read: _Import, path: Path, pointer: str | None, form: str, max_bytes: int) -> None:
    for line, value in open_source(path, max_bytes=max_bytes).records:
        try:
            if isinstance(value, BadRow):
                raise value
            _take(read, PROMPT_FORMATS[form](row_checks.object_row(value)), line, pointer)
        except BadRow as bad:
            read.bad.append(bad.at(line, pointer))
        if len(read.prompts) > MOST_PROMPTS:
            finding = Finding("too_many_rows", f"more than {MOST_PROMPTS:,} prompts", f"{MOST_PROMPTS:,}", "split it")
            raise TooLarge("The prompt set is too large.", findings=[finding])


def _take(read: _Import, found: Prompt | References, line: int, pointer: str | None) -> None:
    if isinstance(found, References):
        if found.number in read.references:
            place = f"a second row of answers to question {found.number}"
            raise BadRow("several_references", "question_id", place, "one row a question", "remove one of the two")
        read.references[found.number] = replace(found, line=line, pointer=pointer)
        return
    row_checks.asks_something(found.prompt, "prompt")
    for index, turn in enumerate(found.further):
        row_checks.prompt_is_not_empty(turn, f"turns[{index + 1}]")
    _one_a_turn(found, found.reference, "reference")
    read.prompts.append(replace(found, source_line=line))


def _one_a_turn(prompt: Prompt, reference: Sequence[str], column: str) -> None:
    turns = 1 + len(prompt.further)
    if len(reference) > turns:
        found, expected = f"{len(reference)} references for {turns} turn{'s' * (turns > 1)}", "at most one a turn"
        raise BadRow("several_references", column, found, expected, "keep one reference a turn, in the turns' order")


def _with_reference(prompt: Prompt, read: _Import) -> Prompt:
    """Return *prompt* with the answers of a reference file, which go before those of its own row."""
    found = None if prompt.number is None else read.references.get(prompt.number)
    if found is None:
        return prompt
    try:
        _one_a_turn(prompt, found.turns, "choices[0].turns")
    except BadRow as bad:
        read.bad.append(bad.at(found.line, found.pointer))
        return prompt
    return replace(prompt, reference=found.turns)


def _table(prompts: Sequence[Prompt]) -> pa.Table:
    rows = []
    schema = LABELLED if any(prompt.answer_kind for prompt in prompts) else SCHEMA
    for row, prompt in enumerate(prompts):
        text = prompt_text(prompt.prompt)
        own = [prompt.further, prompt.category, prompt.label, prompt.reference]
        said = [prompt.answer, prompt.answer_kind] if schema is LABELLED else []
        key = hashlib.sha256(orjson.dumps([text, *own, *said])).hexdigest()
        is_messages = not isinstance(prompt.prompt, str)
        rows.append((row, prompt.source_line, text, is_messages, *own, split_point_of(prompt.prompt), key, *said))
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, column.type) for values, column in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _summary(
    prompts: Sequence[Prompt], bad: Sequence[Finding], table: pa.Table, paths: Sequence[Path], form: str
) -> dict[str, Any]:
    keys = "".join(table["key"].to_pylist())
    labelled = dict(Counter(prompt.answer_kind for prompt in prompts if prompt.answer_kind is not None))
    return {
        "format": form,
        "is_prompt_set": True,
        "rows": len(prompts),
        "rejected": len(bad),
        "rejected_by_code": dict(Counter(finding.code for finding in bad)),
        "findings": [finding.as_dict() for finding in bad[:FINDINGS_LISTED]],
        "files": [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in paths],
        "content_hash": hashlib.sha256(keys.encode()).hexdigest(),
        "counts": {
            "category": dict(Counter(prompt.category for prompt in prompts if prompt.category is not None)),
            "label": dict(Counter(prompt.label for prompt in prompts if prompt.label is not None)),
            "turns": {str(n): c for n, c in sorted(Counter(1 + len(p.further) for p in prompts).items())},
            **({"answer_kind": labelled} if labelled else {}),
        },
        "rows_with": {"reference": sum(bool(prompt.reference) for prompt in prompts)},
        "not_to_be_trained_on": NOT_TO_BE_TRAINED_ON.get(form, "it has no responses"),
    }


def _refusal(read: _Import) -> InvalidRows:
    if not read.bad:
        finding = Finding("no_rows", "no prompts", "at least one prompt", "upload the file of questions")
        return InvalidRows("There are no prompts.", code="no_rows", findings=[finding])
    total = len(read.bad) + len(read.prompts)
    codes = ", ".join(f"{code} {n}" for code, n in Counter(finding.code for finding in read.bad).most_common())
    message = f"{len(read.bad):,} of {total:,} rows cannot be used: {codes}."
    return InvalidRows(message, findings=read.bad[:FINDINGS_LISTED])
