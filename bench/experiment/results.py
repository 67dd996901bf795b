"""What the experiment found: raw numbers of each held-out row, and the registered comparisons with their intervals.

It reads pairs.parquet of evaluations and no text of a row.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.experiment import design
from bench.experiment.design import CELLS, FAMILY, REPEATED, Run
from bench.experiment.page import page
from deft.evaluation.comparison import VERDICT_METRIC, Evidence, gather, plain_verdict, table
from deft.evaluation.drift import drifts_of
from deft.evaluation.intervals import Array, Bounds, Estimate, cluster_sums, holm, smallest_detectable_difference
from deft.evaluation.metrics import BASE, Measurement, wins

Sides = tuple[str, str]
"""A cell, and the one that it is compared with."""
OF_ONE_SEED: tuple[Sides, ...] = tuple((cell.name, design.owner_of(cell)) for cell in CELLS if cell not in REPEATED)
"""Each cell of one seed, and the one that it differs from in one thing."""


def numbers_of(evaluation: Path, runs: Sequence[Run], data: Path) -> pa.Table:
    """Return a row a held-out pair and run: cell, seed, source, row, prompt, margin, changes of log p; no texts."""
    pairs = pq.read_table(evaluation / "pairs.parquet")
    names = {f"run-{place}": run for place, run in enumerate(runs)}
    source = pq.read_table(data / "examples.parquet", columns=["source"])["source"].to_pylist()
    rows = [
        {
            "cell": names[each["system"]].cell.name,
            "learning_rate": names[each["system"]].learning_rate,
            "seed": names[each["system"]].seed,
            "source": source[each["row"]],
            **{name: each[name] for name in ("row", "prompt", "margin", "chosen_logp_change", "chosen_tokens")},
        }
        for each in pairs.to_pylist()
        if each["system"] in names
    ]
    return pa.Table.from_pylist(rows)


def development_scores(numbers: pa.Table, runs: Sequence[Run]) -> dict[Run, tuple[float, float]]:
    """Return the accuracy and the change of log p(chosen) a token of each run."""
    table_ = numbers.to_pylist()
    found = {}
    for run in runs:
        own = [each for each in table_ if _is_of(each, run)]
        accuracy = float(wins(np.array([each["margin"] for each in own])).mean())
        change = sum(each["chosen_logp_change"] for each in own) / sum(each["chosen_tokens"] for each in own)
        found[run] = (accuracy, change)
    return found


def _is_of(row: Mapping[str, Any], run: Run) -> bool:
    return (row["cell"], row["learning_rate"], row["seed"]) == (run.cell.name, run.learning_rate, run.seed)


def report(numbers: pa.Table, resamples: int = 2000) -> dict[str, Any]:
    """Return the registered comparisons, what is described beside them, the table of cells, and those by source."""
    sources = sorted(set(numbers["source"].to_pylist()))
    parts = {source: numbers.filter(pc.equal(numbers["source"], source)) for source in sources}
    evidence = gathered(numbers, resamples)
    found = comparisons(evidence)
    return {
        "conclusions": conclusions(found),
        "comparisons": found,
        "described": described(evidence[VERDICT_METRIC], OF_ONE_SEED),
        "table": table(evidence),
        "sources": {source: _of_source(own, resamples) for source, own in parts.items()},
    }


def _of_source(numbers: pa.Table, resamples: int) -> dict[str, Any]:
    evidence = gathered(numbers, resamples)
    return {"table": table(evidence), "described": described(evidence[VERDICT_METRIC], FAMILY)}


def gathered(numbers: pa.Table, resamples: int) -> dict[str, Evidence]:
    """Return the evidence of every metric: seeds of a cell are draws of one arm."""
    measurements = [each for own in _by_run(numbers).values() for each in _measured(own)]
    return gather([*_base(numbers), *measurements], resamples=resamples, seed=0)


def comparisons(evidence: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """Return the registered comparisons in their order, Holm's correction over them, and which runs drifted heavily."""
    family, found = _estimates(evidence[VERDICT_METRIC], FAMILY)
    adjusted = holm([each.p for each in found])
    drifts = drifts_of(evidence)
    return [
        {
            "arm": arm,
            "against": against,
            "difference": each.value,
            "low": each.low,
            "high": each.high,
            "p": each.p,
            "p_adjusted": p,
            "effect_size": each.effect_size,
            "smallest_detectable_difference": smallest_detectable_difference(each),
            "verdict": plain_verdict(each, p),
            "heavy_drift": [*drifts[arm].heavy, *drifts[against].heavy],
        }
        for (arm, against), each, p in zip(family, found, adjusted, strict=True)
    ]


