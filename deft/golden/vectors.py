"""The golden vectors as one JSON document: the inputs, then a section a formula, each with shapes and tolerance.

Knows `inputs` and `reference`, no file and nothing else of this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft.golden import inputs, training
from deft.golden import reference as naive
from deft.golden.layout import Json, rounded, section
from deft.golden.reference import Array

FORMAT = 1
SAYS = (
    "Golden vectors of DEFT (differential distribution reward): E examples, N responses of one, best first, "
    "T response positions, V vocabulary, D hidden width; natural logarithms; `tolerance` is the largest absolute "
    "difference that an implementation should show, by its precision; integers and lists of rows must be equal."
)
SELECTIONS: list[dict[str, Any]] = [
    {"end": "lowest", "by": "chosen"},
    {"end": "highest", "by": "chosen"},
    {"end": "lowest", "by": "margin"},
    {"end": "lowest", "by": "rejected"},
    {"end": "lowest", "by": "length_adjusted"},
    {"end": "length", "by": "chosen"},
    {"end": "random", "by": "chosen"},
]
KEEP, SEED = 0.25, 7
WEIGHTS = {"helpful": 1.5, "harmless": 0.5}
COUNTED = [(0.07, 100), (0.05, 160_000), (0.05, 1), (0.29, 100), (0.1, 3), (1.0, 10)]


def document() -> Json:
    """Compute the whole document: inputs, counts and Q_diff exactly, all that follows with 12 significant digits."""
    weights = inputs.values_of(inputs.model_tensors())
    policy = naive.with_adapter(
        weights, inputs.values_of(inputs.lora_tensors()), inputs.LORA["r"], inputs.LORA["alpha"]
    )
    tokens = [_tokens(example) for example in inputs.EXAMPLES]
    distribution = _distribution(tokens)
    q_diff = np.array(distribution["values"]["q_diff"])
    scores = _scores(weights, tokens, q_diff)
    sections = {
        "scores": scores,
        "heads": _heads(weights, q_diff),
        "selection": _selection(scores["values"]),
        "aspects": _aspects(weights, tokens),
        "losses": training.losses(weights, policy, tokens, q_diff),
        "omega": training.omega(weights, tokens, q_diff),
    }
    head = {"format": FORMAT, "says": SAYS}
    return {**head, **inputs.sections(tokens), "distribution": distribution, **rounded(sections)}


def _tokens(example: Mapping[str, Any]) -> Json:
    limits = inputs.TOKENS["max_prompt_tokens"], inputs.TOKENS["max_total_tokens"]
    return naive.tokenize(example, inputs.vocabulary(), *limits)


def _distribution(tokens: Sequence[Json]) -> Json:
    chosen, rejected = _counts([example["response_ids"] for example in tokens])
    q_diff = naive.q_difference(chosen, rejected)
    values = {
        "count_chosen": chosen.tolist(),
        "count_rejected": rejected.tolist(),
        "q_diff": q_diff.tolist(),
        "l1": float(np.abs(q_diff).sum()),
    }
    shapes = {"count_chosen": "[V]", "count_rejected": "[V]", "q_diff": "[V]", "l1": "[]"}
    says = "over all rows; the first response counts as chosen, all others as rejected; specials are left out"
    return section("M1-M3", says, shapes, 1e-12, values)


def _counts(responses: Sequence[Sequence[Sequence[int]]]) -> tuple[Any, Any]:
    return naive.counts(responses, inputs.CONFIG["vocab_size"], list(range(len(inputs.SPECIALS))))


def _scores(weights: naive.Weights, tokens: Sequence[Json], q_diff: Array) -> Json:
    """M4-M5 of every response under the base model."""
    head, rows = weights["lm_head.weight"], []
    for row, index, prompt, response in _responses(tokens):
        states = naive.predicting_states(weights, inputs.CONFIG, prompt, response)
        logits = naive.head_logits(states, head)
        entry = {"row": row, "response": index, "tokens": len(response), "mean_hidden": states.mean(0).tolist()}
        entry["lbar"] = naive.mean_log_distribution(logits).tolist()
        entry["r_d"] = naive.reward(logits, q_diff)
        entry["r_d_without_logits"] = float(q_diff @ head @ states.mean(0))
        rows.append(entry)
    says = "T counts the response's own tokens after truncation, specials in it included, the end token not"
    says += "; u = W^T Q_diff, and r_d_without_logits = u . mean_hidden is the same number"
    shapes = {"u": "[D]", "mean_hidden": "[D]", "lbar": "[V]", "r_d": "[]", "r_d_without_logits": "[]"}
    return section("M4-M5", says, shapes, 1e-5, {"u": (q_diff @ head).tolist(), "responses": rows})


def _responses(tokens: Sequence[Json]) -> list[tuple[int, int, list[int], list[int]]]:
    return [
        (row, index, example["prompt_ids"], ids)
        for row, example in enumerate(tokens)
        for index, ids in enumerate(example["response_ids"])
    ]


def _heads(weights: naive.Weights, q_diff: Array) -> Json:
    """R_d and its gradient by the hidden states, under every kind of head."""
    tensors = inputs.head_tensors()
    made = {name: inputs.values_of([tensor])[name] for name, tensor in tensors.items()}
    kinds: Json = {
        "plain": {},
        "bias": {"bias": made["bias"]},
        "scaled": {"scale": 0.0625},
        "bias_scaled": {"bias": made["bias"], "scale": 3.0},
        "softcap": {"softcap": 2.0},
    }
    values = []
    for kind, settings in kinds.items():

        def reward(hidden: Array, settings: Json = settings) -> float:
            return naive.reward(naive.head_logits(hidden, weights["lm_head.weight"], **settings), q_diff)

        shown = {name: value for name, value in settings.items() if name != "bias"}
        entry = {"kind": kind, **shown, "has_bias": "bias" in settings, "r_d": reward(made["hidden"])}
        values.append({**entry, "gradient": naive.derivative(reward, made["hidden"]).tolist()})
    says = "logits = softcap(scale * (W h + b)) of 3 given hidden states under the model's lm_head; d R_d / d h"
    given = {name: inputs.with_values(tensor) for name, tensor in tensors.items()}
    made_section = section("M5", says, {"r_d": "[]", "gradient": "[3, D]"}, 1e-5, {**given, "kinds": values})
    made_section["tolerance"]["float64"] = 1e-8  # central differences
    return made_section


def _selection(scores: Json) -> Json:
    """M6 for several ends."""
    by_row: dict[int, list[Json]] = {}
    for entry in scores["responses"]:
        by_row.setdefault(entry["row"], []).append(entry)
    measures = {
        "chosen": [first["r_d"] for first, *_ in by_row.values()],
        "rejected": [float(np.mean([entry["r_d"] for entry in others])) for _, *others in by_row.values()],
        "tokens": [float(first["tokens"]) for first, *_ in by_row.values()],
    }
    measures["margin"] = [c - r for c, r in zip(measures["chosen"], measures["rejected"], strict=True)]
    measures["length_adjusted"] = naive.residuals(measures["tokens"], measures["chosen"])
    kept = naive.kept_count(KEEP, len(by_row))
    values = []
    for selection in SELECTIONS:
        ranks = _ranks(selection, measures)
        entry = {**selection, "keep": KEEP, "seed": SEED, "ranks": ranks}
        values.append({**entry, "kept_rows": [row for row, rank in enumerate(ranks) if rank <= kept]})
    counted = [{"keep": f, "examples": e, "kept": naive.kept_count(f, e)} for f, e in COUNTED]
    says = "of the scores above; ranks from 1, ties to the lower row; rejected is the mean over a row's rejected "
    says += (
        "responses; length_adjusted is R_d of chosen less its least-squares line over T; length: the most tokens of "
    )
    says += "the chosen response first; random: rows by SHA-256 of `deft selection SEED ROW`"
    shapes = {"ranks": "[E]", "kept_rows": "[k]"}
    return section("M6", says, shapes, 0, {"selections": values, "kept_counts": counted})


def _aspects(weights: naive.Weights, tokens: Sequence[Json]) -> Json:
    """M12: Q_diff of each aspect by its own rows, their weighted sum, and R_d by that sum."""
    names = [example["aspect"] for example in inputs.EXAMPLES]
    q_diffs = {}
    for aspect in WEIGHTS:
        own = [example["response_ids"] for example, name in zip(tokens, names, strict=True) if name == aspect]
        q_diffs[aspect] = naive.q_difference(*_counts(own))
    mixed = sum((weight * q_diffs[aspect] for aspect, weight in WEIGHTS.items()), np.zeros(inputs.CONFIG["vocab_size"]))
    states = [naive.predicting_states(weights, inputs.CONFIG, p, r) for _, _, p, r in _responses(tokens)]
    head = weights["lm_head.weight"]
    r_d = [naive.reward(naive.head_logits(own, head), mixed) for own in states]
    says = (
        "Q_diff of the rows of each aspect, normalised by their own tokens; mixed is their sum by weights; r_d is M5 "
    )
    says += "by mixed, of every response in the order of scores"
    shapes = {"q_diff": "[V] by aspect", "mixed": "[V]", "r_d": "[responses]"}
    by_aspect = {aspect: q_diff.tolist() for aspect, q_diff in q_diffs.items()}
    return section(
        "M12", says, shapes, 1e-5, {"weights": WEIGHTS, "q_diff": by_aspect, "mixed": mixed.tolist(), "r_d": r_d}
    )


def _ranks(selection: Json, measures: Mapping[str, Sequence[float]]) -> list[int]:
    if selection["end"] == "random":
        return naive.random_ranks(len(measures["chosen"]), SEED)
    name = "tokens" if selection["end"] == "length" else selection["by"]
    return naive.ranks(measures[name], highest=selection["end"] != "lowest")
