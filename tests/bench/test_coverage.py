"""A fast version of the coverage study, with fixed seeds; the whole one is `make coverage`."""

import numpy as np
import pytest

from bench.coverage import KINDS, covered, text


@pytest.mark.parametrize(
    ("kind", "prompts"),
    [
        ("mean_normal", 8),
        ("mean_exponential", 16),
        ("mean_skewed_clusters", 32),
        ("difference_normal", 8),
        ("difference_long_tails", 16),
        ("share", 8),
        ("share_of_clusters", 16),
        ("win_rate_with_ties", 8),
        ("difference_of_shares", 16),
        ("difference_with_ties", 16),
        ("three_draws_apart", 32),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str, prompts: int) -> None:
    found = covered(KINDS[kind], prompts, runs=400, resamples=999, seed=1)
    assert 0.92 <= found["covered"] <= 0.98  # 400 runs: nearly three standard deviations of the simulation


def test_few_pairs_that_differ_are_held_at_least_as_often() -> None:
    assert covered(KINDS["difference_few_differ"], 16, runs=300, resamples=400)["covered"] >= 0.925


def test_an_interval_that_is_too_short_would_be_seen() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(size=(2000, 8))
    error = values.std(axis=1) / np.sqrt(8)
    naive = np.abs(values.mean(axis=1) - 1) <= 1.96 * error
    assert naive.mean() < 0.88


def test_the_page_shows_what_was_measured_and_a_dash_for_what_was_not() -> None:
    page = text({"share": {"8": {"covered": 0.951}}})
    assert "| share | 0.951 | - | - | - | - |" in page
    page = text({"share": {"8": {"covered": 0.97}, "32": {"covered": 0.94}}, "mean_normal": {"64": {"covered": 0.961}}})
    assert "1 of 3 cells, 1 of 2 with 32 prompts and more" in page


@pytest.mark.parametrize(
    ("kind", "prompts"),
    [
        ("judge_win_rate_in_both_orders", 16),
        ("judge_agreement_with_people", 16),
        ("length_controlled", 16),
        ("length_controlled_strong", 32),
        ("length_controlled_in_orders", 16),
        ("study_win_rate", 16),
        ("alpha_of_two_raters", 16),
        ("alpha_of_several_raters", 32),
        ("increase_of_over_refusal", 16),
    ],
)
def test_what_judges_and_raters_say_is_held_as_often(kind: str, prompts: int) -> None:
    assert 0.9 <= covered(KINDS[kind], prompts, runs=150, resamples=400, seed=1)["covered"] <= 0.99
