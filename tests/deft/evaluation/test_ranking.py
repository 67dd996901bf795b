"""Rankings of systems whose strengths are known."""

import numpy as np
import pytest
from scipy import stats

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


def _two_alike(prompts: int, score: float) -> list[Outcome]:
    return [Outcome(prompt, "a", "b", score) for prompt in range(prompts)]


@pytest.mark.parametrize(("prompts", "worst"), [(1, 2), (5, 1), (20, 1)])
def test_two_systems_that_one_always_wins_between_have_the_interval_of_such_a_share(prompts: int, worst: int) -> None:
    """The share won of C prompts is Beta(C + 0.6, 0.6), whose points are 200 log10 of its odds on either side of 0."""
    first, second = rank(_two_alike(prompts, 1.0), resamples=2000)
    low, high = (
        200 * np.log10(share / (1 - share)) for share in stats.beta.ppf([0.025, 0.975], prompts + 0.6, [0.6, 0.6])
    )
    assert first.low == pytest.approx(low, abs=12 + 0.05 * abs(low))
    assert first.high > first.strength + 100
    assert first.high == pytest.approx(high, rel=0.15)
    assert (second.low, second.high) == pytest.approx((-first.high, -first.low))
    assert (first.best_place, first.worst_place) == (1, worst)


@pytest.mark.parametrize("prompts", [1, 5, 20])
def test_few_prompts_that_agree_on_three_systems_are_not_taken_for_certain(prompts: int) -> None:
    won = [Outcome(prompt, *pair, 1.0) for prompt in range(prompts) for pair in ("ab", "ac", "bc")]
    found = rank(won, resamples=300)
    assert [each.system for each in found] == ["a", "b", "c"]
    for each in found:
        assert each.low < each.strength - 30 < each.strength + 30 < each.high
        assert each.best_place <= each.place <= each.worst_place
    middle = found[1]
    assert (middle.best_place == middle.worst_place) == (prompts == 20)


def test_ties_alone_leave_room_to_either_side() -> None:
    few, many = (rank(_two_alike(prompts, 0.5), resamples=1000) for prompts in (5, 20))
    for each in (*few, *many):
        assert (each.strength, each.place) == (pytest.approx(0.0), 1)
        assert each.low < -10 < 10 < each.high
        assert each.low == pytest.approx(-each.high, rel=0.3)
        assert (each.best_place, each.worst_place) == (1, 2)
    assert few[0].high > 2 * many[0].high


@pytest.mark.parametrize("points", [{"a": 25.0, "b": -25.0}, {"a": 100.0, "b": 0.0, "c": -100.0}])
def test_intervals_of_few_prompts_hold_the_truth(points: dict[str, float]) -> None:
    """A smaller repetition of what docs/diary.md tells: 0.93 to 0.98 of those of 8 and 16 prompts held it."""
    held = [
        each.low <= points[each.system] <= each.high
        for run in range(60)
        for each in rank(_played(points, 12, seed=run), resamples=60, seed=run)
    ]
    assert 0.9 <= np.mean(held) <= 0.99


def test_systems_that_were_never_compared_have_no_order() -> None:
    apart = [*_two_alike(20, 1.0), *(Outcome(prompt, "c", "d", 1.0) for prompt in range(20))]
    with pytest.raises(ValueError, match="c, d: never compared with a"):
        rank(apart)
    through_another = rank([*apart, Outcome(20, "b", "c", 1.0)], resamples=20)
    assert [each.system for each in through_another] == ["a", "b", "c", "d"]


def test_prompts_of_many_outcomes_are_no_more_sure_than_of_one() -> None:
    """A prompt that was answered four times is one prompt: its strengths' intervals are those of one outcome each."""
    once = rank(_two_alike(8, 1.0), resamples=400)
    often = rank([Outcome(prompt // 4, "a", "b", 1.0) for prompt in range(32)], resamples=400)
    assert (often[0].low, often[0].high) == pytest.approx((once[0].low, once[0].high))
