"""Made-up data whose truth is known: what the coverage of intervals is measured on. It knows no interval.

A draw takes a generator and C, the number of prompts, and returns additive sums [S systems, C, 2] and the truth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Array, float]]


def _means(values: Any) -> Array:  # noqa: ANN401 -- whatever numpy makes an array of
    """Return sums [S, C, 2] of one value a prompt, from [S, C] or [C]."""
    rows = np.atleast_2d(np.asarray(values, np.float64))
    return np.stack([rows, np.ones_like(rows)], axis=-1)


def normal(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Normal values around 0."""
    return _means(g.normal(size=n)), 0.0


def exponential(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Exponential values, skewness 2."""
    return _means(g.exponential(size=n)), 1.0


def lognormal(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Lognormal values with sigma 1, skewness 6: named as what is not held."""
    return _means(np.exp(g.normal(size=n))), float(np.exp(0.5))


def skewed_clusters(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Prompts of 1 to many rows (geometric, mean 2.5) with exponential means of their own."""
    rows = g.geometric(0.4, n)
    sums = rows * g.exponential(size=n) + np.sqrt(rows) * g.normal(scale=0.5, size=n)
    return np.stack([sums, rows], axis=-1)[None].astype(np.float64), 1.0


def difference_normal(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Two systems that share most of their noise."""
    shared = g.normal(size=n)
    return _means([shared + 0.5 * g.normal(size=n) + 0.2, shared + 0.5 * g.normal(size=n)]), 0.2


def difference_long_tails(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Unrelated exponential values: differences with long tails on both sides."""
    return _means([g.exponential(size=n) + 0.3, g.exponential(size=n)]), 0.3


def difference_skewed(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """A gain that is large on some prompts and small on most."""
    shared = g.normal(size=n)
    return _means([shared + 0.5 * g.exponential(size=n), shared + 0.25 * g.normal(size=n)]), 0.5


def share(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Right or wrong."""
    truth = g.uniform(0.1, 0.9)
    return _means(g.random(n) < truth), truth


def win_rate(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Ties in 10 to 50 % of prompts."""
    ties = g.uniform(0.1, 0.5)
    wins = (1 - ties) * g.uniform(0.2, 0.8)
    return _means(g.choice([0.0, 0.5, 1.0], n, p=[1 - ties - wins, ties, wins])), wins + ties / 2


def win_rate_fixed(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Wins, ties and losses at one fixed truth."""
    return _means(g.choice([0.0, 0.5, 1.0], n, p=[0.3, 0.2, 0.5])), 0.6


def against_the_base(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """A share less the one half that the base has by definition."""
    sums, truth = share(g, n)
    return np.concatenate([sums, _means(np.full(n, 0.5))]), truth - 0.5


def _differing(g: np.random.Generator, n: int, few: float, many: float) -> tuple[Array, float]:
    """Two systems that differ on *few* to *many* of the prompts, either being the better one there."""
    rate = g.uniform(few, many)
    gains = rate * g.uniform(0.25, 0.75)
    signs = g.choice([-1.0, 0.0, 1.0], n, p=[rate - gains, 1 - rate, gains])
    shared = g.random(n) < 0.5
    return _means([np.where(signs != 0, signs > 0, shared), np.where(signs != 0, signs < 0, shared)]), 2 * gains - rate


def difference_shares(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Two systems that differ on 20 to 60 % of the prompts."""
    return _differing(g, n, 0.2, 0.6)


def difference_few(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Two systems that differ on 5 to 25 % of the prompts."""
    return _differing(g, n, 0.05, 0.25)


def difference_ties(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Two systems with ties of their own, unrelated."""
    (one, first), (other, second) = win_rate(g, n), win_rate(g, n)
    return np.concatenate([one, other]), first - second


def _rows_of_prompts(g: np.random.Generator, n: int, mean: float, systems: int) -> Array:
    """Return [systems, C, 2]: right answers in 1 to 6 rows a prompt, the prompt's own rate being Beta distributed."""
    rows = g.integers(1, 7, n)
    rates = g.beta(3 * mean, 3 * (1 - mean), n)
    right = g.binomial(rows, rates, (systems, n))
    return np.stack([right, np.broadcast_to(rows, right.shape)], axis=-1).astype(np.float64)


def share_of_clusters(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Right answers in several rows a prompt."""
    truth = g.uniform(0.2, 0.8)
    return _rows_of_prompts(g, n, truth, 1), truth


def difference_of_clusters(g: np.random.Generator, n: int) -> tuple[Array, float]:
    """Two equal systems with several rows a prompt."""
    return _rows_of_prompts(g, n, g.uniform(0.2, 0.8), 2), 0.0


def lucky(spread: float) -> Draw:
    """Return the draw of one arm of three trainings, whose true values spread by *spread*."""

    def draw(g: np.random.Generator, n: int) -> tuple[Array, float]:
        luck = spread * g.normal(size=(3, 1))
        return _means(g.normal(size=n) + 0.5 * g.normal(size=(3, n)) + luck), 0.0

    return draw
