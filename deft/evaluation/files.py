"""The files of an evaluation. Knows their columns and fields; computes nothing but what stands in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deft.evaluation.asked import HELD_OUT
from deft.evaluation.comparison import Evidence, default_focus, described, gather, system_metrics
from deft.evaluation.held_out import HeldOut
from deft.evaluation.metrics import BASE, Measurement, PairScores, implicit_margin
from deft.evaluation.other_models import Judged
from deft.evaluation.prompt_values import BOUNDS
from deft.evaluation.settings import hash_of
from deft.evaluation.slices import by_source
from deft.evaluation.state import Answered, Run, who_is
from deft.evaluation.verdict import compare
from deft.models.fit import answers_prompts

Part = tuple[HeldOut, list[Measurement]]
"""Rows, and what was measured of all of them."""


def write_comparison(
    run: Run,
    parts: Sequence[Part],
    scores: list[PairScores],
    settings: dict[str, Any],
    judged: Judged,
    out: Path,
    incoherence: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write metrics.json, values.parquet and comparison.json; return the summary.

    *incoherence* are the differences in the share of incoherent answers to prompt sets, as in safety.json.
    """
    options = run.spec.options
    measurements = [measurement for _, part in parts for measurement in part]
    evidence = gather(measurements, resamples=options.bootstrap, seed=options.seed)
    hashes = {metric: hash_of(value) for metric, value in settings.items()}
    slices = _slices(run, parts)
    rows = [row for own in (evidence, *slices.values()) for row in system_metrics(own, hashes)]
    write_json(out / "metrics.json", rows)
    write_values(parts, out / "values.parquet")
    focus = run.spec.focus or default_focus([system.arm for system in run.spec.systems])
    ties = _ties(run, scores)
    pairs = len(scores[0].rejected_logp) if scores else 0
    remarks = [*_remarks(ties, pairs, run.left_out), *judged.remarks]
    found = compare(evidence, focus, remarks, run.warnings, incoherence)
    found["differences"] += [each for own in slices.values() for each in described(own, focus)]
    write_json(out / "comparison.json", found)
    return {
        "sentence": found["sentence"],
        "verdict": found["verdict"],
        "focus": focus,
        "against": found["against"],
        "smallest_detectable_difference": found["smallest_detectable_difference"],
        "systems": [BASE, *(system.name for system in run.spec.systems)],
        "metrics": list(evidence),
        "pairs": pairs,
        "pair_prompts": run.pairs.prompts if scores else 0,
        "pairs_cut": run.pairs.prompts_cut if scores else 0,
        "answered_prompts": len(run.prompts.once.rows) if answers_prompts(run.spec) else 0,
        "answered_prompts_cut": run.prompts.once.prompts_cut if answers_prompts(run.spec) else 0,
        "reward_models": judged.reward_models,
        "shares_prompts": run.how.shares_prompts,
        "rows_left_out": run.left_out,
        "ties": ties,
    }


def _slices(run: Run, parts: Sequence[Part]) -> dict[str, dict[str, Evidence]]:
    """Return the evidence of every source, each resampled over its own prompts."""
    options = run.spec.options
    by_slice: dict[str, list[Measurement]] = {}
    for rows, measurements in parts:
        for measurement in by_source(measurements, rows.sources):
            by_slice.setdefault(measurement.slice, []).append(measurement)
    return {name: gather(own, resamples=options.bootstrap, seed=options.seed) for name, own in by_slice.items()}


