"""A LoRA linear layer on a CPU in one autograd function: the same numbers as PEFT's, with fewer passes over memory.

PEFT adds s * B(A(x)) to W x with whole matrices in between, and again for the gradient; a small model on a CPU spends a
tenth of a training step on them. Here the product is added as it is computed. Knows PEFT's layer; it must not know the
model, the loss or how the layer came about. Whatever is not the plain case is left to PEFT.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional


def fused(model: PeftModel) -> PeftModel:
    """Let the plain LoRA layers of *model*, in place, compute in one step; return it. On a GPU nothing changes."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear and not module.fan_in_fan_out:
            module.forward = partial(_forward, module, module.forward)
    return model


def _forward(layer: Linear, otherwise: Any, x: Tensor, *arguments: Any, **named: Any) -> Tensor:  # noqa: ANN401 -- PEFT's
    """Return the layer's output on *x* [.., in]: [.., out]; *otherwise* is PEFT's own way."""
    if arguments or named or layer.disable_adapters or layer.merged or not _is_plain(layer, x):
        found: Tensor = otherwise(x, *arguments, **named)
        return found
    (name,) = layer.active_adapters
    base, a, b = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
    product: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, layer.scaling[name])  # type: ignore[no-untyped-call]
    return product


def _is_plain(layer: Linear, x: Tensor) -> bool:
    """Whether the layer is W x + s * B A x in float32 on a CPU, with nothing else at work and W frozen."""
    if len(layer.active_adapters) != 1 or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    (name,) = layer.active_adapters
    if name not in layer.lora_A or name in layer.lora_variant or layer.lora_B[name].bias is not None:
        return False
    dropout = layer.lora_dropout[name]
    weights = (layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight)
    return (
        not (isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0)
        and not any(p.requires_grad for p in layer.base_layer.parameters())
        and all(each.dtype == torch.float32 for each in (x, *weights))
    )


class _LoraLinear(torch.autograd.Function):
    """W x + bias + s * B A x; gradients by x, A [r, in] and B [out, r], none by W [out, in]."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 -- torch gives it no type
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
    ) -> Tensor:
        rows = x.flatten(0, -2)
        low = rows @ a.t()
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scaling, ctx.shape = scaling, x.shape
        return functional.linear(rows, weight, bias).addmm_(low, b.t(), alpha=scaling).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 -- as above
        rows, low, weight, a, b = ctx.saved_tensors
        by_output = grads[0].flatten(0, -2)
        by_low = (by_output @ b).mul_(ctx.scaling)
        by_x = (by_output @ weight).addmm_(by_low, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return by_x, None, None, by_low.t() @ rows, (by_output.t() @ low).mul_(ctx.scaling), None
