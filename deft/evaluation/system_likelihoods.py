"""Every system's likelihoods of an evaluation's rows: those that are kept of earlier evaluations, or computed now.

Knows a run and its systems; how likelihoods are computed is in `deft.evaluation.likelihoods`.
"""

import hashlib
from dataclasses import replace

import torch

from deft.evaluation.files import Part
from deft.evaluation.general_text import measure_texts
from deft.evaluation.held_out import HeldOut
from deft.evaluation.likelihoods import Pass, score_pairs
from deft.evaluation.metrics import PairScores
from deft.evaluation.state import Run, who_is
from deft.models.arithmetic import arithmetic_of
from deft.models.fit import judges_pairs


def base_facts(run: Run, base_hash: str) -> dict[str, str]:
    """Return what everything that is computed of *run* depends on: the base, and how it computes here."""
    base, device = run.resident.base, run.how.head.weight.device
    threads = str(torch.get_num_threads()) if device.type == "cpu" else ""
    return {"base": base_hash, **arithmetic_of(base, device), "threads": threads}


def pass_facts(how: Pass) -> dict[str, str]:
    """Return what likelihoods depend on besides: how passes are made."""
    layout = "shared" if how.shares_prompts else "separate"
    return {"layout": layout, "tokens": str(how.token_budget), "end": str(how.end_id)}


def likelihoods(run: Run) -> list[PairScores]:
    """Score the held-out pairs under every system, the base first."""
    if not judges_pairs(run.spec):
        return []
    run.report.phase("likelihoods")
    found = []
    for index in range(len(run.systems)):
        scores, is_kept = _scored(run, index, run.pairs, "pairs")
        run.reused.pairs += len(run.pairs.rows) * is_kept
        found.append(scores)
    return found


def text_measurements(run: Run) -> list[Part]:
    """Measure every system on the general text, where there is one."""
    if run.texts is None or "perplexity" not in run.spec.options.metrics:
        return []
    run.report.phase("general_text")
    found = []
    for index, adapter in enumerate(run.systems):
        scores, is_kept = _scored(run, index, run.texts, "texts")
        run.reused.texts += len(run.texts.rows) * is_kept
        found.append(measure_texts(who_is(adapter), scores, run.texts))
    return [(run.texts, found)]


def _scored(run: Run, index: int, rows: HeldOut, unit: str) -> tuple[PairScores, bool]:
    """Return the scores of *rows* under one system, and whether they were kept; its model is gone then."""
    adapter, on_progress = run.systems[index], run.progress(index, len(rows.rows), unit)
    q_diff = run.q_diff if unit == "pairs" else None
    direction = "" if q_diff is None else hashlib.sha256(q_diff.tobytes()).hexdigest()
    context = run.likelihoods.context("" if adapter is None else adapter.files_hash, rows.tokenized, direction)
    kept = run.likelihoods.take(context)
    if kept is not None:
        on_progress(len(rows.rows))
        return kept, True
    halvings: list[int] = []
    with run.resident.system(adapter) as model:
        how = _heard(run.how_of(adapter, model), halvings)
        how = how if q_diff is not None else replace(how, direction=None)
        scores = score_pairs(model, rows.tokenized, how, on_progress)
    if not halvings:
        _keep(run, context, scores)
    return scores, False


def _heard(how: Pass, halvings: list[int]) -> Pass:
    """Return *how* that also puts down its *halvings*: passes of another size end in other digits."""

    def on_halving(examples: int) -> None:
        halvings.append(examples)
        how.on_halving(examples)

    return replace(how, on_halving=on_halving)


def _keep(run: Run, context: dict[str, str], scores: PairScores) -> None:
    try:
        run.likelihoods.put(context, scores)
    except OSError as error:
        run.report.note(f"likelihoods were not kept for other evaluations: {error.strerror}")
