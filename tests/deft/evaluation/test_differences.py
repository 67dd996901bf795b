import pytest

from deft.evaluation.differences import Change, Value, less, turned


def test_two_intervals_make_that_of_the_difference():
    found = less(Value(5.0, 2.0, 9.0), Value(1.0, -3.0, 4.0))
    assert (found.value, found.low, found.high) == (
        4.0,
        pytest.approx(4 - (9 + 9) ** 0.5),
        pytest.approx(4 + (16 + 16) ** 0.5),
    )
    assert not found.is_paired


def test_an_interval_that_is_not_known_leaves_none():
    assert less(Value(5.0, None, 9.0), Value(1.0, 0.0, 2.0)) == Change(4.0, None, None, is_paired=False)


def test_a_difference_from_the_other_side_has_its_ends_exchanged():
    assert turned(Change(2.0, 1.5, 4.0, is_paired=True)) == Change(-2.0, -4.0, -1.5, is_paired=True)
    assert turned(Change(2.0, None, 4.0, is_paired=False)) == Change(-2.0, -4.0, None, is_paired=False)
