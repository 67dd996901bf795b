"""The sections of the golden vectors on training: losses (M7-M9) and the calibration of omega (M10)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deft.golden import inputs
from deft.golden import reference as naive
from deft.golden.layout import Json, section
from deft.golden.reference import Array

OMEGA = 0.5
BETA = 0.1
PRO_WEIGHT = 0.05
ROW_WEIGHTS = [1.0, 0.5, 1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 0.25, 1.0]
SHARE = 0.1
BATCHES = [[0, 1, 2], [7, 8, 9]]


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


def losses(weights: naive.Weights, policy: naive.Weights, tokens: Sequence[Json], q_diff: Array) -> Json:
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
    return section("M7-M9", says, shapes, 1e-4, values)


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


def omega(weights: naive.Weights, tokens: Sequence[Json], q_diff: Array) -> Json:
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
    made = section("M10", says, {}, 1e-4, values)
    made["tolerance"]["float64"] = 1e-7  # central differences
    return made


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
