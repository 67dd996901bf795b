"""The `select` operation: a scoring to a subset with a ledger of every row. Torch-free, loads no model.

examples.parquet           the kept examples       kept.parquet, .jsonl    the user's columns of them, and ours
distribution.safetensors   whose Q_diff ranked     ledger.parquet, .jsonl  the fate of every example of the dataset
subset.json                the summary             README.md, SHA256SUMS
"""

import shutil
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deft import distribution as distributions
from deft.data.columns import COMPRESSION, json_bytes, parquet_writer
from deft.errors import ArtifactCorrupt
from deft.folders import content_files, sha256_of
from deft.reports import Report, stop_if_asked
from deft.scoring.rescoring import Rescored, rescore
from deft.selection import ScoredRow, Selected, select
from deft.specs import SelectSpec
from deft.starts import scored_under
from deft.subset_card import subset_card

LEDGER_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("deft_source_line", pa.int64()),
        ("deft_r_d", pa.float64()),
        ("deft_r_d_rejected", pa.float64()),
        ("chosen_tokens", pa.int32()),
        ("deft_rank", pa.int64()),
        ("deft_kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)
KEPT_COLUMNS = ["deft_r_d", "deft_rank", "deft_kept", "deft_source_line"]
BATCH_ROWS = 1024
DISTRIBUTION = "distribution.safetensors"
SOURCES_TOLD = 20


def run_select(
    spec: SelectSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None = None,  # noqa: ARG001 - seconds of work: nothing to resume
    report: Report,
) -> dict[str, Any]:
    """Select from the scoring `inputs["scoring"]` (M6), write the subset to *out*, return its summary.

    Raises:
        InvalidInput: nothing was scored, `by` needs responses that were not, or the scoring and the other Q_diff do not
            belong to one head.
        ArtifactCorrupt: scores and examples do not belong together.
    """
    scoring = inputs["scoring"]
    report.phase("select")
    other = _other_distribution(spec, inputs)
    rows = scored_rows(scoring, None if other is None else other.r_d)
    selected = select(rows, spec.selection)
    ledger = ledger_of(_source_lines(scoring), rows, selected)
    report.phase("write")
    _write_table(out / "ledger", ledger)
    kept = ledger.filter(ledger["deft_kept"])
    stop_if_asked(report)
    _write_kept_examples(scoring / "examples.parquet", out / "examples.parquet", kept)
    _write_kept_originals(scoring / "original.parquet", out / "kept", kept)
    if other is None:
        shutil.copyfile(scoring / DISTRIBUTION, out / DISTRIBUTION)
    else:
        distributions.save(out / DISTRIBUTION, other.distribution)
    sources = sources_of(rows, set(kept["row"].to_pylist()))
    summary = {**_summary(spec, selected, ledger, kept), "sources": sources, "scored_under": scored_under(scoring)}
    (out / "subset.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    (out / "README.md").write_text(subset_card(summary), encoding="utf-8")
    write_sums(out)
    return summary


def _other_distribution(spec: SelectSpec, inputs: Mapping[str, Path]) -> Rescored | None:
    """Return the responses scored by another Q_diff; None where the scoring's own is asked for."""
    if spec.distribution is None and spec.aspects is None:
        return None
    return rescore(inputs["scoring"], inputs.get("distribution", inputs["scoring"]), spec.aspects)


def scored_rows(scoring: Path, r_d: Sequence[float] | NDArray[np.float64] | None = None) -> list[ScoredRow]:
    """Return R_d of every scored example in *scoring*, by row; `rejected` is the mean over its rejected responses.

    *r_d* takes the place of what was scored, in the order of scores.parquet.

    Raises:
        ArtifactCorrupt: a row's rejected response was scored and its chosen one was not, or *r_d* has another length.
    """
    columns = ["row", "response", "response_tokens", "r_d"]
    table = pq.read_table(scoring / "scores.parquet", columns=columns)
    if r_d is not None and len(r_d) != table.num_rows:
        raise ArtifactCorrupt("hidden.npy and scores.parquet do not have the same responses")
    found = table.to_pydict()
    if r_d is not None:
        found["r_d"] = [float(value) for value in r_d]
    chosen: dict[int, tuple[float, int]] = {}
    rejected: dict[int, list[float]] = {}
    for row, response, tokens, value in zip(*(found[name] for name in columns), strict=True):
        if response == 0:
            chosen[row] = (value, tokens)
        else:
            rejected.setdefault(row, []).append(value)
    if rejected.keys() - chosen.keys():
        raise ArtifactCorrupt("the scoring has rejected responses without their chosen one")
    sources = _column(scoring, "source")
    if chosen and not 0 <= min(chosen) <= max(chosen) < len(sources):
        raise ArtifactCorrupt("a scored row is not in examples.parquet")
    means = {row: sum(values) / len(values) for row, values in rejected.items()}
    return [
        ScoredRow(row, value, means.get(row), tokens, sources[row]) for row, (value, tokens) in sorted(chosen.items())
    ]


def _source_lines(scoring: Path) -> list[int]:
    lines: list[int] = _column(scoring, "source_line")
    return lines


def _column(scoring: Path, name: str) -> list[Any]:
    """Return one column of every example; row numbers are 0..E-1 in the order of the file."""
    table = pq.read_table(scoring / "examples.parquet", columns=["row", name])
    if table["row"].to_pylist() != list(range(table.num_rows)):
        raise ArtifactCorrupt("the rows of examples.parquet are not numbered from 0")
    values: list[Any] = table[name].to_pylist()
    return values


def ledger_of(source_lines: Sequence[int], rows: Sequence[ScoredRow], selected: Selected) -> pa.Table:
    """Return the fate of every example of the dataset, one row each, in dataset order."""
    entries = [
        {"row": row, "deft_source_line": line, "deft_kept": False, "reason": "not_scored"}
        for row, line in enumerate(source_lines)
    ]
    for scored, rank, is_kept in zip(rows, selected.ranks, selected.kept, strict=True):
        entries[scored.row].update(
            deft_r_d=scored.chosen,
            deft_r_d_rejected=scored.rejected,
            chosen_tokens=scored.chosen_tokens,
            deft_rank=rank,
            deft_kept=is_kept,
            reason="kept" if is_kept else "over_quota" if rank <= selected.count else "not_selected",
        )
    return pa.Table.from_pylist(entries, LEDGER_SCHEMA)


def _write_table(stem: Path, table: pa.Table) -> None:
    pq.write_table(table, stem.with_suffix(".parquet"), compression=COMPRESSION)
    with stem.with_suffix(".jsonl").open("wb") as file:
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            file.writelines(json_bytes(row) + b"\n" for row in batch.to_pylist())


def _write_kept_examples(source: Path, target: Path, kept: pa.Table) -> None:
    with pq.ParquetFile(source) as file, _writer(target, file.schema_arrow) as writer:
        for part, _ in _kept_parts(file, kept):
            writer.write_table(part)


def _write_kept_originals(source: Path, stem: Path, kept: pa.Table) -> None:
    """Write the user's own columns of the kept rows, unchanged and in their order, and ours behind them."""
    with pq.ParquetFile(source) as file, stem.with_suffix(".jsonl").open("wb") as lines:
        ours = [kept.schema.field(name) for name in KEPT_COLUMNS]
        with _writer(stem.with_suffix(".parquet"), pa.schema([*file.schema_arrow, *ours])) as writer:
            for part, entries in _kept_parts(file, kept):
                for name in KEPT_COLUMNS:
                    part = part.append_column(kept.schema.field(name), entries[name])
                writer.write_table(part)
                lines.writelines(json_bytes(row) + b"\n" for row in part.to_pylist())


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return parquet_writer(path, schema.remove_metadata())


def _kept_parts(file: pq.ParquetFile, kept: pa.Table) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the kept rows of *file*, whose row i is the dataset's row i, part by part, with their ledger entries."""
    numbers = kept["row"].to_pylist()
    start = done = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        end = bisect_left(numbers, start + batch.num_rows, done)
        if end > done:
            places = pa.array([number - start for number in numbers[done:end]])
            yield pa.Table.from_batches([batch]).take(places), kept.slice(done, end - done)
        start, done = start + batch.num_rows, end


def _summary(spec: SelectSpec, selected: Selected, ledger: pa.Table, kept: pa.Table) -> dict[str, Any]:
    selection = spec.selection
    scored = ledger.filter(pc.is_valid(ledger["deft_rank"]))
    return {
        "kept": selected.count,
        "scored": scored.num_rows,
        "rows": ledger.num_rows,
        "keep": selection.keep,
        "count": selection.count,
        "reason": selected.reason,
        "end": selection.end,
        "by": selection.by,
        "quota": selection.quota,
        "distribution": spec.distribution,
        "aspects": spec.aspects,
        "seed": selection.seed,
        "cut_value": selected.cut_value,
        "length_slope": selected.length_slope,
        "mean_r_d_kept": pc.mean(kept["deft_r_d"]).as_py(),
        "mean_r_d_scored": pc.mean(scored["deft_r_d"]).as_py(),
        "mean_chosen_tokens_kept": pc.mean(kept["chosen_tokens"]).as_py(),
        "mean_chosen_tokens_scored": pc.mean(scored["chosen_tokens"]).as_py(),
    }


def sources_of(rows: Sequence[ScoredRow], kept: Collection[int]) -> list[dict[str, Any]]:
    """Return how many of *rows* each source has and how many of them are *kept*, the largest `SOURCES_TOLD` alone.

    R_d may tell sources apart before it tells rows: what is kept of mixed data can be of one of them.
    """
    scored = Counter(row.source for row in rows)
    own = Counter(row.source for row in rows if row.row in kept)
    return [{"source": name, "scored": n, "kept": own[name]} for name, n in scored.most_common(SOURCES_TOLD)]


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over the other files of *folder*, as `sha256sum --check` reads it."""
    sums = folder / "SHA256SUMS"
    files = [path for path in content_files(folder) if path != sums]
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    sums.write_text("".join(lines), encoding="utf-8")
