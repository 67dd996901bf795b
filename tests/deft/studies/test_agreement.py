"""Krippendorff's alpha against his own published examples, and against a loop over all pairs of values."""

import itertools

import numpy as np
import pytest

from deft.evaluation.intervals import estimate, resample
from deft.studies.agreement import alpha, coincidences, interval, is_defined, nominal

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


def test_it_has_an_interval_by_resampling_units():
    units = coincidences(UNITS * 5, 5)
    found = estimate(resample(units[None], alpha(nominal(5)), resamples=500, seed=1), [0], bounds=(-1.0, 1.0))
    assert found.low < found.value < found.high <= 1
    assert found.value == pytest.approx(alpha_of(UNITS * 5, nominal(5)))
