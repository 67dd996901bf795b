"""The operation `score_merge`: the parts of a scoring in shards become one scoring, as if it had never been divided.

Torch-free: it copies. Every row must come from exactly one part, and all parts from the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deft.data.splits import chosen_rows
from deft.errors import ArtifactCorrupt
from deft.reports import Report, stop_if_asked
from deft.scoring.counting import DISCREPANCY
from deft.scoring.folder import DISTRIBUTION, SCORES, Run, finish, link, phase, read_run, write_scores
from deft.scoring.rescorable import PROJECTION
from deft.scoring.rescoring import HIDDEN

if TYPE_CHECKING:
    from deft.scoring.shards import ScoreMergeSpec

_RESPONSES_PER_BLOCK = 8192


def run_score_merge(
    spec: ScoreMergeSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,  # noqa: ARG001 -- every operation has it
    report: Report,
) -> dict[str, Any]:
    """Put the parts together into the files of a scoring (see `deft.scoring.run.run_score`) and return its summary.

    Args:
        spec: what was asked for, and the parts in the order of their rows.
        inputs: folders `dataset`, `counted` and `part.0`, `part.1`, ...
        out: exists and is empty.
        checkpoints: not used.
        report: told the progress, in shards; may ask to stop.

    Raises:
        ArtifactCorrupt: a row is missing or came twice, or parts were scored by different weights.
        Interrupted: the report asked to stop.
    """
    parts = [inputs[f"part.{index}"] for index in range(len(spec.parts))]
    seconds: dict[str, float] = {}
    with phase("merge", report, seconds):
        runs = [read_run(part) for part in parts]
        tables = [pq.read_table(part / SCORES) for part in parts]
        table = pa.concat_tables(tables)
        _require_every_row_once(table, chosen_rows(inputs["dataset"], spec.score.rows))
        write_scores(out, table)
        if (parts[0] / HIDDEN).is_file():
            _merge_hidden(parts, out / HIDDEN, table.num_rows, report)
            link(parts[0] / PROJECTION, out / PROJECTION)
        for name in (DISTRIBUTION, DISCREPANCY):
            link(inputs["counted"] / name, out / name)
    counting = json.loads((inputs["counted"] / "count.json").read_text(encoding="utf-8"))["seconds"]
    return finish(out, inputs["dataset"], _together(runs, {**counting, **seconds}), shards=len(parts))


def _require_every_row_once(table: pa.Table, rows: Sequence[int]) -> None:
    is_chosen = table["response"].to_numpy() == 0
    if not np.array_equal(table["row"].to_numpy()[is_chosen], np.asarray(rows)):
        raise ArtifactCorrupt("the shards together do not have every row once, in order")


def _merge_hidden(parts: Sequence[Path], target: Path, responses: int, report: Report) -> None:
    """Copy the states of all *parts* into one file, in bounded memory."""
    width = np.load(parts[0] / HIDDEN, mmap_mode="r").shape[1]
    merged = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=(responses, width))
    at = 0
    for done, part in enumerate(parts, start=1):
        own = np.load(part / HIDDEN, mmap_mode="r")
        if own.shape[1] != width or at + len(own) > responses:
            raise ArtifactCorrupt(f"{HIDDEN} of shard {done} does not fit its scores")
        for start in range(0, len(own), _RESPONSES_PER_BLOCK):
            stop_if_asked(report)
            block = own[start : start + _RESPONSES_PER_BLOCK]
            merged[at : at + len(block)] = block
            at += len(block)
        report.progress(done, len(parts), "shards")
    if at != responses:
        raise ArtifactCorrupt(f"{HIDDEN} has {at} of {responses} responses")
    merged.flush()


def _together(runs: Sequence[Run], seconds: Mapping[str, float]) -> Run:
    """Return the *runs* of the shards as one: times and reused rows are summed, other types are told with a plus."""
    hashes = {(run.base_weights_hash, run.config_hash, run.adapter_hash) for run in runs}
    if len(hashes) > 1:
        raise ArtifactCorrupt("the shards were scored by different weights or settings: a model changed meanwhile")
    summed = {name: sum(run.seconds[name] for run in runs) for name in runs[0].seconds}
    return Run(
        architecture=runs[0].architecture,
        head=runs[0].head,
        width=runs[0].width,
        dtype="+".join(sorted({run.dtype for run in runs})),
        base_weights_hash=runs[0].base_weights_hash,
        config_hash=runs[0].config_hash,
        adapter_hash=runs[0].adapter_hash,
        is_prompt_shared=runs[-1].is_prompt_shared,
        attention=runs[-1].attention,
        rows_reused=sum(run.rows_reused for run in runs),
        passes_halved=sum(run.passes_halved for run in runs),
        seconds={**summed, **seconds},
    )
