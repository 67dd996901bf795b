"""Krippendorff's alpha: how far raters agree beyond chance, any number of them, with gaps. Numpy and scipy only.

Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections A to D. Units contribute additive
coincidences, so that alpha is a statistic of sums; its interval is a Bayesian bootstrap over units (`alpha_sample`).

Letters: U units (items), C categories, R draws.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from deft.evaluation.intervals import Array, Statistic
from deft.planning.power import LEVEL, UNSEEN

TAIL = (1 - LEVEL) / 2
WEIGHTS_AT_ONCE = 2_000_000


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


def alpha_interval(units: Array, raters: Array, differences: Array, *, draws: int, seed: int) -> tuple[float, float]:
    """Return the ends of alpha's 95 % interval over *units* [U, C * C] (coincidences) of so many *raters* [U].

    Quantiles of `alpha_sample`. What two raters said of a unit is one of few things, and the made-up units of that
    sample make up for few units; what more raters said is closer to a measured value, for which Student's t would be
    as much longer as u = t / z * sqrt(U / (U - 1)) says. The more units have three raters and more, the closer to
    sqrt(u) times the sample's spread the interval is (ours).
    """
    number = len(units)
    sample = alpha_sample(units, differences, draws=draws, seed=seed)
    value = float(alpha(differences)(units.sum(axis=0)))
    if number > 1:
        student = stats.t.ppf(1 - TAIL, number - 1) / stats.norm.ppf(1 - TAIL) * np.sqrt(number / (number - 1))
        several = float((raters > 2).mean())
        middle = np.median(sample)
        sample = middle + (sample - middle) * (1 + several * (np.sqrt(student) - 1))
    low, high = (float(end) for end in np.quantile(sample, [TAIL, 1 - TAIL]))
    return max(-1.0, min(low, value)), min(1.0, max(high, value))


def alpha_sample(units: Array, differences: Array, *, draws: int, seed: int) -> Array:
    """Return a sample [*draws*] of where alpha of all items like *units* [U, C * C] may lie.

    Units get exponential weights (Rubin 1981, doi 10.1214/aos/1176345338). As of shares (`deft.evaluation.confidence`)
    `UNSEEN` units more are taken as seen at either end: two raters who agree, and two who do not, on any of the
    categories that occur. What two values of different units differ by is taken without the pairs within a unit, which
    weights make the more of the fewer units there are.
    """
    categories = len(differences)
    matrices = np.concatenate([units, _made_up(units, categories)]).reshape(-1, categories, categories)
    margins = matrices.sum(axis=2)
    sizes = margins.sum(axis=1)
    within = np.einsum("uc,uk,ck->u", margins, margins, differences)
    observed = (matrices * differences).sum(axis=(1, 2))
    generator, found = np.random.default_rng([seed, 6]), []
    step = max(1, WEIGHTS_AT_ONCE // len(matrices))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = np.hstack(
            [generator.standard_exponential((size, len(units))), generator.gamma(UNSEEN, size=(size, 2))]
        )
        totals, squares, values = weights @ margins, weights**2, weights @ sizes
        between = np.einsum("rc,rk,ck->r", totals, totals, differences) - squares @ within
        pairs = values**2 - squares @ sizes**2
        found.append(1 - (weights @ observed) / values * pairs / np.maximum(between, 1e-12))
    return np.concatenate(found)


def _made_up(units: Array, categories: int) -> Array:
    """Return [2, C * C]: the mean coincidences of two raters who agree, and of two who do not."""
    occur = units.sum(axis=0).reshape(categories, categories).sum(axis=1) > 0
    pairs = np.outer(occur, occur).astype(np.float64)
    same, other = pairs * np.eye(categories), pairs * (1 - np.eye(categories))
    return np.stack([2 * each.ravel() / each.sum() for each in (same, other)])
