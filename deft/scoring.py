"""The operation `score`: count Q_diff (M1-M3) on a data set, then score its responses under one model (M4-M5).

The mean hidden states are kept, so that any other Q_diff is a dot product away, except under a soft-capped head.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deft import distribution as distributions
from deft import projections
from deft.counting import count_rows, report_on, require_review, summary_of, write_report
from deft.datasets import iterate_examples
from deft.distribution import Distribution
from deft.models import check_settings, load_base, load_tokenizer, weights_hash
from deft.projections import Projection
from deft.reports import Report, stop_if_asked
from deft.rescoring import HIDDEN
from deft.reward import Head, direction_of, head_of, projection_of
from deft.scorer import Scorer, Scores, score_examples
from deft.splits import chosen_rows
from deft.stored_states import StoredStates, keys_of, open_states
from deft.tokens import TokenizedExample, encode_examples

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from deft.examples import Example
    from deft.specs import ScoreSpec, TokenOptions

T = TypeVar("T")
Scored = tuple[pa.Table, NDArray[np.float32] | None]
"""Scored responses: a row a response as in scores.parquet, and their mean hidden states (none under a soft-cap)."""

__all__ = ["Scores", "run_score", "score_examples"]

EXAMPLES_PER_WINDOW = 4096
"""Examples that are tokenised, sorted by length and scored together: bounds memory, not the result."""


def run_score(
    spec: ScoreSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,  # noqa: ARG001 -- every operation has it; a scoring starts anew
    report: Report,
) -> dict[str, Any]:
    """Count and score a data set; write a scoring folder's files into *out* and return its summary.

    Args:
        spec: what is asked for.
        inputs: folders `dataset` and `model`, and `extends` where the spec names an earlier scoring.
        out: exists and is empty; gets distribution.safetensors, discrepancy.json, scores.parquet, scoring.json,
            the data set's own files as hard links and, unless the head is soft-capped, projection.safetensors and
            hidden.npy.
        checkpoints: not used.
        report: told phases and progress; may ask to stop.

    Raises:
        InvalidInput: no rows, rows without tokens, or an earlier scoring of another model or other settings.
        ModelNotUsable: the model, its head or its tokenizer is not supported.
        ReviewNeeded: Q_diff may be noise, the gate is `pause`, and nobody has accepted it; no model was loaded.
        Interrupted: the report asked to stop.
    """
    dataset, seconds = inputs["dataset"], dict[str, float]()
    with _phase("count", report, seconds):
        tokenizer = load_tokenizer(inputs["model"])
        check_settings(inputs["model"], tokenizer, spec.tokens)
        counted = count_rows(dataset, spec.count_rows, tokenizer, spec.tokens, report=report)
        told = report_on(counted.parts(spec.aspects), tokenizer, spec.gate)
        write_report(told, out)
    require_review(told, report.accepted)
    with _phase("load_model", report, seconds), ThreadPoolExecutor(1) as hasher:
        weights = hasher.submit(weights_hash, inputs["model"])  # a second a gigabyte: beside the loading
        model = load_base(inputs["model"], precision=spec.precision)
        head = head_of(model)
        distribution = counted.distribution(head.weight.shape[0], spec.aspects)
        distributions.save(out / "distribution.safetensors", distribution)
        projection = projection_of(head, distribution) if head.softcap is None else None
        if projection is not None:
            projections.save(out, projection)
    facts = {"base_weights_hash": weights.result(), "dtype": str(head.weight.dtype).removeprefix("torch.")}
    with _phase("score", report, seconds):
        scorer = Scorer(model, direction_of(head, distribution.q_diff), None, None, report)
        work = _Work(scorer, tokenizer, spec.tokens)
        if spec.extends is not None:
            work.earlier = _Earlier(
                open_states(inputs["extends"], {**counted.facts, **facts}), projection, distribution
            )
        table = _score_rows(work, spec, dataset, out)
    for name in ("examples.parquet", "original.parquet"):
        _link(dataset / name, out / name)
    summary = _summary(model, head, distribution, work, table, seconds) | facts
    summary["discrepancy"] = summary_of(told)
    (out / "scoring.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


@dataclass(frozen=True, slots=True)
class _Earlier:
    """States of an earlier scoring, and the Q_diff that they are scored by now."""

    states: StoredStates
    projection: Projection | None
    distribution: Distribution

    def take(self, rows: Sequence[int], keys: Sequence[str]) -> Scored:
        """Return table and states of the examples *keys*, which it has, as *rows*."""
        assert self.projection is not None  # noqa: S101 -- a soft-capped head has no earlier states
        table, hidden = self.states.take(rows, keys)
        r_d = self.projection.rewards(hidden, self.projection.u, self.distribution.q_diff)
        return table.set_column(table.column_names.index("r_d"), "r_d", pa.array(r_d)), hidden


@dataclass(slots=True)
class _Work:
    """What scores a window of examples: the model, or the states of an *earlier* scoring for the same content."""

    scorer: Scorer
    tokenizer: PreTrainedTokenizerBase
    options: TokenOptions
    earlier: _Earlier | None = None
    reused: int = 0

    def window(self, rows: Sequence[int], examples: Sequence[Example], keys: Sequence[str]) -> Scored:
        """Return table and states of the *examples*, in their order, then best response first."""
        known = [self.earlier is not None and key in self.earlier.states for key in keys]
        found = [self._run(*_picked(rows, examples, known, False))] if not all(known) else []
        if self.earlier is not None and any(known):
            found.append(self.earlier.take(*_picked(rows, keys, known, True)))
            self._note_reused(sum(known))
        return found[0] if len(found) == 1 else _in_order(*found)

    def _run(self, rows: Sequence[int], examples: Sequence[Example]) -> Scored:
        tokenized = encode_examples(examples, self.tokenizer, self.options)
        scores = self.scorer.score(tokenized)
        return _table(rows, tokenized, scores), scores.hidden

    def _note_reused(self, examples: int) -> None:
        self.reused += examples
        self.scorer.done += examples
        self.scorer.report.progress(self.scorer.done, self.scorer.total, "examples")


def _picked(
    rows: Sequence[int], things: Sequence[T], is_known: Sequence[bool], wanted: bool
) -> tuple[list[int], list[T]]:
    places = [place for place, known in enumerate(is_known) if known == wanted]
    return [rows[place] for place in places], [things[place] for place in places]


def _in_order(one: Scored, other: Scored) -> Scored:
    """Put two parts of a window together in the order of rows, then responses."""
    table = pa.concat_tables([one[0], other[0]])
    order = np.lexsort((table["response"].to_numpy(), table["row"].to_numpy()))
    assert one[1] is not None and other[1] is not None  # noqa: S101 -- only linear heads have earlier states
    return table.take(pa.array(order)), np.concatenate([one[1], other[1]])[order]


def _score_rows(work: _Work, spec: ScoreSpec, dataset: Path, out: Path) -> pa.Table:
    """Score the rows window by window; write hidden.npy and scores.parquet, and return the latter's table."""
    rows = chosen_rows(dataset, spec.rows)
    responses = sum(len(example.responses) for _, example in _examples(dataset, rows))
    work.scorer.total = len(rows)
    hidden = None
    direction = work.scorer.direction
    if direction.is_linear:
        shape = (responses, direction.u.shape[0])
        hidden = np.lib.format.open_memmap(out / HIDDEN, mode="w+", dtype=np.float32, shape=shape)
    parts, at, keys = [], 0, keys_of(dataset)
    examples = _examples(dataset, rows)
    while window := list(islice(examples, EXAMPLES_PER_WINDOW)):
        numbers = [row for row, _ in window]
        table, states = work.window(numbers, [example for _, example in window], [keys[row] for row in numbers])
        if hidden is not None and states is not None:
            hidden[at : at + table.num_rows] = states
        at += table.num_rows
        parts.append(table)
    if hidden is not None:
        hidden.flush()
    table = pa.concat_tables(parts)
    pq.write_table(table, out / "scores.parquet", compression="zstd")
    return table


