"""Krippendorff's alpha: how far raters agree beyond chance, any number of them, with gaps. Numpy only.

Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections A to D. Units contribute additive
coincidences, so that alpha is a statistic of sums and has a bootstrap interval over units (deft.evaluation.intervals).

Letters: U units (items), C categories.
"""

from collections.abc import Sequence

import numpy as np

from deft.evaluation.intervals import Array, Statistic


def coincidences(units: Sequence[Sequence[int]], categories: int) -> Array:
    """Return [U, C * C] (float64): what each unit adds to the coincidence matrix.

    *units* hold the categories (0..C-1) that raters gave to each. A unit with fewer than two values adds nothing; one
    with m values adds n_c * (n_k - [c = k]) / (m - 1) to the cell (c, k).
    """
    counts = np.zeros((len(units), categories))
    for unit, values in enumerate(units):
        np.add.at(counts[unit], np.asarray(values, dtype=np.int64), 1)
    ordered = counts[:, :, None] * counts[:, None, :] - np.eye(categories) * counts[:, :, None]
    values_of = counts.sum(axis=1)
    pairable = np.where(values_of > 1, 1 / np.maximum(values_of - 1, 1), 0.0)
    found: Array = (ordered * pairable[:, None, None]).reshape(len(units), categories * categories)
    return found


def nominal(categories: int) -> Array:
    """Return [C, C]: squared differences of names: 0 for equal ones, else 1."""
    return 1 - np.eye(categories)


def interval(values: Sequence[float]) -> Array:
    """Return [C, C]: squared differences of the numbers that the categories stand for."""
    numbers = np.asarray(values, dtype=np.float64)
    squared: Array = (numbers[:, None] - numbers[None, :]) ** 2
    return squared


def alpha(differences: Array) -> Statistic:
    """Return the statistic that maps summed coincidences [..., C * C] to alpha [...], under squared *differences*.

    alpha = 1 - (n - 1) * sum_ck o_ck d_ck / sum_ck n_c n_k d_ck. Where no two values differ nothing can be said of
    chance; it is 1 there (see `is_defined`).
    """

    def statistic(sums: Array) -> Array:
        matrix = sums.reshape(*sums.shape[:-1], *differences.shape)
        margins = matrix.sum(axis=-1)
        observed = (matrix * differences).sum(axis=(-2, -1))
        expected = (margins[..., :, None] * margins[..., None, :] * differences).sum(axis=(-2, -1))
        share = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
        found: Array = 1 - (margins.sum(axis=-1) - 1) * share
        return found

    return statistic


def is_defined(sums: Array, differences: Array) -> bool:
    """Whether the values of all units, summed to *sums* [C * C], differ at all: else alpha says nothing."""
    margins = sums.reshape(differences.shape).sum(axis=-1)
    return bool((margins[:, None] * margins[None, :] * differences).sum() > 0)
