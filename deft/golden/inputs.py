"""What the golden vectors are computed from: a tiny Llama, a vocabulary of characters, an adapter and ten examples.

Every number is a formula of its index and exact in float32, so that no random generator and no rounding stands between
two implementations. Imports numpy and nothing of this project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LORA: dict[str, Any] = {"r": 2, "alpha": 4.0, "target_modules": ["down_proj", "q_proj", "v_proj"]}
TOKENS: dict[str, Any] = {"max_prompt_tokens": 30, "max_total_tokens": 44, "template": "auto"}
SPECIALS = ["<s>", "</s>"]

_TEA = "\n\nHuman: tea?\n\nAssistant:"
_BUS = "\n\nHuman: is the bus late?\n\nAssistant:"
_ROWS: list[dict[str, Any]] = [
    {"note": "a transcript: the response gets one leading space", "prompt": _TEA, "responses": ["it is hot.", "no."]},
    {
        "note": "the prompt is cut on the left behind <s>, the second response on the right: it does not end",
        "prompt": _BUS,
        "responses": ["it is not.", "the bus is late, so late."],
    },
    {"note": "plain text, taken as it is", "prompt": "sum: ", "responses": ["ten", "nine, no, ten"]},
    {
        "note": "the same once more: a tie, which goes to the lower row",
        "prompt": "sum: ",
        "responses": ["ten", "nine, no, ten"],
    },
    {
        "note": "a special token inside a response counts in T, not in Q+ and Q-",
        "prompt": "end? ",
        "responses": ["yes</s>so", "not so"],
    },
    {
        "note": "three responses with rewards",
        "prompt": "where is it? ",
        "responses": ["in the hut", "in a hut", "hut"],
        "rewards": [1.5, 0.25, -1.0],
    },
    {
        "note": "three responses, best first, without rewards",
        "prompt": "is it? ",
        "responses": ["it is", "is not", "no"],
    },
    {"note": "two responses with rewards", "prompt": "hi ", "responses": ["hello", "hey"], "rewards": [2.0, 0.5]},
    {"note": "two rewards that tie", "prompt": "yes ", "responses": ["no", "yes, yes"], "rewards": [0.5, 0.5]},
    {"note": "a response of one token", "prompt": "a", "responses": ["b", "ab ab ab"]},
]
ASPECTS = ("helpful", "harmless")
EXAMPLES = [{**row, "aspect": ASPECTS[index % 2]} for index, row in enumerate(_ROWS)]


def sections(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the inputs as sections of the document; *tokens* are the ids of the examples."""
    llama = (
        "a Llama; names and settings are those of transformers; element i (row-major) of tensor `number` is offset + "
    )
    llama += "scale * (h / 1024 - 1), h = fmix32(65536 * number + i) >> 21, fmix32 MurmurHash3's 32-bit finaliser"
    characters = "one token a character, and a special where one is written; <s> stands before the prompt"
    rows = [{**example, **ids} for example, ids in zip(EXAMPLES, tokens, strict=True)]
    return {
        "model": {"says": llama, "config": CONFIG, "tensors": [with_values(tensor) for tensor in model_tensors()]},
        "lora": {
            "says": "the policy of the losses: W + alpha / r * B A",
            **LORA,
            "tensors": [with_values(tensor) for tensor in lora_tensors()],
        },
        "tokenizer": {"says": characters, "vocabulary": vocabulary(), "specials": SPECIALS},
        "examples": {
            "says": "responses are best first; ids are those after truncation, without an end token",
            "tokens": TOKENS,
            "rows": rows,
        },
    }


def vocabulary() -> list[str]:
    """Return the tokens in the order of their ids: the two specials, then every character of the texts, sorted."""
    texts = [text for example in EXAMPLES for text in (example["prompt"], *example["responses"])]
    characters = {character for text in texts for character in text.replace("</s>", "")}
    return [*SPECIALS, *sorted(characters)]


def fmix32(number: int) -> int:
    """Return the 32-bit finaliser of MurmurHash3 (Austin Appleby, public domain) of *number*."""
    number ^= number >> 16
    number = number * 0x85EBCA6B & 0xFFFFFFFF
    number ^= number >> 13
    number = number * 0xC2B2AE35 & 0xFFFFFFFF
    return number ^ number >> 16


