"""The method once more, naively: numpy, float64, full logits, one sequence at a time. It imports nothing else.

Written to be read beside docs/method.md and to be slow: every shortcut of the package (no logits, shared prompts,
chunks, gradients by hand) is absent here, so that agreement of the two says something. Shape letters: T response
positions, V vocabulary, D hidden width. Log-probabilities are in nats.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]


# Tokens


def encode(text: str, vocabulary: Sequence[str]) -> list[int]:
    """Return the ids of *text*: a special where one is written, else one token a character."""
    specials = "|".join(re.escape(token) for token in vocabulary if len(token) > 1)
    return [vocabulary.index(token) for token in re.findall(f"{specials}|.", text, re.DOTALL)]


def tokenize(
    example: Mapping[str, Any], vocabulary: Sequence[str], max_prompt_tokens: int, max_total_tokens: int
) -> dict[str, Any]:
    """Return `prompt_ids`, `response_ids` and `is_cut` of *example*.

    A transcript is a prompt that ends in `Assistant:`; its responses get one leading space. Prompt and response are
    tokenised apart. <s> stands before the prompt and survives its cut on the left; a response is cut on the right.
    """
    is_transcript = example["prompt"].endswith("Assistant:")
    texts = [" " + text.strip() if is_transcript else text for text in example["responses"]]
    prompt = encode(example["prompt"], vocabulary)
    begin = vocabulary.index("<s>")
    prompt_ids = [begin, *prompt[max(0, len(prompt) - (max_prompt_tokens - 1)) :]]
    room = max_total_tokens - len(prompt_ids)
    whole = [encode(text, vocabulary) for text in texts]
    return {
        "prompt_ids": prompt_ids,
        "response_ids": [ids[:room] for ids in whole],
        "is_cut": [len(ids) > room for ids in whole],
    }


# The distribution


def counts(responses: Sequence[Sequence[Sequence[int]]], size: int, specials: Sequence[int]) -> tuple[Any, Any]:
    """M1, M2: how often each token stands in the first responses and in all the others, without specials: [V] each."""
    chosen, rejected = [0] * size, [0] * size
    for first, *others in responses:
        for token in first:
            chosen[token] += token not in specials
        for token in (token for ids in others for token in ids):
            rejected[token] += token not in specials
    return np.array(chosen), np.array(rejected)


def q_difference(chosen: Any, rejected: Any) -> Array:  # noqa: ANN401 -- integer vectors
    """M3: Q_diff = Q+ - Q-, [V], which sums to 0."""
    q_diff: Array = chosen / chosen.sum() - rejected / rejected.sum()
    return q_diff


# The model


def with_adapter(weights: Weights, adapter: Weights, rank: int, alpha: float) -> dict[str, Array]:
    """Return the weights with the adapter merged into them: W + alpha / r * B A."""
    merged = dict(weights)
    for name in adapter:
        if name.endswith("lora_A.weight"):
            base = name.replace("lora_A.weight", "weight")
            merged[base] = weights[base] + alpha / rank * adapter[name.replace("lora_A", "lora_B")] @ adapter[name]
    return merged


def hidden_states(weights: Weights, config: Mapping[str, Any], ids: Sequence[int]) -> Array:
    """Return the states after the final norm, [len(ids), D], of a Llama."""
    x = weights["model.embed_tokens.weight"][list(ids)]
    eps = config["rms_norm_eps"]
    for layer in range(config["num_hidden_layers"]):
        own = {name.split(".", 3)[3]: w for name, w in weights.items() if name.startswith(f"model.layers.{layer}.")}
        x = x + _attention(_norm(x, own["input_layernorm.weight"], eps), own, config)
        y = _norm(x, own["post_attention_layernorm.weight"], eps)
        gate = y @ own["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
    return _norm(x, weights["model.norm.weight"], eps)


def _norm(x: Array, weight: Array, eps: float) -> Array:
    normed: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight
    return normed


def _attention(x: Array, own: Weights, config: Mapping[str, Any]) -> Array:
    """Causal attention with grouped keys and values: query head i reads key head i // (heads / key heads)."""
    heads, size = config["num_attention_heads"], config["head_dim"]
    shared = heads // config["num_key_value_heads"]
    q, k, v = (x @ own[f"self_attn.{name}_proj.weight"].T for name in "qkv")
    allowed = np.tril(np.ones((len(x), len(x)), dtype=bool))
    outputs = []
    for head in range(heads):
        mine, theirs = slice(head * size, (head + 1) * size), slice(head // shared * size, (head // shared + 1) * size)
        query, key = (_rotated(a, config["rope_theta"]) for a in (q[:, mine], k[:, theirs]))
        scores = np.where(allowed, query @ key.T / math.sqrt(size), -np.inf)
        outputs.append(np.exp(log_softmax(scores)) @ v[:, theirs])
    return np.concatenate(outputs, axis=1) @ own["self_attn.o_proj.weight"].T


def _rotated(x: Array, theta: float) -> Array:
    """Rotary positions: elements i and i + size / 2 turn by position * theta^(-2 i / size)."""
    positions, size = np.arange(len(x))[:, None], x.shape[1]
    angle = positions * theta ** (-np.arange(0, size, 2) / size)
    first, second = x[:, : size // 2], x[:, size // 2 :]
    turned = (first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle))
    return np.concatenate(turned, axis=1)


def log_softmax(x: Array) -> Array:
    """Log-softmax over the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logs


def head_logits(
    hidden: Array, weight: Array, bias: Array | None = None, scale: float = 1.0, softcap: float | None = None
) -> Array:
    """Logits [T, V] = softcap(scale * (W h + b)), softcap(z) = c * tanh(z / c)."""
    logits = hidden @ weight.T * scale if bias is None else (hidden @ weight.T + bias) * scale
    return logits if softcap is None else softcap * np.tanh(logits / softcap)


# The distribution reward


def predicting_states(
    weights: Weights, config: Mapping[str, Any], prompt_ids: Sequence[int], response_ids: Sequence[int]
) -> Array:
    """Return h_t [T, D]: the states at the positions that predict response tokens 1..T."""
    states = hidden_states(weights, config, [*prompt_ids, *response_ids])
    return states[len(prompt_ids) - 1 : -1]


def mean_log_distribution(logits: Array) -> Array:
    """M4: lbar [V], the mean over response positions of the log-probabilities of the whole vocabulary."""
    lbar: Array = log_softmax(logits).mean(0)
    return lbar


def reward(logits: Array, q_diff: Array) -> float:
    """M5: R_d = sum_v Q_diff[v] * lbar[v], from the logits [T, V] at the positions that predict the response."""
    return float(q_diff @ mean_log_distribution(logits))


def derivative(function: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Return the gradient of *function* by central differences: (f(x + s) - f(x - s)) / 2 s for every element of x."""
    gradient = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        gradient[index] = (function(at + moved) - function(at - moved)) / (2 * step)
    return gradient


# Selection


def kept_count(fraction: float, examples: int) -> int:
    """M6: k = ceil(f * E), by the decimal text of f."""
    return int((Decimal(str(fraction)) * examples).to_integral_value(ROUND_CEILING))


def ranks(values: Sequence[float], *, highest: bool) -> list[int]:
    """Return the rank of every row, 1 is the first to be kept; a tie goes to the lower row."""
    order = sorted(range(len(values)), key=lambda row: (-values[row] if highest else values[row], row))
    return [order.index(row) + 1 for row in range(len(values))]


def residuals(lengths: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return *values* less their least-squares line over *lengths*."""
    x = np.stack([np.ones(len(lengths)), np.array(lengths)], axis=1)
    line = np.linalg.lstsq(x, np.array(values), rcond=None)[0]
    found: list[float] = (np.array(values) - x @ line).tolist()
    return found


def random_ranks(rows: int, seed: int) -> list[int]:
    """Return the ranks of the random end: rows in the order of SHA-256 of `deft selection SEED ROW`."""
    order = sorted(range(rows), key=lambda row: hashlib.sha256(f"deft selection {seed} {row}".encode()).digest())
    return [order.index(row) + 1 for row in range(rows)]


# Losses


def target_logps(
    weights: Weights, config: Mapping[str, Any], prompt_ids: Sequence[int], target_ids: Sequence[int]
) -> Array:
    """Return log p of every target token [T]; a loss appends the end token to the targets of a response that ends."""
    states = predicting_states(weights, config, prompt_ids, target_ids)
    logs = log_softmax(head_logits(states, weights["lm_head.weight"]))
    return logs[np.arange(len(target_ids)), list(target_ids)]


def dpo_loss(policy: Sequence[float], reference: Sequence[float], beta: float) -> float:
    """M7 of one example, from the summed log-probabilities (chosen, rejected) under policy and reference."""
    margin = beta * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    return math.log1p(math.exp(-margin))


def pro_loss(logps: Sequence[float], positions: Sequence[int], rewards: Sequence[float], weight: float) -> float:
    """M8 of one example, from the summed log-probabilities and the number of positions of its N responses."""
    s = [logp / number for logp, number in zip(logps, positions, strict=True)]
    total, size = 0.0, len(s)
    for k in range(size - 1):
        gaps = {i: rewards[k] - rewards[i] for i in range(k + 1, size)}
        best = math.exp(s[k] * max(gaps.values()))
        total -= math.log(best / (best + sum(math.exp(s[i] * gap) for i, gap in gaps.items())))
    return total + weight * (size - 1) ** 2 * -logps[0]
