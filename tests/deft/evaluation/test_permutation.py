"""Tests by swapping sides: exact values, and the level they hold."""

import numpy as np
import pytest
from scipy import stats

from deft.evaluation import permutation
from deft.evaluation.permutation import sign_flip_p


def test_few_prompts_are_enumerated() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip_p(np.array([1.0, 2.0, -3.0])) == 1.0
    assert sign_flip_p(np.ones(6)) == 2 / 64


def test_on_wins_and_losses_it_is_the_sign_test() -> None:
    gaps = np.array([1.0] * 9 + [-1.0] * 2)
    assert sign_flip_p(gaps) == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_prompts_that_do_not_differ_change_nothing() -> None:
    gaps = np.array([0.5, 1.0, 2.0, -0.3])
    assert sign_flip_p(np.concatenate([gaps, np.zeros(500)])) == sign_flip_p(gaps)
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_drawn_signs_count_the_observed_ones_too() -> None:
    """Phipson and Smyth 2010: p = (b + 1) / (m + 1), never 0, and 1 where every draw is as far from 0."""
    assert sign_flip_p(np.ones(40)) == 1 / (permutation.FLIPS + 1)
    assert sign_flip_p(np.array([1.0, -1.0] * 20)) == 1.0


def test_sampled_and_normal_values_are_close_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps = np.random.default_rng(0).normal(0.1, 1.0, 400)
    sampled = sign_flip_p(gaps)
    monkeypatch.setattr(permutation, "SAMPLED", 100)
    assert sampled == pytest.approx(sign_flip_p(gaps), abs=0.008)


def test_the_level_is_held_with_few_skewed_prompts() -> None:
    generator = np.random.default_rng(0)
    rejected = [sign_flip_p(generator.laplace(size=10) ** 3) <= 0.05 for _ in range(500)]
    assert np.mean(rejected) <= 0.07


def test_the_luck_of_draws_makes_a_difference_less_sure() -> None:
    gaps = np.random.default_rng(0).normal(0.3, 1.0, 100)
    luck = 0.2 * np.random.default_rng(1).standard_t(2, 2000)
    assert sign_flip_p(gaps) < 0.05 < sign_flip_p(gaps, luck)
