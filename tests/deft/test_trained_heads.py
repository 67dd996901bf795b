"""Log-probabilities under a trained head: the value and every gradient against plain autograd, and what is kept."""

import numpy as np
import pytest
import torch
from torch import Tensor

from deft.losses import head_logits, logps_from_logits
from deft.reward import Head, learning_direction, response_rewards, reward_from_logits
from deft.trained_heads import trained_head_logps
from deft.training.heads import TrainedHead

P, V, D = 13, 41, 6
KINDS = [(False, 1.0, None), (False, 0.25, None), (True, 1.0, None), (True, 2.0, 3.0), (False, 1.0, 1.5)]
"""Has a bias, scale, soft-cap."""


def leaves(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden, weight, bias, upstream = (
        torch.randn(shape, generator=generator, dtype=dtype) for shape in ((P, D), (V, D), (V,), (P,))
    )
    return hidden, weight, bias, upstream, torch.randint(0, V, (P,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 5, 100])
@pytest.mark.parametrize(("has_bias", "scale", "softcap"), KINDS)
def test_values_and_gradients_are_those_of_plain_autograd(
    has_bias: bool, scale: float, softcap: float | None, chunk: int
) -> None:
    hidden, weight, bias, upstream, targets = leaves()
    found, expected = [], []
    for gradients, is_ours in ((found, True), (expected, False)):
        own = [each.clone().requires_grad_() for each in (hidden, weight, bias)]
        offset = own[2] if has_bias else None
        if is_ours:
            how = {"bias": offset, "scale": scale, "softcap": softcap, "positions_per_chunk": chunk}
            logps = trained_head_logps(own[0], own[1], targets, **how)
        else:
            logps = logps_from_logits(head_logits(own[0], own[1], offset, scale, softcap), targets)
        (logps * upstream).sum().backward()
        gradients += [logps.detach(), *(each.grad for each in own if each.grad is not None)]
    assert len(found) == len(expected) == 3 + has_bias
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_nothing_is_kept_but_the_inputs() -> None:
    hidden, weight, _, _, targets = leaves()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        trained_head_logps(hidden.requires_grad_(), weight.requires_grad_(), targets, positions_per_chunk=4)
    assert {tuple(tensor.shape) for tensor in kept} == {(P, D), (V, D), (P,)}


def test_products_in_half_precision_leave_the_softmax_and_the_weights_gradient_in_float32() -> None:
    hidden, weight, _, upstream, targets = leaves()
    exact, rounded = (weight.clone().requires_grad_() for _ in range(2))
    for own, dtype in ((exact, None), (rounded, torch.bfloat16)):
        logps = trained_head_logps(hidden, own, targets, dtype=dtype, positions_per_chunk=4)
        assert logps.dtype == torch.float32
        (logps * upstream).sum().backward()
    assert exact.grad is not None
    assert rounded.grad is not None
    assert rounded.grad.dtype == torch.float32
    torch.testing.assert_close(rounded.grad, exact.grad, atol=0.05, rtol=0.05)
    assert not torch.equal(rounded.grad, exact.grad)


@pytest.mark.parametrize(("has_bias", "scale", "softcap"), KINDS)
def test_the_gradient_of_r_d_through_a_trained_head(has_bias: bool, scale: float, softcap: float | None) -> None:
    """Against autograd through all logits in float64, and against central differences along a random direction."""
    hidden, weight, bias, _, _ = leaves()
    values = np.random.default_rng(0).normal(size=V)
    q_diff = values - values.mean()
    own = [each.clone().requires_grad_() for each in (hidden, weight, bias)]

    def reward(states: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
        direction = learning_direction(Head(matrix, offset if has_bias else None, scale, softcap), q_diff)
        return response_rewards(states, torch.zeros(P, dtype=torch.long), 1, direction)[0]

    reward(*own).backward()
    exact = [each.double().detach().requires_grad_() for each in (hidden, weight, bias)]
    logits = scale * (exact[0] @ exact[1].T + (exact[2] if has_bias else 0))
    reward_from_logits(logits if softcap is None else softcap * torch.tanh(logits / softcap), q_diff).backward()
    for ours, theirs in list(zip(own, exact, strict=True))[: 2 + has_bias]:
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-5)

    generator, step = torch.Generator().manual_seed(8), 1e-2
    towards = [torch.randn(each.shape, generator=generator) for each in own]
    with torch.no_grad():
        ahead, behind = (
            reward(*(each + sign * step * way for each, way in zip(own, towards, strict=True))) for sign in (1, -1)
        )
    slope = sum((each.grad * way).sum() for each, way in zip(own, towards, strict=True) if each.grad is not None)
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx(float(slope), rel=5e-3)


def test_the_head_that_is_kept_for_comparison_does_not_move_with_the_one_that_is_trained() -> None:
    module = torch.nn.Linear(D, V)
    kept = TrainedHead(module, 1.0, None, torch.float32).kept()
    weight, bias = kept.weight.clone(), kept.bias.clone()  # type: ignore[union-attr]
    with torch.no_grad():
        module.weight += 1
        module.bias += 1
    assert torch.equal(kept.weight, weight)
    assert torch.equal(kept.bias, bias)  # type: ignore[arg-type]
