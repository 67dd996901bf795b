"""Datasets: a user's files, checked row by row, as one immutable folder; and reading it back. Torch-free.

    examples.parquet     the accepted examples, in file order
    original.parquet     the user's own columns of the same rows, in the same order
    rejected_rows.jsonl  with on_bad_row = skip: what was wrong with each of the others
    dataset.json         the summary

Memory is bounded: rows pass through in chunks, each one a Parquet row group.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deft.data import prompt_sets
from deft.data.columns import Row
from deft.data.formats import Columns
from deft.data.importers import Importer, columns_from, importer_for
from deft.data.readers import MAX_BYTES, Record, Source, open_source
from deft.data.row_checks import BadRow, no_reserved_column, not_an_object
from deft.data.writer import FINDINGS_LISTED, DatasetWriter
from deft.errors import Finding, InvalidInput, InvalidRows, shown
from deft.examples import Example, prompt_from_text

OnBadRow = Literal["refuse", "skip"]
DETECTION_ROWS = 100

# Reading -----------------------------------------------------------------------------------------------------------


def iterate_examples(folder: Path) -> Iterator[tuple[int, Example]]:
    """Yield (row number, example) of the dataset, scoring or subset in *folder*, in row order, in bounded memory."""
    with pq.ParquetFile(folder / "examples.parquet") as file:
        for batch in file.iter_batches(batch_size=1024):
            yield from map(_example_from, batch.to_pylist())


def read_examples(folder: Path) -> list[tuple[int, Example]]:
    """Return (row number, example) of every example of the dataset, scoring or subset in *folder*, in row order."""
    return list(iterate_examples(folder))


def have_scores(folder: Path, rows: Sequence[int]) -> bool:
    """Return whether all of *rows* of the dataset in *folder* have scores of their responses."""
    table = pq.read_table(folder / "examples.parquet", columns=["row", "scores"])
    scored = set(table["row"].filter(table["scores"].is_valid()).to_pylist())
    return scored.issuperset(rows)


def have_lists(folder: Path, rows: Sequence[int]) -> bool:
    """Return whether any of *rows* of the dataset in *folder* has three responses or more."""
    table = pq.read_table(folder / "examples.parquet", columns=["row", "responses"])
    listed = table.filter(pc.greater(pc.list_value_length(table["responses"]), 2))
    return not set(listed["row"].to_pylist()).isdisjoint(rows)


def values_in(folder: Path, column: Literal["source", "aspect"], rows: Sequence[int]) -> set[str]:
    """Return the distinct values of *column* in *rows* of the dataset or scoring in *folder*; "": rows without one."""
    table = pq.read_table(folder / "examples.parquet", columns=["row", column])
    own = table.filter(pc.is_in(table["row"], value_set=pa.array(rows, pa.int64())))
    return {value or "" for value in own[column].unique().to_pylist()}


def _example_from(stored: Row) -> tuple[int, Example]:
    scores = stored["scores"]
    return stored["row"], Example(
        prompt=prompt_from_text(stored["prompt"], is_messages=stored["prompt_is_messages"]),
        responses=tuple(stored["responses"]),
        scores=None if scores is None else tuple(scores),
        weight=stored["weight"],
        source=stored["source"],
        aspect=stored["aspect"],
        split=stored["split"],
        source_line=stored["source_line"],
    )


# Importing ---------------------------------------------------------------------------------------------------------


def import_files(
    paths: Sequence[Path],
    out: Path,
    *,
    format: str = "auto",  # noqa: A002 - the word that users type
    columns: Mapping[str, str] | None = None,
    on_bad_row: OnBadRow = "refuse",
    max_bytes: int = MAX_BYTES,
) -> dict[str, Any]:
    """Check every row of the files at *paths*, write them as one dataset to the folder *out*, return its summary.

    *format* is a key of `deft.data.importers.FORMATS`, of `PROMPT_FORMATS`, or auto; *columns* maps our names to the
    user's; *max_bytes* caps the decompressed bytes of one file. Files of prompts without responses become a prompt set
    (`deft.data.prompt_sets`). On any error nothing is left in *out*.

    Raises:
        InvalidInput: an unknown option.
        InvalidRows: a file or a row cannot be used (with `skip`: no row can); the first 20 findings are listed.
        TooLarge: a file or a record is over its cap.
    """
    if on_bad_row not in ("refuse", "skip"):
        finding = Finding("unknown_option", shown(on_bad_row), "refuse or skip", "use one of them", "/on_bad_row")
        raise InvalidInput("on_bad_row is refuse or skip.", findings=[finding])
    if not paths:
        raise InvalidRows("No file was given.", code="no_rows")
    chosen = columns_from(columns)
    out.mkdir(parents=True, exist_ok=True)
    found = prompt_sets.detected(paths[0], format, columns, max_bytes)
    if found is not None:
        keeps_going = on_bad_row == "skip"
        return prompt_sets.import_prompts(paths, out, form=found, keeps_going=keeps_going, max_bytes=max_bytes)
    writer = DatasetWriter(out, keeps_going=on_bad_row == "skip")
    try:
        formats = [
            _import_file(writer, path, f"/files/{index}" if len(paths) > 1 else None, format, chosen, max_bytes)
            for index, path in enumerate(paths)
        ]
        return writer.finish(paths, ", ".join(dict.fromkeys(formats)))
    except BaseException:
        writer.discard()
        raise


def _import_file(
    writer: DatasetWriter, path: Path, pointer: str | None, form: str, columns: Columns, max_bytes: int
) -> str:
    source = open_source(path, max_bytes=max_bytes)
    importer, records = _detected(source, form, columns)
    if importer is None:
        raise InvalidRows(f"{shown(path.name)} has no rows.", code="no_rows", findings=[_no_rows(pointer)])
    for line, value in records:
        try:
            if isinstance(value, BadRow):
                raise value
            example = importer.example(line, value)
            no_reserved_column(value)
        except BadRow as bad:
            writer.reject(bad.at(line, pointer))
        else:
            writer.add(example, value)
    return importer.format


def _no_rows(pointer: str | None) -> Finding:
    return Finding("no_rows", "no rows", "at least one row", "upload a file with rows", pointer=pointer)


def _no_objects(first: Sequence[Record]) -> InvalidRows:
    """Return why none of the *first* records of a file, which all are bad, is a row."""
    findings = []
    for line, value in first[:FINDINGS_LISTED]:
        bad = value if isinstance(value, BadRow) else not_an_object(value)
        findings.append(bad.at(line))
    return InvalidRows("The file does not begin with rows.", findings=findings)


def _detected(source: Source, form: str, columns: Columns) -> tuple[Importer | None, Iterable[Record]]:
    first = list(itertools.islice(source.records, DETECTION_ROWS))
    rows = [value for _, value in first if isinstance(value, dict)]
    if not first:
        return None, first
    if not rows:
        raise _no_objects(first)
    return importer_for(rows, columns, format=form, is_typed=source.is_typed), itertools.chain(first, source.records)
