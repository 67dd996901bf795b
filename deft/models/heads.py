"""What a model's config.json says of its language-model head: one list of the fields that change logits. Torch-free.

A head's logits are softcap(scale * (W h + b)). `deft.reward` builds on this and then checks the model's own logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import Finding, ModelNotUsable, shown

MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
DIVISORS = ("logits_scaling",)
MULTIPLIES_DESPITE_NAME = ("hyperclovax",)
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")
LARGEST_FACTOR = 1e30
"""Beyond it logits are no float32."""

FIELDS = (*MULTIPLIERS, *DIVISORS, *SOFTCAPS)
"""The fields that are understood."""

NOT_UNDERSTOOD = {"output_logit_soft_cap": 0.0, "logits_mup_width_multiplier": 1.0}
"""Fields of transformers' configs that change logits in a way that is not supported; the value that changes nothing."""


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """What the logits are multiplied by, and c of c * tanh(logit / c) or None."""

    scale: float = 1.0
    softcap: float | None = None


def head_settings(settings: Mapping[str, Any], model_type: str) -> HeadSettings:
    """Return what the *settings* of a model of *model_type* say of its head; a field that is absent changes nothing.

    Raises:
        ModelNotUsable: a field is no finite number.
    """
    scale = 1.0
    for name in MULTIPLIERS:
        scale *= _number(settings, name) or 1.0
    for name in DIVISORS:
        value = _number(settings, name) or 1.0
        scale = scale * value if model_type in MULTIPLIES_DESPITE_NAME else scale / value
    softcap = next((cap for name in SOFTCAPS if (cap := _number(settings, name))), None)
    return HeadSettings(scale, softcap)


def _number(settings: Mapping[str, Any], name: str) -> float | None:
    """Return the field as a number, None where it is absent."""
    value = settings.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST_FACTOR:
        raise head_refusal(f"{name} in config.json that is {shown(value)}")
    return float(value)


def unknown_head_fields(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of *settings* that change the logits in a way that is not understood."""
    return [
        name
        for name, neutral in NOT_UNDERSTOOD.items()
        if isinstance(settings.get(name), int | float) and settings[name] != neutral
    ]


def head_refusal(
    found: str, fix: str = "use a model with a linear head, such as Llama, Qwen or Mistral"
) -> ModelNotUsable:
    """Return the error that the model has a head with what was *found*, so that R_d cannot be computed for it."""
    expected = "a head whose logits are W h (+ b), scaled or soft-capped"
    finding = Finding(code="unknown_head", found=found, expected=expected, fix=fix)
    return ModelNotUsable(f"the model has {found}; R_d cannot be computed for it", findings=[finding])
