"""Gradient checkpointing (arXiv 1604.06174): a layer keeps its input alone and is computed again in the backward pass.

The switch of transformers does nothing here: it asks for training mode, and a frozen base stays in evaluation mode,
so that its dropout is off. Here `forward` of every layer is replaced, so that hooks on the layer run once. Knows
modules and the plan of memory; no data and no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from deft.errors import Finding, InvalidInput
from deft.models.loading import causal_model, decoder
from deft.planning.memory import (
    PRECISIONS,
    USABLE_SHARE,
    Pass,
    full_training_memory,
    held_by_each,
    training_memory,
)
from deft.planning.shapes import shape_of
from deft.specs import Lora, Optimisation
from deft.training.objective import Objective


def recompute_where_needed(
    model: nn.Module, objective: Objective, lora: Lora | None, optimisation: Optimisation
) -> None:
    """Switch gradient checkpointing on in *model* if it is asked for, or if one example would not fit without it.

    Raises:
        InvalidInput: it is asked for, and the model's layers cannot be computed again.
    """
    asked = optimisation.gradient_checkpointing
    device = objective.head.weight.device
    usable = None
    if device.type == "cuda":
        usable = int(USABLE_SHARE * torch.cuda.get_device_properties(device).total_memory)
    if not is_wanted(asked, needed_bytes(model, objective, lora), usable):
        return
    layers = recompute_layers(model)
    if layers == 0 and asked == "on":
        raise _no_layers(type(causal_model(model)).__name__)


def is_wanted(asked: str, needed_bytes: int | None, usable_bytes: int | None) -> bool:
    """Return whether checkpointing is to be on: auto where one example without it *needs* more than is *usable*.

    None: not known; *usable_bytes* of a CPU is never looked at.
    """
    if asked != "auto":
        return asked == "on"
    return needed_bytes is not None and usable_bytes is not None and needed_bytes > usable_bytes


def needed_bytes(model: nn.Module, objective: Objective, lora: Lora | None) -> int | None:
    """Return the peak of a pass of the largest example without checkpointing; None: a shape the planner does not know.

    The weights are counted as they lie in memory; where all are tuned, by several processes, those of one of them.
    """
    shape = shape_of(causal_model(model).config.to_dict())
    if shape is None:
        return None
    tokens, row_tokens = objective.largest_example()
    precision = PRECISIONS[str(objective.computed_in).removeprefix("torch.")]
    if lora is None:
        parameters = sum(p.numel() for p in model.parameters())
        need = full_training_memory(shape, precision, parameters, Pass(tokens, row_tokens, tokens))
        if not objective.is_sharded:
            return need.peak_bytes
        own = held_by_each(shape, precision, parameters, objective.ranks.size)
        return own + need.logits_bytes + need.pass_bytes
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    return training_memory(shape, lora, precision, weights, Pass(tokens, row_tokens, tokens)).peak_bytes


def recompute_layers(model: nn.Module) -> int:
    """Let every layer of *model* be computed again where a gradient is wanted; return how many there are."""
    layers = [module for module in decoder(model).modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)
    return len(layers)


def recomputes(model: nn.Module) -> bool:
    """Whether `recompute_layers` has been called on *model*."""
    forwards = (vars(module).get("forward") for module in decoder(model).modules())
    return any(isinstance(forward, partial) and forward.func is _recomputed for forward in forwards)


def _recomputed(forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 -- a layer's own
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def _no_layers(architecture: str) -> InvalidInput:
    finding = Finding(
        code="no_gradient_checkpointing",
        pointer="/optimisation/gradient_checkpointing",
        found=f"on, for {architecture}",
        expected="a model whose layers transformers can compute again",
        fix="use off, or auto",
    )
    return InvalidInput(f"the layers of {architecture} cannot be computed again", code=finding.code, findings=[finding])
