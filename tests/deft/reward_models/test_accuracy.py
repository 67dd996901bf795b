"""Held-out accuracy with known answers, and when a reward model counts as valid."""

import numpy as np
import pytest

from deft.reward_models.accuracy import accuracy_of, by_source, share_in_order

SETTINGS = {"bootstrap": 500, "seed": 0}


def _rows(pairs: list[tuple[float, float]]) -> list[np.ndarray]:
    return [np.array(pair) for pair in pairs]


def test_a_list_counts_all_its_pairs_and_a_tie_one_half() -> None:
    assert share_in_order(np.array([3.0, 2.0, 1.0])) == 1
    assert share_in_order(np.array([3.0, 1.0, 2.0])) == pytest.approx(2 / 3)
    assert share_in_order(np.array([1.0, 1.0])) == 0.5


def test_a_row_counts_once_whatever_its_pairs() -> None:
    rewards = [np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0])]
    found = accuracy_of(rewards, [np.ones(3), np.ones(2)], ["p", "q"], **SETTINGS)
    assert found.accuracy.value == pytest.approx(0.5)
    assert (found.pairs, found.rows, found.prompts) == (4, 2, 2)


def test_the_length_baseline_is_the_better_of_both_directions() -> None:
    longer = _rows([(9.0, 2.0)] * 7 + [(1.0, 5.0)] * 3)
    found = accuracy_of(_rows([(1.0, 0.0)] * 10), longer, list(range(10)), **SETTINGS)
    assert (found.baseline, found.baseline_prefers) == (pytest.approx(0.7), "longer")


@pytest.mark.parametrize(("right", "is_valid"), [(40, True), (24, False)])
def test_valid_is_what_is_better_than_lengths_by_the_lower_end(right: int, is_valid: bool) -> None:
    """The shorter response is the better one in 20 of 40 rows."""
    rewards = _rows([(1.0, 0.0)] * right + [(0.0, 1.0)] * (40 - right))
    tokens = _rows([(1.0, 2.0)] * 20 + [(2.0, 1.0)] * 20)
    found = accuracy_of(rewards, tokens, list(range(40)), **SETTINGS)
    assert found.accuracy.low is not None
    assert found.accuracy.low < found.accuracy.value or right == 40
    assert found.baseline == 0.5
    assert found.is_valid is is_valid


def test_a_reward_model_that_only_knows_lengths_is_not_valid() -> None:
    tokens = _rows([(1.0, 2.0)] * 30 + [(2.0, 1.0)] * 10)
    found = accuracy_of([-row for row in tokens], tokens, list(range(40)), **SETTINGS)
    assert found.accuracy.value == found.baseline == 0.75
    assert not found.is_valid


def test_rows_of_one_prompt_widen_the_interval() -> None:
    rewards = _rows([(1.0, 0.0)] * 30 + [(0.0, 1.0)] * 10)
    tokens = _rows([(1.0, 1.0)] * 40)
    apart = accuracy_of(rewards, tokens, list(range(40)), **SETTINGS).accuracy
    together = accuracy_of(rewards, tokens, [at // 5 for at in range(40)], **SETTINGS).accuracy
    assert apart.value == together.value
    assert apart.low is not None
    assert together.low is not None
    assert together.low < apart.low


def test_sources_are_told_apart() -> None:
    rewards = _rows([(1.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
    found = by_source(rewards, _rows([(1.0, 1.0)] * 3), [0, 1, 2], ["a", "b", None], **SETTINGS)
    assert {name: each.accuracy.value for name, each in found.items()} == {"": 1.0, "a": 1.0, "b": 0.0}
    assert by_source(rewards, _rows([(1.0, 1.0)] * 3), [0, 1, 2], ["a"] * 3, **SETTINGS) == {}
