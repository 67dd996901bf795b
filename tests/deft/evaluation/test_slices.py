"""Slices by source: the parts of a whole."""

import numpy as np
import pytest

from deft.evaluation.metrics import Measurement, Who, measure_mean
from deft.evaluation.slices import by_source

VALUES = np.array([1.0, 2.0, 3.0, 4.0])
CLUSTERS = ["p", "p", "q", "r"]


def _mean() -> Measurement:
    return measure_mean("length", Who("x", "x"), VALUES, CLUSTERS)


def test_a_slice_holds_the_rows_of_its_source_alone() -> None:
    found = {m.slice: m for m in by_source([_mean()], ["hh", "other", "hh", None])}
    assert set(found) == {"source:hh", "source:other", "source:"}
    assert found["source:hh"].sums.sum(axis=0).tolist() == [4.0, 2.0]
    assert found["source:hh"].n == 2
    assert found["source:other"].sums.tolist() == [[2.0, 1.0]]
    assert sum(m.sums.sum(axis=0) for m in found.values()) == pytest.approx(_mean().sums.sum(axis=0))


def test_rows_of_one_source_have_no_slices() -> None:
    assert by_source([_mean()], ["hh"] * 4) == []
    assert by_source([_mean()], [None] * 4) == []
