"""Rankings of systems whose strengths are known."""

import numpy as np
import pytest

from deft.evaluation.intervals import ratio, resample
from deft.evaluation.ranking import Outcome, outcomes_of, rank, strengths


def _played(points: dict[str, float], prompts: int, seed: int = 0) -> list[Outcome]:
    """Every pair of systems on every prompt, won with the odds that Elo's scale says."""
    generator = np.random.default_rng(seed)
    names = list(points)
    found = []
    for prompt in range(prompts):
        for place, first in enumerate(names):
            for second in names[place + 1 :]:
                odds = 1 / (1 + 10 ** ((points[second] - points[first]) / 400))
                found.append(Outcome(prompt, first, second, float(generator.random() < odds)))
    return found


def test_known_strengths_come_out_in_order() -> None:
    points = {"weak": -150.0, "middle": 0.0, "strong": 150.0}
    found = rank(_played(points, 300), resamples=200)
    assert [each.system for each in found] == ["strong", "middle", "weak"]
    assert [each.place for each in found] == [1, 2, 3]
    for each in found:
        assert each.strength == pytest.approx(points[each.system], abs=45)
        assert each.low < each.strength < each.high < each.low + 100
        assert each.outcomes == 600


def test_two_systems_are_the_odds_of_their_wins() -> None:
    first, second = strengths(np.array([[0.0, 75.0], [25.0, 0.0]]))
    assert first - second == pytest.approx(400 * np.log10(75.5 / 25.5), abs=0.5)
    assert first + second == pytest.approx(0.0)


def test_equal_systems_may_stand_in_any_place() -> None:
    found = rank(_played(dict.fromkeys("abc", 0.0), 40), resamples=200)
    assert {each.best_place for each in found} <= {1, 2}
    assert max(each.worst_place for each in found) == 3
    assert all(each.low <= 0 <= each.high for each in found)


def test_a_system_that_always_wins_has_a_finite_strength_and_ties_are_half_a_win() -> None:
    found = rank([Outcome(p, "a", "b", 1.0) for p in range(20)] + [Outcome(0, "b", "c", 0.5)], resamples=50)
    assert found[0].system == "a"
    assert np.isfinite(found[0].strength)
    assert {each.system: each.wins for each in found} == {"a": 20.0, "b": 0.5, "c": 0.5}


def test_nothing_compared_is_nothing_ranked() -> None:
    assert rank([]) == []


def test_outcomes_are_read_off_the_value_of_each_prompt_and_draws_are_averaged() -> None:
    values = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    sums = np.stack([values, np.ones_like(values)], axis=-1)
    found = outcomes_of(resample(sums, ratio, resamples=10, seed=0), [("one", [0]), ("two", [1, 2])])
    assert [(each.prompt, each.score) for each in found] == [(0, 1.0), (1, 0.5), (2, 0.0)]
