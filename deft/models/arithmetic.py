"""What the last digits of a forward pass depend on besides weights, tokens and how they are laid out.

Whoever keeps numbers to take them again for the same ones names all of this beside them.
"""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import peft
import torch
import transformers
from torch import nn

from deft.models.quantisation import PACKAGE, installed_version, quantisation_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def arithmetic_of(base: PreTrainedModel, device: torch.device) -> dict[str, str]:
    """Return, by name, what a pass of *base* on *device* depends on: settings, kinds of modules, machine, libraries."""
    return {
        "modules": " ".join(_kinds(base)),
        "config": json.dumps({**base.config.to_dict(), "_name_or_path": ""}, sort_keys=True, default=str),
        "attention": str(base.config._attn_implementation),
        "device": _device(device),
        "libraries": " ".join(_libraries(base)),
    }


def _kinds(base: nn.Module) -> list[str]:
    """Return the kinds and precisions of the modules of *base*: a quantised layer is not the one it stands for."""
    kinds = {
        f"{type(module).__name__}:{p.dtype}" for module in base.modules() for p in module.parameters(recurse=False)
    }
    return sorted(kind for kind in kinds if not kind.startswith("Lora"))


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.node()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _libraries(base: PreTrainedModel) -> list[str]:
    own = [torch.__version__, transformers.__version__, peft.__version__]
    return own if quantisation_of(base) == "none" else [*own, f"{PACKAGE} {installed_version()}"]
