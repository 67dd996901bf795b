"""The operation `score`: count Q_diff (M1-M3) on a data set, then score its responses under one start (M4-M5).

A start is a base model, or a base model with the adapter that a training will go on from (`deft.starts`).

The mean hidden states are kept, so that any other Q_diff is a dot product away, except under a soft-capped head. In
shards (`deft.scoring.shards`) the counting and each range of rows is an operation of its own; `deft.scoring.merge` is
the third.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft import distribution as distributions
from deft.data.splits import chosen_rows
from deft.distribution import Distribution
from deft.models.attention import attention_of
from deft.models.files import config_hash
from deft.models.loading import (
    check_settings,
    default_device,
    dtype_of,
    load_base,
    load_policy,
    load_tokenizer,
    weights_hash,
)
from deft.models.numbers import numbers_named
from deft.models.quantisation import numbers_of
from deft.reports import Report
from deft.reward import direction_of, head_of, projection_of
from deft.scoring import projections
from deft.scoring.counting import count_rows, report_on, require_review, write_report
from deft.scoring.extending import require_extendable
from deft.scoring.folder import DISTRIBUTION, Run, finish, phase, write_run
from deft.scoring.scored_rows import Earlier, Work, require_known_tokens, score_rows
from deft.scoring.scorer import Scorer, Scores, score_examples
from deft.scoring.stored_states import open_states
from deft.starts import Start, start_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from deft.scoring.shards import ScoreCountSpec, ScoreShardSpec
    from deft.specs import ScoreSpec

__all__ = ["Scores", "run_score", "run_score_count", "run_score_shard", "score_examples"]


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
        inputs: folders `dataset` and `model`, `adapter` where the spec names one to score with, and `extends` where it
            names an earlier scoring.
        out: exists and is empty; gets distribution.safetensors, discrepancy.json, scores.parquet, scoring.json,
            the data set's own files as hard links and, unless the head is soft-capped, projection.safetensors and
            hidden.npy.
        checkpoints: not used.
        report: told phases and progress; may ask to stop.

    Raises:
        InvalidInput: no rows, rows without tokens, an adapter of another base, or an earlier scoring of another model
            or other settings.
        ModelNotUsable: the model, its head or its tokenizer is not supported, or the adapter does not fit it.
        ReviewNeeded: Q_diff may be noise, the gate is `pause`, and nobody has accepted it; no model was loaded.
        Interrupted: the report asked to stop.
    """
    seconds: dict[str, float] = {}
    tokenizer = load_tokenizer(inputs["model"])
    distribution = _count(spec, inputs, tokenizer, out, report, seconds)
    rows = chosen_rows(inputs["dataset"], spec.rows)
    run = _score(spec, rows, distribution, inputs, tokenizer, out, report, seconds)
    return finish(out, inputs["dataset"], run, shards=1)


def run_score_count(
    spec: ScoreCountSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,  # noqa: ARG001 -- every operation has it
    report: Report,
) -> dict[str, Any]:
    """Count for all shards of a scoring: write distribution.safetensors, discrepancy.json and count.json into *out*.

    Raises:
        InvalidInput, ModelNotUsable, ReviewNeeded, Interrupted: as `run_score`; no model is loaded.
    """
    seconds: dict[str, float] = {}
    _count(spec.score, inputs, load_tokenizer(inputs["model"]), out, report, seconds)
    summary = {"seconds": seconds}
    (out / "count.json").write_text(json.dumps(summary), encoding="utf-8")
    return summary