def _table(rows: Sequence[int], tokenized: Sequence[TokenizedExample], scores: Scores) -> pa.Table:
    """One row a scored response, in the order of *scores*."""
    of = [(row, index, example) for row, example in zip(rows, tokenized, strict=True) for index in _indices(example)]
    columns = {
        "row": pa.array([row for row, _, _ in of], pa.int64()),
        "response": pa.array([index for _, index, _ in of], pa.int32()),
        "response_tokens": pa.array(scores.tokens, pa.int32()),
        "prompt_tokens": pa.array([len(example.prompt_ids) for _, _, example in of], pa.int32()),
        "is_cut": pa.array([example.is_cut[index] for _, index, example in of], pa.bool_()),
        "r_d": pa.array(scores.r_d, pa.float64()),
    }
    return pa.table(columns)


def _summary(
    model: PreTrainedModel,
    head: Head,
    distribution: Distribution,
    work: _Work,
    table: pa.Table,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    response = table["response"].to_numpy()
    r_d = table["r_d"].to_numpy()
    is_chosen = response == 0
    chosen, row = r_d[is_chosen], is_chosen.cumsum() - 1
    is_higher = (chosen[row] > r_d)[~is_chosen]
    tokens = int(table["response_tokens"].to_numpy().sum() + table["prompt_tokens"].to_numpy()[response == 0].sum())
    return {
        "architecture": type(model).__name__,
        "head": head.kind,
        "vocabulary_size": len(distribution.q_diff),
        "width": int(work.scorer.direction.u.shape[0]),
        "l1": distribution.l1,
        "aspects": {name: counts.rows for name, counts in distribution.aspects.items()},
        "rows_counted": distribution.counts.rows,
        "tokens_counted": int(distribution.counts.chosen.sum() + distribution.counts.rejected.sum()),
        "rows_scored": len(chosen),
        "rows_reused": work.reused,
        "responses_scored": len(r_d),
        "responses_cut": int(table["is_cut"].to_numpy(zero_copy_only=False).sum()),
        "tokens_scored": tokens,
        "is_prompt_shared": work.scorer.is_shared,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "mean_r_d_chosen": float(chosen.mean()),
        "mean_r_d_rejected": float(r_d[response > 0].mean()),
        "share_chosen_higher": float((np.bincount(row[~is_chosen], is_higher) / np.bincount(row[~is_chosen])).mean()),
    }


def _indices(example: TokenizedExample) -> range:
    return range(len(example.response_ids))


@contextmanager
def _phase(name: str, report: Report, seconds: dict[str, float]) -> Iterator[None]:
    stop_if_asked(report)
    report.phase(name)
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _examples(dataset: Path, rows: Sequence[int]) -> Iterator[tuple[int, Example]]:
    wanted = set(rows)
    return ((row, example) for row, example in iterate_examples(dataset) if row in wanted)


def _link(source: Path, target: Path) -> None:
    """Make *target* a second name of *source*, or a copy where the file systems differ."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
