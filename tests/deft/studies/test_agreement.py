"""Krippendorff's alpha against his own published examples, and against a loop over all pairs of values."""

import itertools

import numpy as np
import pytest
from scipy import stats

from deft.studies import agreement
from deft.studies.agreement import (
    alpha,
    alpha_interval,
    alpha_sample,
    coincidences,
    interval,
    is_defined,
    nominal,
)

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
UNITS = [[value - 1 for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]


def alpha_of(units, differences):
    return float(alpha(differences)(coincidences(units, len(differences)).sum(axis=0)))


def test_the_published_example_with_gaps():
    assert alpha_of(UNITS, nominal(5)) == pytest.approx(0.743, abs=5e-4)
    assert alpha_of(UNITS, interval([1, 2, 3, 4, 5])) == pytest.approx(0.849, abs=5e-4)


def test_the_published_example_of_two_observers_and_two_values():
    # Section A: ten units, alpha 0.095.
    one, other = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert alpha_of(list(zip(one, other, strict=True)), nominal(2)) == pytest.approx(0.095, abs=5e-4)


def test_the_published_example_of_two_observers_and_five_values():
    # Section B: twelve units of names a to e.
    one, other = "aabbdcccedda", "babbbccceddd"
    units = [["abcde".index(a), "abcde".index(b)] for a, b in zip(one, other, strict=True)]
    assert alpha_of(units, nominal(5)) == pytest.approx(0.692, abs=5e-4)


def naive(units, differences):
    """Alpha by its definition: mean difference within units over mean difference between any two values."""
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    within = sum(
        differences[a, b] / (len(unit) - 1) for unit in paired for a, b in itertools.permutations(unit, 2)
    ) / len(values)
    between = sum(differences[a, b] for a, b in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - within / between


def test_it_is_the_definition_on_random_values():
    generator = np.random.default_rng(1)
    units = [generator.integers(4, size=size).tolist() for size in generator.integers(5, size=60)]
    for differences in (nominal(4), interval([1.0, 0.5, 0.5, 0.0])):
        assert alpha_of(units, differences) == pytest.approx(naive(units, differences))


def test_agreement_is_one_and_the_opposite_is_below_zero():
    assert alpha_of([[0, 0], [1, 1], [2, 2]], nominal(4)) == 1
    assert alpha_of([[0, 1], [1, 0]] * 10, nominal(2)) < 0


def test_random_raters_agree_by_chance_alone():
    generator = np.random.default_rng(3)
    units = generator.integers(4, size=(4000, 2)).tolist()
    assert abs(alpha_of(units, nominal(4))) < 0.03


def test_units_without_two_values_say_nothing():
    units = [[0, 1], [2], []]
    assert alpha_of(units, nominal(3)) == alpha_of([[0, 1]], nominal(3))
    assert coincidences([[2], []], 3).sum() == 0


def test_values_that_never_differ_define_no_alpha():
    assert not is_defined(coincidences([[1, 1], [1, 1]], 3).sum(axis=0), nominal(3))
    assert is_defined(coincidences([[1, 1], [2, 2]], 3).sum(axis=0), nominal(3))


def interval_of(units, differences, seed=1):
    raters = np.array([len(unit) for unit in units])
    return alpha_interval(coincidences(units, len(differences)), raters, differences, draws=2000, seed=seed)


def test_it_has_an_interval_over_units():
    low, high = interval_of(UNITS * 5, nominal(5))
    assert low < alpha_of(UNITS * 5, nominal(5)) < high <= 1
    assert interval_of(UNITS * 5, nominal(5)) == (low, high)
    assert interval_of(UNITS * 20, nominal(5))[0] > low


def test_few_units_that_all_agree_are_not_taken_for_certain():
    low, high = interval_of([[0, 0], [1, 1], [0, 0], [1, 1]], nominal(2))
    assert high == 1
    assert low < 0.6
    assert interval_of([[0, 0], [1, 1]] * 100, nominal(2))[0] > 0.9
    assert interval_of([[0, 1]], nominal(2))[1] > 0


def test_the_sample_lies_around_the_value_and_comes_in_pieces(monkeypatch):
    units = coincidences(UNITS * 20, 5)
    sample = alpha_sample(units, nominal(5), draws=2000, seed=0)
    assert sample.mean() == pytest.approx(alpha_of(UNITS * 20, nominal(5)), abs=0.02)
    monkeypatch.setattr(agreement, "WEIGHTS_AT_ONCE", 10_000)
    assert alpha_sample(units, nominal(5), draws=2000, seed=0).mean() == pytest.approx(sample.mean(), abs=0.01)


@pytest.mark.parametrize(("raters", "prompts"), [(2, 12), (4, 12)])
def test_its_interval_holds_a_known_alpha_and_is_not_longer_than_it_must_be(raters, prompts):
    """Raters who are honest at a chance of 0.7, and else say what is said of another item: alpha is 0.49."""
    generator, held, widths = np.random.default_rng(0), 0, []
    for run in range(200):
        true = generator.integers(3, size=(prompts, 1))
        honest = generator.random((prompts, raters)) < 0.7
        units = np.where(honest, true, generator.integers(3, size=(prompts, raters))).tolist()
        low, high = interval_of(units, nominal(3), run)
        held += low <= 0.49 <= high
        widths.append(high - low)
    assert held >= 0.9 * 200
    assert np.median(widths) < {2: 0.85, 4: 0.58}[raters]


@pytest.mark.parametrize("several", [0.0, 0.5, 1.0])
def test_the_interval_is_longer_the_more_units_have_three_raters_and_more(several):
    units = coincidences(UNITS * 2, 5)
    raters = np.where(np.arange(len(units)) < several * len(units), 3, 2)
    low, high = alpha_interval(units, raters, nominal(5), draws=2000, seed=0)
    sample = alpha_sample(units, nominal(5), draws=2000, seed=0)
    first, last = np.quantile(sample, [0.025, 0.975])
    number = len(units)
    student = stats.t.ppf(0.975, number - 1) / stats.norm.ppf(0.975) * np.sqrt(number / (number - 1))
    assert high < 1
    assert (high - low) / (last - first) == pytest.approx(1 + several * (np.sqrt(student) - 1), rel=1e-9)
    assert student > 1.05
