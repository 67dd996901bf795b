"""The one-step LoRA layer gives PEFT's numbers, and leaves to PEFT whatever is not the plain case."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deft.specs import Lora
from deft.training.fused_lora import fused
from deft.training.policy import attach_lora
from tests.models import tiny_llama


def policy(*, dropout: float = 0.0, alpha: float = 12.0) -> Any:
    torch.manual_seed(0)
    model = attach_lora(tiny_llama(1), Lora(r=4, alpha=alpha, dropout=dropout), seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return model


def logits_and_gradients(model: Any) -> list[Tensor]:
    logits = model(input_ids=torch.arange(3, 33).view(2, 15)).logits
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [logits, *torch.autograd.grad(logits.square().mean(), trained)]


def own_layers(model: Any) -> int:
    """Count the outputs that the one-step layer made in one forward pass."""
    made: list[Any] = []
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.register_forward_hook(lambda _module, _input, output: made.append(output.grad_fn))
    model(input_ids=torch.arange(3, 18).view(1, 15))
    return sum("LoraLinear" in type(node).__name__ for node in made)


def test_logits_and_gradients_are_those_of_peft() -> None:
    theirs, ours = policy(), fused(policy())
    assert (own_layers(theirs), own_layers(ours)) == (0, 14)  # two layers of seven
    for mine, other in zip(logits_and_gradients(ours), logits_and_gradients(theirs), strict=True):
        assert (mine - other).norm() <= 1e-5 * other.norm()


def test_the_reference_is_the_base_to_the_last_bit() -> None:
    ours = fused(policy())
    with ours.disable_adapter(), torch.no_grad():
        found = ours(input_ids=torch.arange(3, 18).view(1, 15)).logits
    assert torch.equal(found, tiny_llama(1)(input_ids=torch.arange(3, 18).view(1, 15)).logits)


def _with_dropout(_: nn.Module) -> Any:
    return policy(dropout=0.3).train()


def _in_half_precision(model: nn.Module) -> Any:
    return model.bfloat16()


def _with_base_that_learns(model: nn.Module) -> Any:
    return model.requires_grad_(True)


@pytest.mark.parametrize("change", [_with_dropout, _in_half_precision, _with_base_that_learns])
def test_what_is_not_the_plain_case_is_left_to_peft(change: Callable[[nn.Module], Any]) -> None:
    assert own_layers(fused(change(policy()))) == 0
