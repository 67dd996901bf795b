"""Weights in a model's files that the model itself would not use: whole layers, parts of its decoder. Torch-free.

transformers loads such a folder with a warning and leaves the weights out: a config.json with too few layers gives a
smaller model in silence. Left out rightly are the parts of other modalities and heads, layers that predict further
tokens, and buffers that old versions saved.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from deft.errors import Finding, ModelNotUsable, shown

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")
_OTHERS = re.compile(
    r"(?:^|[._])(?:vision|visual|image|audio|speech|video|multi_modal|mm|mtp|nextn|talker|encoder)(?:[._]|$)"
)
_BUFFERS = re.compile(r"(?:rotary_emb\..*|inv_freq|attn\.bias|attention\.bias|masked_bias|position_ids)$")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def check_layers(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse weights, by their *names*, of layers beyond the number that *config* (a config.json) gives.

    Raises:
        ModelNotUsable: there are such layers.
    """
    inner = config.get("text_config")
    settings = inner if isinstance(inner, dict) else config
    counts = [settings[name] for name in _LAYER_COUNTS if isinstance(settings.get(name), int)]
    if not counts:
        return
    known = counts[0] + _predicting_layers(settings)
    beyond = sorted({layer for name in names if (layer := _layer_of(name)) is not None and layer >= known})
    if beyond:
        finding = Finding(
            code="layers_left_out",
            pointer="/model",
            found=f"weights of layer {beyond[-1]} (from 0)",
            expected=f"weights of {counts[0]} layers, as config.json says",
            fix="put the config.json that belongs to the weights beside them",
        )
        raise ModelNotUsable(
            f"config.json says {counts[0]} layers, the weights hold {beyond[-1] + 1}: they would be left out",
            findings=[finding],
        )


def check_unused(unused: Collection[str], own: Iterable[str]) -> None:
    """Refuse weights that were left *unused* though they belong to the decoder, whose weights have the names *own*.

    Raises:
        ModelNotUsable: there are such weights.
    """
    tops = {name.partition(".")[0] for name in own}
    lost = sorted(name for name in unused if _is_decoders(name, tops))
    if lost:
        finding = Finding(
            code="weights_left_out",
            pointer="/model",
            found=f"{len(lost)} tensors that the model has no place for, among them {shown(lost[0])}",
            expected="weights of which the model that config.json describes uses every one",
            fix="put the config.json that belongs to the weights beside them",
        )
        raise ModelNotUsable(
            f"{len(lost)} of the model's weights would be left out, among them {shown(lost[0])}", findings=[finding]
        )


def _predicting_layers(settings: Mapping[str, Any]) -> int:
    """Return the number of layers after the last that only predict further tokens (DeepSeek-V3, GLM-4.5)."""
    number = settings.get("num_nextn_predict_layers")
    return number if isinstance(number, int) else 0


def _layer_of(name: str) -> int | None:
    found = None if _OTHERS.search(name) else _LAYER.search(name)
    return None if found is None else int(found[1])


def _is_decoders(name: str, tops: Collection[str]) -> bool:
    if _OTHERS.search(name) or _BUFFERS.search(name):
        return False
    return name.partition(".")[0] in tops or _LAYER.search(name) is not None
