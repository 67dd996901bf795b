"""Tiny random models of the families that R_d is computed for, with the kind of head that each should be found to have.

Settings that would make a family like another (a logit scale of 1, no soft-cap, a window beyond the sequence) are not
left at such values.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

V = 40
WINDOW = 16
SHAPE = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("llama", {}, "plain"),
    "llama-tied": ("llama", {"tie_word_embeddings": True}, "plain"),
    "qwen2": ("qwen2", {}, "plain"),
    "qwen3": ("qwen3", {}, "plain"),
    "qwen3-tied": ("qwen3", {"tie_word_embeddings": True}, "plain"),
    "mistral": ("mistral", {"sliding_window": WINDOW}, "plain"),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, "plain"),
    "phi-bias": ("phi", {}, "bias"),
    "phi3": ("phi3", {}, "plain"),
    "cohere": ("cohere", {"logit_scale": 0.0625}, "scaled"),
    "cohere2": ("cohere2", {"logit_scale": 0.25, "sliding_window": WINDOW}, "scaled"),
    "granite": ("granite", {"logits_scaling": 8.0}, "scaled"),
    "gemma": ("gemma", {}, "plain"),
    "gemma2": ("gemma2", {"final_logit_softcapping": 3.0, "sliding_window": WINDOW}, "softcap"),
    "gemma3": ("gemma3_text", {"final_logit_softcapping": 3.0, "sliding_window": WINDOW}, "softcap"),
    "gemma3-uncapped": ("gemma3_text", {"final_logit_softcapping": None, "sliding_window": WINDOW}, "plain"),
    "gpt_neox": ("gpt_neox", {}, "plain"),
    "ministral": ("ministral", {"sliding_window": WINDOW}, "plain"),
    "mixtral": ("mixtral", {"num_local_experts": 4}, "plain"),
    "olmo": ("olmo", {}, "plain"),
    "olmo2": ("olmo2", {}, "plain"),
    "olmo3": ("olmo3", {"sliding_window": WINDOW}, "plain"),
    "qwen3_moe": ("qwen3_moe", {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}, "plain"),
    "smollm3": ("smollm3", {}, "plain"),
    "stablelm": ("stablelm", {}, "plain"),
    "starcoder2": ("starcoder2", {"sliding_window": WINDOW}, "plain"),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
        "plain",
    ),
    "gptj": ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}, "bias"),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}, "plain"),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 16}, "plain"),
    "llama4": (
        "llama4_text",
        {"attention_chunk_size": WINDOW, "num_local_experts": 2, "intermediate_size_mlp": 64},
        "plain",
    ),
    "mamba": ("mamba", {"state_size": 4}, "plain"),
}
_IDS = {"vocab_size", "bos_token_id", "eos_token_id"}
_OWN_NAMES = {
    "gpt2": _IDS,
    "gptj": _IDS,
    "bloom": _IDS | {"hidden_size"},
    "gpt_neo": _IDS | {"hidden_size", "intermediate_size", "max_position_embeddings"},
}
"""The fields of SHAPE that a family which calls the others by names of its own is given."""


def tiny(family: str) -> Any:
    """Return a model of *family* with V tokens, D = 32 and two layers, in float32, evaluating."""
    model_type, settings, _ = FAMILIES[family]
    torch.manual_seed(3)
    names = _OWN_NAMES.get(model_type, SHAPE)
    shape = {name: value for name, value in SHAPE.items() if name in names}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**shape, **settings})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "ln_" not in name:
                parameter.normal_(0, 0.3)  # wide, and biases too, so that every part of a head shows
    return model
