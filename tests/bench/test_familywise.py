"""A fast version of the study of equal arms; the whole one is `python -m bench.familywise`."""

import pytest

from bench.familywise import DESIGNS, equal_arms, found_gains


@pytest.mark.parametrize(
    ("design", "luck"), [("three runs of each", 0.0), ("three runs of each", 0.12), ("three random draws", 0.12)]
)
def test_luck_of_runs_is_seldom_taken_for_a_difference(design: str, luck: float) -> None:
    false, held = equal_arms(DESIGNS[design], 100, luck, runs=200)
    assert false <= 0.08  # 200 runs: 0.05 + 2 sd
    assert held >= 0.92


def test_a_true_difference_is_found_beside_three_random_draws() -> None:
    assert found_gains(DESIGNS["three random draws"], 200, 0.0, runs=60) >= 0.6


def test_one_run_of_each_would_take_luck_for_a_difference() -> None:
    assert equal_arms(dict.fromkeys(DESIGNS["three runs of each"], 1), 100, 0.25, runs=60)[0] > 0.3