def write_values(parts: Sequence[Part], path: Path) -> None:
    """Write what every number was summed from: one line a row, sample, system and metric, with its additive `sums`.

    A metric whose value is a ratio has the sums (numerator, denominator); corpus BLEU has ten counts. The file's
    metadata hold the ends of each metric's range, where it has some.
    """
    tables, bounds = [], {}
    for rows, measurements in parts:
        prompts = np.unique(rows.clusters, return_inverse=True)[1]
        for measurement in measurements:
            own, size = measurement.by_row, len(rows.rows)
            if own is None or measurement.is_by_definition:
                continue
            bounds[measurement.metric] = measurement.bounds
            columns = {
                "row": pa.array(rows.rows, pa.int64()),
                "sample": pa.array(rows.samples, pa.int32()),
                "prompt": pa.array(prompts, pa.int64()),
                "source": pa.array(rows.sources, pa.string()),
                "system": pa.array([measurement.system] * size, pa.string()),
                "arm": pa.array([measurement.arm] * size, pa.string()),
                "metric": pa.array([measurement.metric] * size, pa.string()),
                "sums": pa.array(own.columns.tolist(), pa.list_(pa.float64())),
            }
            tables.append(pa.table(columns))
    if tables:
        found = pa.concat_tables(tables).replace_schema_metadata({BOUNDS: json.dumps(bounds)})
        pq.write_table(found, path, compression="zstd")


def _ties(run: Run, scores: list[PairScores]) -> dict[str, int]:
    """Return, by system, in how many pairs the implicit margin is exactly 0."""
    margins = {
        adapter.system.name: implicit_margin(own, scores[0], run.spec.options.beta)
        for adapter, own in zip(run.adapters, scores[1:], strict=False)
    }
    return {name: int((margin == 0).sum()) for name, margin in margins.items()}


def _remarks(ties: dict[str, int], pairs: int, left_out: int) -> list[str]:
    said = ", ".join(f"{number} of {pairs} by `{name}`" for name, number in ties.items() if number)
    found = [f"Pairs that a system found equally likely count one half: {said}."] if said else []
    if left_out:
        rows = "1 row was" if left_out == 1 else f"{left_out:,} rows were"
        found.append(f"{rows} left out of the evaluation: a row that was trained on begins with the same user turn.")
    return found


def write_pairs(run: Run, scores: list[PairScores], path: Path) -> None:
    """Write one row a pair (the chosen and one other response of a row) and system.

    What the base has by definition is null there.
    """
    tables = []
    for adapter, own in zip(run.systems, scores, strict=False):
        base = scores[0]
        is_base = adapter is None
        size = len(own.rejected_logp)
        nothing = pa.nulls(size, pa.float64())
        margin = implicit_margin(own, base, run.spec.options.beta)
        columns = {
            "row": pa.array(own.per_pair(np.array(run.pairs.rows)), pa.int64()),
            "rejected": pa.array(own.place_of_rejected, pa.int32()),
            "system": pa.array([who_is(adapter).system] * size, pa.string()),
            "margin": nothing if is_base else pa.array(margin),
            "chosen_logp": pa.array(own.per_pair(own.chosen_logp)),
            "rejected_logp": pa.array(own.rejected_logp),
            "chosen_logp_change": nothing if is_base else pa.array(own.per_pair(own.chosen_logp - base.chosen_logp)),
            "r_d_chosen": nothing if own.r_d_chosen is None else pa.array(own.per_pair(own.r_d_chosen)),
            "r_d_rejected": nothing if own.r_d_rejected is None else pa.array(own.r_d_rejected),
            "chosen_tokens": pa.array(own.per_pair(own.chosen_tokens)),
            "rejected_tokens": pa.array(own.rejected_tokens),
            "prompt": pa.array(own.per_pair(np.unique(run.pairs.clusters, return_inverse=True)[1])),
        }
        tables.append(pa.table(columns))
    if tables:
        pq.write_table(pa.concat_tables(tables), path, compression="zstd")


def write_generations(run: Run, answers: list[Answered], path: Path) -> None:
    """Write one line a prompt, sample and system."""
    samples = run.prompts.samples
    with path.open("w", encoding="utf-8") as file:
        for adapter, own in zip(run.systems, answers, strict=False):
            for place, (answer, facts) in enumerate(zip(own.answers, own.facts(), strict=True)):
                line = {
                    "set": HELD_OUT,
                    "row": run.prompts.rows[place],
                    "sample": samples[place],
                    "turn": 1,
                    "system": who_is(adapter).system,
                    "text": answer.text,
                    "tokens": len(answer.ids),
                    "is_ended": answer.is_ended,
                    "stop": answer.stop,
                    "kl": facts.kl,
                    "entropy": facts.entropy,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 -- any JSON
    """Write *value* as JSON; NaN and infinity are refused."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