def made_up(number: int, shape: tuple[int, ...], offset: float, scale: float) -> Array:
    """Return tensor *number*: element i, in row-major order, is offset + scale * (h / 1024 - 1), h = fmix32 >> 21.

    fmix32 is of 65536 * number + i; the values lie in [offset - scale, offset + scale).
    """
    hashes = (fmix32(65536 * number + index) >> 21 for index in range(int(np.prod(shape))))
    return np.array([offset + scale * (value / 1024 - 1) for value in hashes]).reshape(shape)


def model_tensors() -> list[dict[str, Any]]:
    """Return the weights of the base model: name (as in transformers), number, offset, scale and shape of each."""
    return [_tensor(number, *entry) for number, entry in enumerate(_model_shapes())]


def lora_tensors() -> list[dict[str, Any]]:
    """Return the weights of the adapter, W + alpha / r * B A, as `model_tensors` does; numbers go on from 100."""
    return [_tensor(number, *entry) for number, entry in enumerate(_lora_shapes(), start=100)]


def head_tensors() -> dict[str, dict[str, Any]]:
    """Return the hidden states [3, D] and the bias [V] on which the kinds of heads are shown."""
    width, size = CONFIG["hidden_size"], CONFIG["vocab_size"]
    return {"hidden": _tensor(200, "hidden", (3, width), 0.0, 2.0), "bias": _tensor(201, "bias", (size,), 0.0, 1.0)}


def with_values(tensor: dict[str, Any]) -> dict[str, Any]:
    """Return *tensor* with its `values`, row by row."""
    made = made_up(tensor["number"], tuple(tensor["shape"]), tensor["offset"], tensor["scale"])
    return {**tensor, "values": made.ravel().tolist()}


def values_of(tensors: list[dict[str, Any]]) -> dict[str, Array]:
    """Return the tensors by name, float64."""
    return {t["name"]: made_up(t["number"], tuple(t["shape"]), t["offset"], t["scale"]) for t in tensors}


def _tensor(number: int, name: str, shape: tuple[int, ...], offset: float, scale: float) -> dict[str, Any]:
    return {"name": name, "number": number, "shape": list(shape), "offset": offset, "scale": scale}


def _model_shapes() -> Iterator[tuple[str, tuple[int, ...], float, float]]:
    size, width = CONFIG["vocab_size"], CONFIG["hidden_size"]
    yield "model.embed_tokens.weight", (size, width), 0.0, 1.0
    for layer in range(CONFIG["num_hidden_layers"]):
        place = f"model.layers.{layer}."
        yield place + "input_layernorm.weight", (width,), 1.0, 0.25
        for name, shape, scale in _projections():
            if name == "mlp.gate_proj":
                yield place + "post_attention_layernorm.weight", (width,), 1.0, 0.25
            yield f"{place}{name}.weight", shape, 0.0, scale
    yield "model.norm.weight", (width,), 1.0, 0.25
    yield "lm_head.weight", (size, width), 0.0, 1.0


def _lora_shapes() -> Iterator[tuple[str, tuple[int, ...], float, float]]:
    rank = LORA["r"]
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, (rows, columns), _ in _projections():
            if name.rpartition(".")[2] in LORA["target_modules"]:
                yield f"model.layers.{layer}.{name}.lora_A.weight", (rank, columns), 0.0, 0.5
                yield f"model.layers.{layer}.{name}.lora_B.weight", (rows, rank), 0.0, 0.25


def _projections() -> list[tuple[str, tuple[int, int], float]]:
    """Return name, shape [out, in] and scale of a layer's linear maps."""
    width, inner, head = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    queries, keys = CONFIG["num_attention_heads"] * head, CONFIG["num_key_value_heads"] * head
    return [
        ("self_attn.q_proj", (queries, width), 1.0),
        ("self_attn.k_proj", (keys, width), 1.0),
        ("self_attn.v_proj", (keys, width), 1.0),
        ("self_attn.o_proj", (width, queries), 0.5),
        ("mlp.gate_proj", (inner, width), 1.0),
        ("mlp.up_proj", (inner, width), 1.0),
        ("mlp.down_proj", (width, inner), 0.5),
    ]
