"""Which code computes attention, and a look before the first step whether it computes what the model's own does.

`auto` and `sdpa` are the model's own: PyTorch's scaled dot product where the model has it. `flex` takes the layout of
shared prompts as a block mask in place of [L, L] numbers; `flash` cannot be told of it, so that every response gets a
row of its own. Neither has been run on a GPU, so neither is chosen unasked. Knows models and packs; no loss and no job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from deft.errors import Finding, InvalidInput
from deft.models.loading import causal_model, decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deft.packing import Pack

Asked = Literal["auto", "sdpa", "flex", "flash"]
FLEX, FLASH = "flex_attention", "flash_attention_2"
"""As transformers calls them."""

TOLERANCE = {torch.float32: 1e-3}
TOLERANCE_HALF = 5e-2
"""Of states and gradients: root mean square over positions of the error as a share of their norm."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice depends on: the *kind* of device, a GPU's compute *capability*, whether flash-attn is there."""

    kind: str
    capability: tuple[int, int] | None = None
    has_flash: bool = False


def machine_of(device: torch.device) -> Machine:
    """Return what is known of *device*."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return Machine(device.type, capability, find_spec("flash_attn") is not None)


def attention_for(asked: Asked, own: str, dtype: torch.dtype, machine: Machine) -> str:
    """Return transformers' name of the attention that *asked* means for a model whose *own* is this.

    Raises:
        InvalidInput: it does not work on the machine, or not in *dtype*.
    """
    if asked in ("auto", "sdpa"):
        return own
    if machine.kind != "cuda":
        raise _refusal(asked, f"a device of the kind {machine.kind}", "a GPU: it has no backward pass elsewhere")
    if asked == "flex":
        return FLEX
    if not machine.has_flash:
        raise _refusal(asked, "flash-attn is not installed", "the package flash-attn")
    if machine.capability is None or machine.capability < (8, 0):
        raise _refusal(asked, f"compute capability {machine.capability}", "8.0 or more")
    if dtype == torch.float32:
        raise _refusal(asked, "float32", "optimisation.precision bf16 or fp16")
    return FLASH


def set_attention(base: PreTrainedModel, chosen: str, layout: Callable[[bool], Pack]) -> str | None:
    """Let *base* compute attention by *chosen*, unless it then gives other states or gradients; return why it does not.

    *layout* makes a pack of a few tokens, as a block mask or not.
    """
    own = attention_of(base)
    if chosen == own:
        return None
    expected = _looked_at(base, layout(own == FLEX))
    try:
        base.set_attn_implementation(chosen)
        found = _looked_at(base, layout(chosen == FLEX))
    except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        base.set_attn_implementation(own)
        return f"{chosen} failed ({type(error).__name__}), so {own} is used"
    tolerance = TOLERANCE.get(found[0].dtype, TOLERANCE_HALF)
    if all(_is_near(a, b, tolerance) for a, b in zip(found, expected, strict=True)):
        return None
    base.set_attn_implementation(own)
    return f"{chosen} gives other states than {own}, which is used"


def attention_of(model: nn.Module) -> str:
    """Return transformers' name of what computes the attention of *model*."""
    return cast(str, causal_model(model).config.get_text_config()._attn_implementation)


def _looked_at(base: PreTrainedModel, pack: Pack) -> tuple[Tensor, Tensor]:
    """Return the states [P, D] of *pack* and the gradient [B, L, D] of a fixed direction by the embedded tokens.

    Not of their squares: the last norm makes those nearly constant, so that their gradient says next to nothing.
    """
    embedded = base.get_input_embeddings()(pack.inputs["input_ids"]).detach().requires_grad_()
    inputs = {name: value for name, value in pack.inputs.items() if name != "input_ids"}
    with torch.enable_grad():
        states = decoder(base)(inputs_embeds=embedded, **inputs, use_cache=False).last_hidden_state
        states = states.flatten(0, 1)[pack.predict]
        direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).to(states.device)
        (gradient,) = torch.autograd.grad((states.float() * direction).sum(), embedded)
    return states.detach(), gradient


def _is_near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether [..., D] and [..., D] agree, position by position; those below the median norm are held to the median.

    Not as a whole: a token whose embedding is 0 has so large a gradient that it would hide all others.
    """
    errors, norms = (found.float() - expected.float()).norm(dim=-1), expected.float().norm(dim=-1)
    scale = norms.clamp_min(norms[norms > 0].median())
    return bool((errors / scale).square().mean().sqrt() <= tolerance)


def _refusal(asked: str, found: str, expected: str) -> InvalidInput:
    finding = Finding(
        code="attention_not_available",
        pointer="/optimisation/attention",
        found=found,
        expected=expected,
        fix="use auto",
    )
    return InvalidInput(
        f"attention by {asked} does not work here: found {found}", code=finding.code, findings=[finding]
    )
