"""Judges whose taste for length is known go in; what they would say of equal lengths comes out."""

import numpy as np
import pytest

from deft.judges.lengths import length_controlled, one_sided
from deft.judges.statistics import Sampling, mean_of

HOW = Sampling(400, 1)


def sigmoid(value: np.ndarray | float) -> np.ndarray | float:
    return 1 / (1 + np.exp(-value))


def controlled(outcomes: np.ndarray, longer_by: np.ndarray, how: Sampling = HOW):
    return length_controlled(outcomes.tolist(), longer_by.tolist(), list(range(len(outcomes))), how)


def test_length_control_takes_length_away() -> None:
    """A judge of length alone: the system is longer in 80 %, wins 80 %, and nothing is left at equal lengths."""
    generator = np.random.default_rng(0)
    longer_by = np.where(np.arange(300) % 5 > 0, 1, -1) * generator.integers(1, 400, 300)
    outcomes = (longer_by > 0).astype(float)
    found = controlled(outcomes, longer_by)
    assert outcomes.mean() == pytest.approx(0.8)
    assert found.value == pytest.approx(0.5, abs=0.06)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("lead", [-300, 150, 300])
def test_a_judge_of_length_alone_is_taken_to_one_half_wherever_the_lengths_lie(lead: int) -> None:
    longer_by = np.random.default_rng(2).normal(lead, 300, 400).round()
    found = controlled((longer_by > 0).astype(float), longer_by)
    assert found.value == pytest.approx(0.5, abs=0.05)
    assert found.low < 0.5 < found.high


def test_length_control_leaves_quality() -> None:
    generator = np.random.default_rng(3)
    longer_by = generator.integers(-300, 500, 2000)
    chance = sigmoid(0.8 + 1.0 * np.tanh(longer_by / longer_by.std()))
    found = controlled((generator.random(2000) < chance).astype(float), longer_by)
    assert found.value == pytest.approx(sigmoid(0.8), abs=0.04)


def test_ties_do_not_bend_the_line_of_a_judge_with_a_strong_taste_for_length() -> None:
    generator = np.random.default_rng(4)
    longer_by = generator.normal(200, 300, 6000).round()
    chance = sigmoid(1.2 + 5.0 * np.tanh(longer_by / np.sqrt((longer_by**2).mean())))
    outcomes = np.where(generator.random(6000) < 0.4, 0.5, generator.random(6000) < chance)
    found = controlled(outcomes, longer_by)
    truth = 0.2 + 0.6 * float(sigmoid(1.2))
    assert found.value == pytest.approx(truth, abs=0.025)
    assert found.low < truth < found.high


def test_a_judge_without_a_taste_for_length_keeps_its_win_rate() -> None:
    generator = np.random.default_rng(5)
    outcomes = generator.choice([0.0, 0.5, 1.0], 1500, p=[0.2, 0.2, 0.6])
    found = controlled(outcomes, generator.normal(100, 300, 1500).round())
    assert found.value == pytest.approx(float(outcomes.mean()), abs=0.02)


def test_at_equal_lengths_it_is_the_win_rate_with_its_interval() -> None:
    outcomes = np.array([1.0] * 70 + [0.0] * 30)
    found = controlled(outcomes, np.zeros(100), Sampling(4000, 0))
    plain = mean_of(outcomes.tolist(), list(range(100)), Sampling(4000, 0))
    assert found.value == pytest.approx(0.7, abs=0.01)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.015)


@pytest.mark.parametrize(("ties", "slope"), [(0.0, 4.0), (0.4, 3.0)])
def test_its_interval_holds_the_truth_with_few_pairs_and_a_strong_taste_for_length(ties: float, slope: float) -> None:
    generator, held = np.random.default_rng(6), 0
    for run in range(150):
        quality, longer_by = generator.uniform(-1.2, 1.2), generator.normal(0.5, 1, 16)
        chance = sigmoid(quality + slope * np.tanh(longer_by / np.sqrt(1.25)))
        outcomes = np.where(generator.random(16) < ties, 0.5, generator.random(16) < chance)
        found = controlled(outcomes, longer_by, Sampling(400, run))
        held += found.low <= ties / 2 + (1 - ties) * sigmoid(quality) <= found.high
    assert held >= 0.9 * 150


