"""The golden vectors as one JSON document: the inputs, then a section a formula, each with shapes and tolerance.

Knows `inputs` and `reference`, no file and nothing else of this project.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft.golden import inputs
from deft.golden import reference as naive
from deft.golden.reference import Array

FORMAT = 1
SAYS = (
    "Golden vectors of DEFT (differential distribution reward): E examples, N responses of one, best first, T response "
)
SAYS += (
    "positions, V vocabulary, D hidden width; natural logarithms; `tolerance` is the largest absolute difference that "
)
SAYS += "an implementation should show, by its precision; integers and lists of rows must be equal."
FLOAT64 = 1e-9
"""Largest difference that an implementation in float64 should show, absolute."""

OMEGA = 0.5
BETA = 0.1
PRO_WEIGHT = 0.05
ROW_WEIGHTS = [1.0, 0.5, 1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 0.25, 1.0]
SHARE = 0.1
BATCHES = [[0, 1, 2], [7, 8, 9]]
SELECTIONS: list[dict[str, Any]] = [
    {"end": "lowest", "by": "chosen"},
    {"end": "highest", "by": "chosen"},
    {"end": "lowest", "by": "margin"},
    {"end": "lowest", "by": "rejected"},
    {"end": "length", "by": "chosen"},
    {"end": "random", "by": "chosen"},
]
KEEP, SEED = 0.25, 7
COUNTED = [(0.07, 100), (0.05, 160_000), (0.05, 1), (0.29, 100), (0.1, 3), (1.0, 10)]

Json = dict[str, Any]


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
        "losses": _losses(weights, policy, tokens, q_diff),
        "omega": _omega(weights, tokens, q_diff),
    }
    head = {"format": FORMAT, "says": SAYS}
    return {**head, **inputs.sections(tokens), "distribution": distribution, **_rounded(sections)}


def _tokens(example: Mapping[str, Any]) -> Json:
    limits = inputs.TOKENS["max_prompt_tokens"], inputs.TOKENS["max_total_tokens"]
    return naive.tokenize(example, inputs.vocabulary(), *limits)


def _distribution(tokens: Sequence[Json]) -> Json:
    specials = range(len(inputs.SPECIALS))
    chosen, rejected = naive.counts([t["response_ids"] for t in tokens], inputs.CONFIG["vocab_size"], list(specials))
    q_diff = naive.q_difference(chosen, rejected)
    values = {
        "count_chosen": chosen.tolist(),
        "count_rejected": rejected.tolist(),
        "q_diff": q_diff.tolist(),
        "l1": float(np.abs(q_diff).sum()),
    }
    shapes = {"count_chosen": "[V]", "count_rejected": "[V]", "q_diff": "[V]", "l1": "[]"}
    says = "over all rows; the first response counts as chosen, all others as rejected; specials are left out"
    return _section("M1-M3", says, shapes, 1e-12, values)


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
    return _section("M4-M5", says, shapes, 1e-5, {"u": (q_diff @ head).tolist(), "responses": rows})


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
    section = _section("M5", says, {"r_d": "[]", "gradient": "[3, D]"}, 1e-5, {**given, "kinds": values})
    section["tolerance"]["float64"] = 1e-8  # central differences
    return section


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
    kept = naive.kept_count(KEEP, len(by_row))
    values = []
    for selection in SELECTIONS:
        ranks = _ranks(selection, measures)
        entry = {**selection, "keep": KEEP, "seed": SEED, "ranks": ranks}
        values.append({**entry, "kept_rows": [row for row, rank in enumerate(ranks) if rank <= kept]})
    counted = [{"keep": f, "examples": e, "kept": naive.kept_count(f, e)} for f, e in COUNTED]
    says = "of the scores above; ranks from 1, ties to the lower row; rejected is the mean over a row's rejected "
    says += "responses; length: the most tokens of the chosen response first; random: rows by SHA-256 of "
    says += "`deft selection SEED ROW`"
    shapes = {"ranks": "[E]", "kept_rows": "[k]"}
    return _section("M6", says, shapes, 0, {"selections": values, "kept_counts": counted})


def _ranks(selection: Json, measures: Mapping[str, Sequence[float]]) -> list[int]:
    if selection["end"] == "random":
        return naive.random_ranks(len(measures["chosen"]), SEED)
    name = "tokens" if selection["end"] == "length" else selection["by"]
    return naive.ranks(measures[name], highest=selection["end"] != "lowest")


def _targets(example: Json, index: int) -> list[int]:
    """Return what a loss predicts of a response: its tokens, and the end token unless it was cut."""
    end = [] if example["is_cut"][index] else [inputs.CONFIG["eos_token_id"]]
    return [*example["response_ids"][index], *end]


def _logps(weights: naive.Weights, example: Json) -> list[float]:
    """Return the summed log-probabilities of every response of *example*."""
    prompt, count = example["prompt_ids"], len(example["response_ids"])
    targets = [_targets(example, index) for index in range(count)]
    return [float(naive.target_logps(weights, inputs.CONFIG, prompt, ids).sum()) for ids in targets]


def _reward_of_first(weights: naive.Weights, example: Json, q_diff: Array) -> float:
    states = naive.predicting_states(weights, inputs.CONFIG, example["prompt_ids"], example["response_ids"][0])
    return naive.reward(naive.head_logits(states, weights["lm_head.weight"]), q_diff)


def _losses(weights: naive.Weights, policy: naive.Weights, tokens: Sequence[Json], q_diff: Array) -> Json:
    """M7, SFT, M8 and M9 of every row under the policy; the base is the reference."""
    rows = []
    for example, given in zip(tokens, inputs.EXAMPLES, strict=True):
        logps, reference = _logps(policy, example), _logps(weights, example)
        row = _row_losses(logps, reference, example, given.get("rewards"))
        rows.append({**row, "r_d": _reward_of_first(policy, example, q_diff)})
    says = "one step over all rows; logps are sums over positions, the end token of a response that was not cut among "
    says += "them; dpo takes the first and the last response; pro takes all, with rank gaps of 1 where a row has no "
    says += (
        "rewards; sft is the sum over the tokens of first responses / their number; r_d is M5 of the first response, "
    )
    says += "end token not counted, under the policy; *_with_term is the loss - omega * the mean r_d; in weighted_step "
    says += "every mean over rows and tokens is one with row_weights"
    shapes = dict.fromkeys(("logps", "reference_logps", "positions", "rewards"), "[N]") | {"row_weights": "[E]"}
    values = {"beta": BETA, "pro_weight": PRO_WEIGHT, "omega": OMEGA, "row_weights": ROW_WEIGHTS, "rows": rows}
    values |= {"step": _step(rows, [1.0] * len(rows)), "weighted_step": _step(rows, ROW_WEIGHTS)}
    return _section("M7-M9", says, shapes, 1e-4, values)


def _step(rows: Sequence[Json], weights: Sequence[float]) -> Json:
    """Return the losses of a step over *rows*: means by *weights*, SFT over tokens."""
    step = {name: float(np.average([row[name] for row in rows], weights=weights)) for name in ("dpo", "pro", "r_d")}
    weighed = list(zip(rows, weights, strict=True))
    tokens = sum(weight * row["positions"][0] for row, weight in weighed)
    step["sft"] = -sum(weight * row["logps"][0] for row, weight in weighed) / tokens
    return step | {f"{name}_with_term": step[name] - OMEGA * step["r_d"] for name in ("dpo", "sft", "pro")}


def _row_losses(
    logps: Sequence[float], reference: Sequence[float], example: Json, rewards: Sequence[float] | None
) -> Json:
    positions = [len(_targets(example, index)) for index in range(len(logps))]
    rewards = rewards or [float(len(logps) - 1 - index) for index in range(len(logps))]
    return {
        "logps": logps,
        "reference_logps": reference,
        "positions": positions,
        "rewards": rewards,
        "dpo": naive.dpo_loss(_ends(logps), _ends(reference), BETA),
        "pro": naive.pro_loss(logps, positions, rewards, PRO_WEIGHT),
    }


def _omega(weights: naive.Weights, tokens: Sequence[Json], q_diff: Array) -> Json:
    """M10 for DPO with the adapter's A and B = 0, where only B has a gradient."""
    adapter = inputs.values_of(inputs.lora_tensors())
    names = [name for name in adapter if name.endswith("lora_B.weight")]
    adapter |= {name: np.zeros_like(adapter[name]) for name in names}
    base = term = 0.0
    for name in names:
        by_dpo, by_r_d = _gradients(weights, adapter, name, tokens, q_diff)
        base, term = base + float((by_dpo**2).sum()), term + float((by_r_d**2).sum())
    values = {
        "batches": BATCHES,
        "share": SHARE,
        "omega": SHARE * math.sqrt(base / term),
        "base_gradient_norm": math.sqrt(base),
        "term_gradient_norm": math.sqrt(term),
    }
    says = "norms of the mean gradients, over these batches and all B of the adapter, of the DPO loss (beta as above) "
    says += "and of the mean R_d of the first responses, where B = 0; omega = share * the first / the second"
    section = _section("M10", says, {}, 1e-4, values)
    section["tolerance"]["float64"] = 1e-7  # central differences
    return section


