"""The Bradley-Terry loss by hand."""

import math

import pytest
import torch

from deft.reward_models.loss import bradley_terry


def _nll(difference: float) -> float:
    return math.log(1 + math.exp(-difference))


def test_pairs_and_lists_by_hand_each_row_weighing_one() -> None:
    rewards = torch.tensor([2.0, 0.5, 1.0, 3.0, -1.0])
    found = bradley_terry(rewards, [2, 3])
    assert found.tolist() == pytest.approx([_nll(1.5), (_nll(-2.0) + _nll(2.0) + _nll(4.0)) / 3])


def test_a_tie_costs_log_two_and_pulls_both_apart() -> None:
    rewards = torch.zeros(2, requires_grad=True)
    loss = bradley_terry(rewards, [2]).sum()
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert rewards.grad is not None
    assert rewards.grad.tolist() == pytest.approx([-0.5, 0.5])


def test_large_differences_stay_finite() -> None:
    assert bradley_terry(torch.tensor([-1e4, 1e4]), [2]).item() == pytest.approx(2e4)