def test_rows_of_one_prompt_are_not_taken_for_many() -> None:
    generator = np.random.default_rng(7)
    longer_by = generator.normal(100, 300, 60).round()
    outcomes = (generator.random(60) < 0.6).astype(float)
    once, twice, apart = (
        length_controlled(
            np.tile(outcomes, times).tolist(), np.tile(longer_by, times).tolist(), clusters, Sampling(4000, 0)
        )
        for times, clusters in ((1, list(range(60))), (2, list(range(60)) * 2), (2, list(range(120))))
    )
    wide, paired, narrow = (each.high - each.low for each in (once, twice, apart))
    assert paired == pytest.approx(wide, rel=0.12)
    assert narrow < 0.8 * wide


def test_rows_of_a_lone_prompt_say_little() -> None:
    outcomes, longer_by = [1.0, 0.0, 1.0, 1.0] * 4, list(range(-8, 8))
    lone = length_controlled(outcomes, longer_by, [0] * 16, HOW)
    many = length_controlled(outcomes, longer_by, list(range(16)), HOW)
    assert lone.high - lone.low > 0.9 > 0.6 > many.high - many.low


def test_ties_of_a_system_that_mostly_wins_go_with_losses_of_the_same_prompt() -> None:
    """A tie takes as much off a rate above one half as a loss does: prompts of both say less than their rows."""
    prompts = [(1.0, 1.0)] * 20 + [(0.0, 0.5)] * 10
    outcomes, clusters = [each for own in prompts for each in own], [place // 2 for place in range(60)]
    found = length_controlled(outcomes, [0.0] * 60, clusters, Sampling(4000, 0))
    plain = mean_of(outcomes, clusters, Sampling(4000, 0))
    assert plain.value == pytest.approx(0.75)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.015)


def test_few_prompts_of_rows_that_are_all_alike_are_worth_less_than_one_row_each() -> None:
    """Four prompts of three rows each: three times the variance, and 4 / 3 for so few prompts: logits twice as far."""
    outcomes, length = [1.0] * 9 + [0.0] * 3, [0.0] * 12
    together, apart = (
        length_controlled(outcomes, length, clusters, HOW) for clusters in ([n // 3 for n in range(12)], range(12))
    )
    spans = [np.log(each.high / (1 - each.high)) - np.log(each.low / (1 - each.low)) for each in (together, apart)]
    assert spans[0] / spans[1] == pytest.approx(2, abs=0.001)


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_outcomes_that_are_all_alike_have_an_interval(outcome: float) -> None:
    found = controlled(np.full(12, outcome), np.arange(-4, 8))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.1


@pytest.mark.parametrize(
    ("longer", "equal", "shorter", "told"),
    [
        (50, 0, 0, "longer in 100 % of pairs"),
        (49, 0, 1, "longer in 98 % of pairs"),
        (16, 0, 4, "longer in 80 % of pairs"),
        (4, 0, 46, "shorter in 92 % of pairs"),
        (190, 0, 10, "longer in 95 % of pairs"),
        (45, 0, 5, None),
        (45, 3, 2, None),
        (0, 50, 0, None),
        (25, 0, 25, None),
    ],
)
def test_lengths_that_lie_on_one_side_say_so(longer: int, equal: int, shorter: int, told: str | None) -> None:
    longer_by = [30.0] * longer + [0.0] * equal + [-20.0] * shorter
    why = one_sided(longer_by, range(len(longer_by)))
    assert (why is None) if told is None else (why is not None and told in why)


def test_sides_are_counted_in_prompts_not_in_rows() -> None:
    longer_by, prompts = [10.0] * 40 + [-10.0] * 20, [*range(40), *([40, 41] * 10)]
    assert "2 of 42 prompts are otherwise" in (one_sided(longer_by, prompts) or "")
    assert one_sided(longer_by, range(60)) is None