def _gradients(
    weights: naive.Weights, adapter: dict[str, Array], name: str, tokens: Sequence[Json], q_diff: Array
) -> tuple[Array, Array]:
    """Return the mean gradients over `BATCHES` of the DPO loss and of R_d by the matrix *name* of the adapter."""
    rows = [tokens[row] for batch in BATCHES for row in batch]
    reference = [_ends(_logps(weights, row)) for row in rows]

    def policy(matrix: Array) -> dict[str, Array]:
        return naive.with_adapter(weights, {**adapter, name: matrix}, inputs.LORA["r"], inputs.LORA["alpha"])

    def dpo(matrix: Array) -> float:
        moved = policy(matrix)
        pairs = zip(rows, reference, strict=True)
        return float(np.mean([naive.dpo_loss(_ends(_logps(moved, row)), before, BETA) for row, before in pairs]))

    def r_d(matrix: Array) -> float:
        moved = policy(matrix)
        return float(np.mean([_reward_of_first(moved, row, q_diff) for row in rows]))

    return naive.derivative(dpo, adapter[name]), naive.derivative(r_d, adapter[name])


def _ends(values: Sequence[float]) -> list[float]:
    """Return what DPO takes of a list: the first and the last."""
    return [values[0], values[-1]]


def _section(formula: str, says: str, shapes: Mapping[str, str], float32: float, values: Json) -> Json:
    tolerance = {"float32": float32, "float64": min(FLOAT64, float32)}
    return {"formula": formula, "says": says, "shapes": dict(shapes), "tolerance": tolerance, "values": values}


def _rounded(value: Any) -> Any:  # noqa: ANN401 -- any JSON
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
