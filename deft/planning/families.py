"""How the layers of the model families are built, as far as counting needs it: names of linear modules, norms, biases.

Facts of the modelling code of transformers 5, checked against it by a test. Knows no file and no numbers of a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Flag = bool | str
"""A fact, or the name of the config's field that decides it."""

_SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Family:
    """One family. The last name in *attention* and in *mlp* reads what its block computed, the others the residual."""

    attention: tuple[str, ...] = _SPLIT
    mlp: tuple[str, ...] = _GATED
    norm: Literal["rms", "layer", "layer_without_bias", "plain"] = "rms"
    """plain: a layer norm without parameters."""
    norms: int = 2
    """Norms of the residual's width in a layer."""
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: bool = False
    qk_norm: Literal["none", "head", "whole"] = "none"
    """head: over each head alone; whole: over all heads together."""
    is_tied: bool = False
    """What holds where the config does not say."""
    has_positions: bool = False
    """Learned position embeddings."""
    activation_copies: int = 1
    """Tensors of the MLP's width that its activation function keeps for the backward pass."""
    has_eager_attention: bool = False
    """Whether attention keeps its [heads, L, L] matrices (soft-capped scores have no fused kernel)."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields that published configs leave out."""

    @property
    def is_gated(self) -> bool:
        """Whether the MLP multiplies two projections of its input."""
        return len(self.mlp) == 3 or self.mlp[0] == "gate_up_proj"


_GEMMA = {"head_dim": 256}
_LLAMA = Family(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")
_GEMMA3 = Family(
    norms=4,
    qk_norm="head",
    is_tied=True,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    defaults={
        **_GEMMA,
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
    },
)
_COHERE = Family(
    norm="layer_without_bias",
    norms=1,
    is_tied=True,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    defaults={"logit_scale": 0.0625},
)
_OLMO2 = Family(qk_norm="whole", qkv_bias="attention_bias", out_bias="attention_bias")

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "granite": _LLAMA,
    "smollm3": Family(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias", is_tied=True),
    "mistral": Family(),
    "ministral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qk_norm="head", qkv_bias="attention_bias", out_bias="attention_bias", defaults={"head_dim": 128}),
    "gemma": Family(is_tied=True, qkv_bias="attention_bias", out_bias="attention_bias", defaults=_GEMMA),
    "gemma2": Family(
        norms=4,
        is_tied=True,
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        has_eager_attention=True,
        defaults={**_GEMMA, "final_logit_softcapping": 30.0},
    ),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "cohere": _COHERE,
    "cohere2": _COHERE,
    "olmo": Family(norm="plain", qkv_bias="attention_bias", out_bias="attention_bias"),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "phi": Family(
        attention=("q_proj", "k_proj", "v_proj", "dense"),
        mlp=("fc1", "fc2"),
        norm="layer",
        norms=1,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        activation_copies=4,
    ),
    "phi3": Family(attention=("qkv_proj", "o_proj"), mlp=("gate_up_proj", "down_proj")),
    "gpt_neox": Family(
        attention=("query_key_value", "dense"),
        mlp=("dense_h_to_4h", "dense_4h_to_h"),
        norm="layer",
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias=True,
        defaults={"attention_bias": True},
    ),
    "starcoder2": Family(
        mlp=("c_fc", "c_proj"),
        norm="layer",
        qkv_bias="use_bias",
        out_bias="use_bias",
        mlp_bias="use_bias",
        is_tied=True,
        defaults={"use_bias": True},
    ),
    "stablelm": Family(norm="layer", qkv_bias="use_qkv_bias"),
    "gpt2": Family(
        attention=("c_attn", "c_proj"),
        mlp=("c_fc", "c_proj"),
        norm="layer",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        is_tied=True,
        has_positions=True,
        activation_copies=4,
    ),
}

RENAMED: dict[str, dict[str, str]] = {
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
        "intermediate_size": "n_inner",
    }
}
"""Fields that a family calls otherwise than most."""