def _estimates(evidence: Evidence, pairs: Sequence[Sides]) -> tuple[list[Sides], list[Estimate]]:
    """Return those of *pairs* that were measured, and what one side less the other comes to."""
    known = set(evidence.arms())
    own = [(arm, against) for arm, against in pairs if {arm, against} <= known]
    return own, [evidence.estimate_arms(arm, against) for arm, against in own]


def described(evidence: Evidence, pairs: Sequence[Sides]) -> list[dict[str, Any]]:
    """Return the differences of *pairs* with their intervals; without tests, as registered."""
    return [
        {"arm": arm, "against": against, "difference": each.value, "low": each.low, "high": each.high}
        for (arm, against), each in zip(*_estimates(evidence, pairs), strict=True)
    ]


def conclusions(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the comparisons come to by the plan's section "What would count as what": helps, harms, not shown."""
    by_sides = {(each["arm"], each["against"]): each for each in found}
    if set(by_sides) != set(FAMILY):
        return {}
    deft = by_sides["deft", "random"]
    is_sound = not any(name.startswith("deft-") for name in deft["heavy_drift"])
    terms = [by_sides["deft", "no_reward_term"], by_sides["random_with_term", "random"]]
    clear = [each for each in terms if each["verdict"] != "within noise"]
    is_one_way = len({each["difference"] > 0 for each in terms if each["difference"]}) == 1
    return {
        "DEFT": "helps" if deft["verdict"] == "clear gain" and is_sound else "not shown to help",
        "the selection": _effect(by_sides["no_reward_term", "random"]),
        "the term": _effect(clear[0]) if clear and is_one_way else "not shown",
        "the end": "matters" if by_sides["deft", "opposite"]["verdict"] != "within noise" else "not shown to matter",
    }


def _effect(comparison: Mapping[str, Any]) -> str:
    return {"clear gain": "helps", "clear loss": "harms"}.get(comparison["verdict"], "not shown")


def _by_run(numbers: pa.Table) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return the rows of each run, in the order of the cells."""
    order = {cell.name: place for place, cell in enumerate(CELLS)}
    rows = sorted(numbers.to_pylist(), key=lambda each: (order[each["cell"]], each["seed"], each["row"]))
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for each in rows:
        found.setdefault((each["cell"], each["seed"]), []).append(each)
    return found


def _measured(rows: list[dict[str, Any]]) -> list[Measurement]:
    """Measure accuracy, margin and drift of one run."""
    column = {name: np.array([each[name] for each in rows], np.float64) for name in ("margin", "chosen_logp_change")}
    tokens = np.array([each["chosen_tokens"] for each in rows], np.float64)
    return [
        _measurement(VERDICT_METRIC, rows, wins(column["margin"]), (0.0, 1.0)),
        _measurement("margin", rows, column["margin"]),
        _measurement("chosen_logp_change_per_token", rows, column["chosen_logp_change"], counted=tokens),
    ]


def _measurement(
    metric: str, rows: list[dict[str, Any]], values: Array, bounds: Bounds = None, counted: Array | None = None
) -> Measurement:
    columns = np.column_stack([values, np.ones(len(rows)) if counted is None else counted])
    sums = cluster_sums(columns, [each["prompt"] for each in rows])
    name = f"{rows[0]['cell']}-{rows[0]['seed']}"
    return Measurement(metric, name, rows[0]["cell"], sums, len(rows), bounds)


def _base(numbers: pa.Table) -> list[Measurement]:
    """Return the base, which is right in half of the pairs by definition."""
    rows = next(iter(_by_run(numbers).values()))
    sums = cluster_sums(np.full((len(rows), 2), [0.5, 1.0]), [each["prompt"] for each in rows])
    return [Measurement(VERDICT_METRIC, BASE, BASE, sums, len(rows), (0.0, 1.0), is_by_definition=True)]


def write(numbers: pa.Table, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write results.json, and README.md for people, to *out*; return what is in the first."""
    found = {**facts, **report(numbers)}
    (out / "results.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / "README.md").write_text(page(found), encoding="utf-8")
    return found
