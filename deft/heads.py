"""What a model's config.json says of its language-model head: one list of the fields that change logits. Torch-free.

A head's logits are softcap(scale * (W h + b)). `deft.reward` builds on this and then checks the model's own logits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import Finding, ModelNotUsable

MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
DIVISORS = ("logits_scaling",)
MULTIPLIES_DESPITE_NAME = ("hyperclovax",)
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")
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
    """Return what the *settings* of a model of *model_type* say of its head; a field that is absent changes nothing."""
    scale = 1.0
    for name in MULTIPLIERS:
        scale *= float(settings.get(name) or 1.0)
    for name in DIVISORS:
        value = float(settings.get(name) or 1.0)
        scale = scale * value if model_type in MULTIPLIES_DESPITE_NAME else scale / value
    softcap = next((float(settings[name]) for name in SOFTCAPS if settings.get(name)), None)
    return HeadSettings(scale, softcap)


def unknown_head_fields(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields of *settings* that change the logits in a way that is not understood."""
    return [
        name
        for name, neutral in NOT_UNDERSTOOD.items()
        if isinstance(settings.get(name), int | float) and float(settings[name]) != neutral
    ]


def head_refusal(
    found: str, fix: str = "use a model with a linear head, such as Llama, Qwen or Mistral"
) -> ModelNotUsable:
    """Return the error that the model has a head with what was *found*, so that R_d cannot be computed for it."""
    expected = "a head whose logits are W h (+ b), scaled or soft-capped"
    finding = Finding(code="unknown_head", found=found, expected=expected, fix=fix)
    return ModelNotUsable(f"the model has {found}; R_d cannot be computed for it", findings=[finding])
