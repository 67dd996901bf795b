"""Which models may have responses share a row with their prompt: an explicit list, and no window shorter than the row.

In a shared row a token's index is not its position. A family that looks at the index (GPT-Neo's local layers do, and
ALiBi) is wrong there without a word, and a probe of few tokens cannot see a window of 256; so what is not on the list
is laid out one response a row. Every family on it is tested against one response at a time. Torch-free.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SHARING_FAMILIES = frozenset(
    {
        "cohere",
        "cohere2",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "granite",
        "llama",
        "ministral",
        "mistral",
        "mixtral",
        "olmo",
        "olmo2",
        "olmo3",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
"""`model_type` of the families whose shared rows are tested against one response at a time."""

_WINDOW_WORDS = ("window", "local", "chunk_size")
_NO_LENGTHS = {
    "max_window_layers",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "num_local_experts",
    "chunk_size_feed_forward",
    "rope_local_base_freq",
}
"""Fields that such a word stands in and that are no number of tokens."""
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def may_share(model_type: str, settings: Mapping[str, Any], longest_row: int) -> bool:
    """Return whether rows of up to *longest_row* tokens may be shared by a model of *model_type*.

    *settings* are the fields of its config.json. A sliding window is only kept to by masks of the model's own making.
    """
    if model_type not in SHARING_FAMILIES:
        return False
    windows = [value for name, value in settings.items() if _is_window(name, value)]
    if any(_tokens(value) < longest_row for value in windows):
        return False
    layers = {kind for name in ("layer_types", "attention_layers") for kind in _listed(settings.get(name))}
    return layers <= _KNOWN_LAYERS and ("sliding_attention" not in layers or bool(windows))


def _is_window(name: str, value: object) -> bool:
    is_given = value is not None and not isinstance(value, bool)  # use_sliding_window only says whether there is one
    return is_given and name not in _NO_LENGTHS and any(word in name for word in _WINDOW_WORDS)


def _tokens(value: object) -> float:
    """Return a window's length; what is not understood counts as none at all."""
    return value if isinstance(value, int | float) and value > 0 else 0.0


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
