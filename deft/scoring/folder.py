"""The files of a scoring's folder that need no model: its summary, and what a shard says of itself. Torch-free."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deft import distribution as distributions
from deft.errors import ArtifactCorrupt
from deft.reports import Report, stop_if_asked
from deft.scoring.counting import DISCREPANCY, summary_of

DISTRIBUTION = "distribution.safetensors"
SCORES = "scores.parquet"
RUN = "run.json"
"""What a part holds of its run, for the merge."""


@dataclass(frozen=True, slots=True)
class Run:
    """The model that scored some rows, and how; *passes_halved* for want of memory, *seconds* of each phase."""

    architecture: str
    head: str
    width: int
    dtype: str
    base_weights_hash: str
    config_hash: str
    """Of config.json (`deft.models.files`): equal weights compute other things with other settings."""
    adapter_hash: str | None
    """Of the adapter that it scored with (`deft.starts`)."""
    is_prompt_shared: bool
    attention: str
    rows_reused: int
    passes_halved: int
    seconds: Mapping[str, float]


def write_run(folder: Path, run: Run) -> None:
    """Write *run* to *folder*."""
    (folder / RUN).write_text(json.dumps(asdict(run), indent=1), encoding="utf-8")


def read_run(folder: Path) -> Run:
    """Read what `write_run` wrote to *folder*.

    Raises:
        ArtifactCorrupt: it is not there, or not that.
    """
    try:
        return Run(**json.loads((folder / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactCorrupt(f"{folder.name}/{RUN} cannot be read: {error}") from error


def write_scores(folder: Path, table: pa.Table) -> None:
    """Write *table*, a row a scored response, to *folder*: equal tables give equal bytes."""
    pq.write_table(table.combine_chunks(), folder / SCORES, compression="zstd")


def finish(out: Path, dataset: Path, run: Run, *, shards: int) -> dict[str, Any]:
    """Add what a scoring in *out* lacks: the files of its data set, as hard links, and scoring.json; return the latter.

    *out* has the distribution, its report and the scores of all rows.
    """
    for name in ("examples.parquet", "original.parquet"):
        link(dataset / name, out / name)
    table = pq.read_table(out / SCORES)
    told = json.loads((out / DISCREPANCY).read_text(encoding="utf-8"))
    summary = {
        **asdict(run),
        **_of_distribution(out),
        **_of_scores(table),
        "shards": shards,
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "discrepancy": summary_of(told),
    }
    (out / "scoring.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def _of_distribution(out: Path) -> dict[str, Any]:
    distribution = distributions.load(out / DISTRIBUTION)
    return {
        "vocabulary_size": len(distribution.q_diff),
        "l1": distribution.l1,
        "aspects": {name: counts.rows for name, counts in distribution.aspects.items()},
        "rows_counted": distribution.counts.rows,
        "tokens_counted": int(distribution.counts.chosen.sum() + distribution.counts.rejected.sum()),
    }


def _of_scores(table: pa.Table) -> dict[str, Any]:
    response, r_d = table["response"].to_numpy(), table["r_d"].to_numpy()
    is_chosen = response == 0
    chosen, row = r_d[is_chosen], is_chosen.cumsum() - 1
    is_higher = (chosen[row] > r_d)[~is_chosen]
    tokens = int(table["response_tokens"].to_numpy().sum() + table["prompt_tokens"].to_numpy()[is_chosen].sum())
    return {
        "rows_scored": len(chosen),
        "responses_scored": len(r_d),
        "responses_cut": int(table["is_cut"].to_numpy(zero_copy_only=False).sum()),
        "tokens_scored": tokens,
        "mean_r_d_chosen": float(chosen.mean()),
        "mean_r_d_rejected": float(r_d[~is_chosen].mean()),
        "share_chosen_higher": float((np.bincount(row[~is_chosen], is_higher) / np.bincount(row[~is_chosen])).mean()),
    }


@contextmanager
def phase(name: str, report: Report, seconds: dict[str, float]) -> Iterator[None]:
    """Tell that the phase *name* begins, and add how long it took to *seconds*."""
    stop_if_asked(report)
    report.phase(name)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def link(source: Path, target: Path) -> None:
    """Make *target* a second name of *source*, or a copy where the file systems differ."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
