"""The files of an evaluation. Knows their columns and fields; computes nothing but what stands in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deft.evaluation.comparison import default_focus, gather, system_metrics
from deft.evaluation.metrics import BASE, Measurement, PairScores, implicit_margin
from deft.evaluation.state import Answered, Run, generates, hash_of, who_is
from deft.evaluation.verdict import compare


def write_comparison(
    run: Run, measurements: list[Measurement], scores: list[PairScores], settings: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Write metrics.json and comparison.json; return the summary."""
    options = run.spec.options
    evidence = gather(measurements, resamples=options.bootstrap, seed=options.seed)
    hashes = {metric: hash_of(value) for metric, value in settings.items()}
    write_json(out / "metrics.json", system_metrics(evidence, hashes))
    focus = run.spec.focus or default_focus([system.arm for system in run.spec.systems])
    ties = _ties(run, scores)
    pairs = len(scores[0].rejected_logp) if scores else 0
    found = compare(evidence, focus, _remarks(ties, pairs, run.left_out), run.warnings)
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
        "answered_prompts": len(run.prompts.rows) if generates(run.spec) else 0,
        "shares_prompts": run.how.shares_prompts,
        "rows_left_out": run.left_out,
        "ties": ties,
    }


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
    """Write one line a prompt and system."""
    with path.open("w", encoding="utf-8") as file:
        for adapter, own in zip(run.systems, answers, strict=False):
            for place, (answer, facts) in enumerate(zip(own.answers, own.facts(), strict=True)):
                line = {
                    "row": run.prompts.rows[place],
                    "system": who_is(adapter).system,
                    "text": answer.text,
                    "tokens": len(answer.ids),
                    "is_ended": answer.is_ended,
                    "stop": answer.stop,
                    "kl": facts.kl,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 -- any JSON
    """Write *value* as JSON; NaN and infinity are refused."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
