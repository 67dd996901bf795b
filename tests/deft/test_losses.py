"""Losses against hand-picked numbers, naive implementations, and TRL's formula."""

import math

import pytest
import torch
from torch.nn import functional

from deft.losses import (
    dpo_loss,
    logps_from_logits,
    mean_by_sequence,
    response_logps,
    sft_loss,
    sum_by_sequence,
    with_reward_term,
)


def test_dpo_loss_is_the_hand_computed_number() -> None:
    """Margin = 0.5 * ((-1 - -2) - (-4 - -3)) = 0.5 * (1 + 1) = 1; -log sigmoid(1) = log(1 + e^-1) = 0.31326169."""
    tensors = [torch.tensor([x]) for x in (-1.0, -4.0, -2.0, -3.0)]
    loss = dpo_loss(*tensors, beta=0.5)
    assert loss.value.item() == pytest.approx(0.31326169, abs=1e-7)
    assert loss.per_example["margin"].item() == 1.0
    assert loss.per_example["reward_chosen"].item() == 0.5
    assert loss.per_example["reward_rejected"].item() == -0.5


def test_dpo_loss_is_exactly_ln_2_when_policy_equals_reference() -> None:
    """The margin is 0, and -log sigmoid(0) = log 2."""
    chosen, rejected = torch.randn(5) * 100, torch.randn(5) * 100
    loss = dpo_loss(chosen, rejected, chosen.clone(), rejected.clone(), beta=0.1)
    assert torch.equal(loss.per_example["loss"], torch.full((5,), math.log(2)))


def test_micro_batches_of_unequal_size_add_up_to_the_loss_of_the_step() -> None:
    tensors = [torch.randn(7) for _ in range(4)]
    whole = dpo_loss(*tensors, beta=0.1).value
    parts = [dpo_loss(*(t[s] for t in tensors), beta=0.1, examples_in_step=7).value for s in (slice(0, 2), slice(2, 7))]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_dpo_loss_agrees_with_the_formula_of_trl() -> None:
    """TRL 1.16 (`loss_type="sigmoid"`): -logsigmoid(beta * delta), delta = chosen log-ratio - rejected log-ratio."""
    pc, pr, rc, rr = (torch.randn(64) * 30 for _ in range(4))
    theirs = -functional.logsigmoid(0.1 * ((pc - rc) - (pr - rr)))
    assert torch.equal(dpo_loss(pc, pr, rc, rr, beta=0.1).per_example["loss"], theirs)


def test_sft_loss_is_the_sum_over_tokens_by_their_number_in_the_step() -> None:
    """Tokens -1, -3 of example 0 and -2 of example 1: (1 + 3 + 2) / 3 = 2; with 12 tokens in the step 6 / 12 = 0.5."""
    logps, sequence = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([0, 0, 1])
    assert sft_loss(logps, sequence, 2).value.item() == 2.0
    assert sft_loss(logps, sequence, 2, tokens_in_step=12).value.item() == 0.5
    assert sft_loss(logps, sequence, 2).per_example["loss"].tolist() == [2.0, 2.0]


def test_without_omega_or_reward_the_very_same_loss_comes_back() -> None:
    loss = torch.tensor(0.1234567, requires_grad=True)
    poison = torch.tensor([float("nan")])
    assert with_reward_term(loss, poison, 0.0) is loss
    assert with_reward_term(loss, None, 3.0) is loss


def test_reward_term_subtracts_omega_times_the_mean_reward() -> None:
    """1 - 0.5 * (2 + 4) / 2 = -0.5; with 4 examples in the step 1 - 0.5 * 6 / 4 = 0.25."""
    r_d = torch.tensor([2.0, 4.0])
    assert with_reward_term(torch.tensor(1.0), r_d, 0.5).item() == -0.5
    assert with_reward_term(torch.tensor(1.0), r_d, 0.5, examples_in_step=4).item() == 0.25


def test_row_weights_make_every_mean_a_weighted_one() -> None:
    """Weights 3 and 1. DPO: losses a and b give (3a + b) / 4. The term: 1 - 0.5 * (3 * 2 + 1 * 6) / 4 = -0.5.

    SFT: tokens -1, -3 of the first example and -2 of the second give (3 * 4 + 2) / (3 * 2 + 1) = 2.
    """
    weights = torch.tensor([3.0, 1.0])
    tensors = [torch.tensor([x, y]) for x, y in ((-1.0, -3.0), (-4.0, -1.0), (-2.0, -2.0), (-3.0, -2.0))]
    first, second = dpo_loss(*tensors, beta=0.5).per_example["loss"].tolist()
    weighted = dpo_loss(*tensors, beta=0.5, weights=weights)
    assert weighted.value.item() == pytest.approx((3 * first + second) / 4)
    assert weighted.per_example["loss"].tolist() == [first, second]
    logps, sequence = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([0, 0, 1])
    assert sft_loss(logps, sequence, 2, weights=weights).value.item() == 2.0
    assert sft_loss(logps, sequence, 2, tokens_in_step=28.0, weights=weights).value.item() == 0.5
    assert with_reward_term(torch.tensor(1.0), torch.tensor([2.0, 6.0]), 0.5, weights=weights).item() == -0.5


def test_sums_and_means_by_sequence() -> None:
    values, sequence = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1, 1, 0])
    assert sum_by_sequence(values, sequence, 3).tolist() == [6.0, 3.0, 0.0]
    assert mean_by_sequence(values, sequence, 3).tolist() == [6.0, 1.5, 0.0]
    assert mean_by_sequence(torch.stack([values, -values], 1), sequence, 2).tolist() == [[6.0, -6.0], [1.5, -1.5]]


def test_means_of_half_precision_are_summed_in_float32():
    one = torch.tensor(1.0, dtype=torch.bfloat16)
    values = torch.cat([256 * one.view(1), one.repeat(1000)])  # bfloat16 loses every 1 that is added to 256
    mean = mean_by_sequence(values, torch.zeros(1001, dtype=torch.int64), 1)
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(1256 / 1001, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.0625])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("has_bias", [False, True])
def test_response_logps_and_their_gradient_are_those_of_full_logits(
    scale: float, softcap: float | None, has_bias: bool
) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(11, 8, requires_grad=True)
    weight, targets, grad = torch.randn(50, 8), torch.randint(50, (11,)), torch.randn(11)
    bias = torch.randn(50) if has_bias else None
    chunked = response_logps(hidden, weight, targets, bias=bias, scale=scale, softcap=softcap, positions_per_chunk=4)
    (by_chunk,) = torch.autograd.grad(chunked, hidden, grad)
    logits = functional.linear(hidden, weight, bias) * scale
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    full = logps_from_logits(logits, targets)
    (by_full,) = torch.autograd.grad(full, hidden, grad)
    torch.testing.assert_close(chunked, full, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(by_chunk, by_full, atol=2e-6, rtol=1e-5)


def test_response_logps_refuse_a_head_that_learns() -> None:
    weight = torch.randn(5, 3, requires_grad=True)
    with pytest.raises(ValueError, match="head"):
        response_logps(torch.randn(2, 3), weight, torch.tensor([0, 1]))


def test_response_logps_keep_no_logits_for_the_backward_pass() -> None:
    saved: list[int] = []
    hidden, weight = torch.randn(16, 8, requires_grad=True), torch.randn(1000, 8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        response_logps(hidden, weight, torch.zeros(16, dtype=torch.int64), positions_per_chunk=4)
    assert sum(saved) <= 2 * hidden.numel()