def run_score_shard(
    spec: ScoreShardSpec,
    *,
    inputs: Mapping[str, Path],
    out: Path,
    checkpoints: Path | None,  # noqa: ARG001 -- every operation has it
    report: Report,
) -> dict[str, Any]:
    """Score a range of a scoring's rows by the Q_diff in `counted`.

    Writes scores.parquet, run.json and, unless the head is soft-capped, projection.safetensors and hidden.npy.

    Raises:
        InvalidInput, ModelNotUsable, Interrupted: as `run_score`.
    """
    seconds: dict[str, float] = {}
    rows = chosen_rows(inputs["dataset"], spec.score.rows)[spec.start : spec.stop]
    distribution = distributions.load(inputs["counted"] / DISTRIBUTION)
    tokenizer = load_tokenizer(inputs["model"])
    distributions.require_same_tokenizer(distribution, tokenizer)  # it may have changed since the rows were counted
    run = _score(spec.score, rows, distribution, inputs, tokenizer, out, report, seconds)
    write_run(out, run)
    return {"rows_scored": len(rows), "seconds": seconds}


def _count(
    spec: ScoreSpec,
    inputs: Mapping[str, Path],
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    report: Report,
    seconds: dict[str, float],
) -> Distribution:
    """Count Q_diff and write it to *out* with the report on it; stop for a person to look where the gate says so."""
    with phase("count", report, seconds):
        size = check_settings(inputs["model"], tokenizer, spec.tokens)
        counted = count_rows(inputs["dataset"], spec.count_rows, tokenizer, spec.tokens, size, report=report)
        told = report_on(counted.parts(spec.aspects), tokenizer, spec.gate)
        write_report(told, out)
        distribution = counted.distribution(size, spec.aspects)
        distributions.save(out / DISTRIBUTION, distribution)
    require_review(told, report.accepted)
    return distribution


def _score(
    spec: ScoreSpec,
    rows: Sequence[int],
    distribution: Distribution,
    inputs: Mapping[str, Path],
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    report: Report,
    seconds: dict[str, float],
) -> Run:
    """Load the model, with its adapter where there is one, and score *rows* by *distribution*; say how."""
    with phase("load_model", report, seconds), ThreadPoolExecutor(1) as hasher:
        size = check_settings(inputs["model"], tokenizer, spec.tokens)
        if len(tokenizer) > size:
            require_known_tokens(inputs["dataset"], rows, tokenizer, spec.tokens, size)
        weights = hasher.submit(weights_hash, inputs["model"])  # a second a gigabyte: beside the loading
        adapter = None if spec.adapter is None else inputs["adapter"]
        if spec.extends is not None:  # no model is loaded for a scoring that cannot be extended
            _require_extendable(spec, inputs, start_of(weights.result(), adapter), distribution)
        base = load_base(inputs["model"], precision=spec.precision, quantisation=spec.quantisation)
        head = head_of(base)
        projection = projection_of(head, distribution) if head.softcap is None else None
        if projection is not None:
            projections.save(out, projection)
        start = start_of(weights.result(), adapter)
        model = base if adapter is None else load_policy(base, adapter)
    facts = {**asdict(start), "config_hash": config_hash(inputs["model"]), "dtype": numbers_of(base, head.weight.dtype)}
    with phase("score", report, seconds):
        scorer = Scorer(model, direction_of(head, distribution.q_diff), None, None, report)
        work = Work(scorer, tokenizer, spec.tokens, size)
        if spec.extends is not None:
            states = open_states(inputs["extends"], {**distribution.facts, **facts})
            work.earlier = Earlier(states, projection, distribution)
        score_rows(work, rows, inputs["dataset"], out)
    return Run(
        architecture=type(base).__name__,
        head=head.kind,
        width=int(scorer.direction.u.shape[0]),
        is_prompt_shared=scorer.is_shared,
        attention=attention_of(model),
        rows_reused=work.reused,
        passes_halved=scorer.halvings,
        seconds=seconds,
        **facts,
    )


def _require_extendable(spec: ScoreSpec, inputs: Mapping[str, Path], start: Start, distribution: Distribution) -> None:
    """Refuse the scoring to extend where it was made with other settings, as far as they are known by now."""
    dtype = str(dtype_of(spec.precision, default_device())).removeprefix("torch.")
    known = {name: distribution.facts.get(name) for name in ("tokenizer_sha256", "options")}
    known |= {"config_hash": config_hash(inputs["model"]), "dtype": numbers_named(dtype, spec.quantisation)}
    require_extendable(inputs["extends"], {**asdict(start), **known})
