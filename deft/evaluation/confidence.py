"""Where a true value may lie, as a sample that intervals are cut from. Numpy and scipy only; no metric, no arm.

Unbounded values are studentised: resamples say how far an estimate strays in units of its own standard error, so that
few or skewed prompts make long enough intervals. Shares whose prompts all stand at an end or in the middle of their
range (right, wrong, tie) say too little for that and get a Bayesian bootstrap in which a little more than half a prompt
was seen at either end (or as far out as prompts are, `reach`); for right and wrong alone that is close to Jeffreys'
interval. Shares in between are mixed.

Letters: C clusters (prompts), R resamples. How often the intervals hold the truth: bench/results/coverage.md.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deft.planning.power import UNSEEN

Array = NDArray[np.float64]

WEIGHTS_AT_ONCE = 4_000_000
"""Resampling weights held in memory at a time."""

MANY = 1_000
"""Prompts from which on standard errors hardly differ between resamples, and are taken as one."""

LONGEST = 4.0
"""A studentised deviate counts as at most so many times Student's 97.5 % quantile: a resample of equal values has no
standard error of its own."""

SKEWED = (0.7, 1.5)
"""Skewness of prompts from which, and from which fully, the longer of two studentised samples is taken."""


def weights(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[Any]]:
    """Yield how often each cluster is drawn, with replacement, in each resample: [<= R, C] at a time."""
    if clusters * resamples <= WEIGHTS_AT_ONCE:
        yield _drawn_at_once(clusters, resamples, seed)
        return
    generator = np.random.default_rng(seed)
    step = max(1, WEIGHTS_AT_ONCE // clusters)
    for start in range(0, resamples, step):
        yield _drawn(clusters, min(step, resamples - start), generator)


@lru_cache(maxsize=2)
def _drawn_at_once(clusters: int, resamples: int, seed: int) -> NDArray[Any]:
    """Return all weights; kept, since every number of an evaluation asks for the same ones."""
    return _drawn(clusters, resamples, np.random.default_rng(seed))


def _drawn(clusters: int, resamples: int, generator: np.random.Generator) -> NDArray[Any]:
    places = generator.integers(clusters, size=(resamples, clusters))
    places += clusters * np.arange(resamples)[:, None]
    counted = np.bincount(places.ravel(), minlength=resamples * clusters)
    return counted.reshape(resamples, clusters).astype(np.int16 if clusters < 2**15 else np.int32)


def standard_error(prompts: Array) -> float:
    """Return the standard error of the mean of *prompts* [C], C > 1."""
    return float(prompts.std(ddof=1) / np.sqrt(len(prompts)))


def standard_errors(prompts: Array, resamples: int, seed: int) -> Array:
    """Return the standard error of the mean of *prompts* [C] in each resample, [R]."""
    clusters = len(prompts)
    if clusters > MANY:
        return np.full(resamples, standard_error(prompts))
    centred = prompts - prompts.mean()
    powers = np.column_stack([centred, centred**2])
    first, second = np.concatenate([drawn @ powers for drawn in weights(clusters, resamples, seed)]).T / clusters
    errors: Array = np.sqrt(np.maximum(second - first**2, 0.0) / (clusters - 1))
    return errors


def ratio_errors(alone: Array, counts: Array, values: Array, seed: int) -> Array:
    """Return the standard error of a ratio in each resample, [R], whose *values* [R] there are known.

    *alone* [C] is the ratio of each prompt by itself and *counts* [C] its denominator: residuals are taken from the
    resample's own ratio, over its own mean denominator (Cochran 1977, Sampling Techniques, eq. 6.10).
    """
    clusters, sums = len(alone), alone * counts
    columns = np.column_stack([sums**2, sums * counts, counts**2, counts])
    drawn = np.concatenate([each @ columns for each in weights(clusters, len(values), seed)]).T
    squares = np.maximum(drawn[0] - 2 * values * drawn[1] + values**2 * drawn[2], 0.0)
    errors: Array = np.sqrt(squares / clusters / (clusters - 1)) / np.maximum(drawn[3] / clusters, 1e-300)
    return errors


def exp_ratio_errors(sums: Array, signs: Array, resamples: int, seed: int) -> Array:
    """Return the standard error of sum(*signs* [m] * exp(ratio)) in each resample, [R]; *sums* [m, C, 2] are m ratios'.

    By the delta method at each resample's own ratios: exp makes the error larger where the ratio is.
    """
    clusters = sums.shape[1]
    columns = np.concatenate(sums.transpose(0, 2, 1)).T  # [C, 2 m]: numerator and denominator of each ratio
    first, second = np.triu_indices(columns.shape[1])
    products = columns[:, first] * columns[:, second]
    twice = np.where(first == second, 1.0, 2.0)
    parts = []
    for drawn in weights(clusters, resamples, seed):
        above, below = (drawn @ columns).reshape(len(drawn), len(sums), 2).transpose(2, 0, 1)
        share = np.divide(clusters, below, out=np.zeros_like(below), where=below > 0)  # 0: nothing was counted
        ratios = above * share / clusters
        slopes = signs * np.exp(ratios) * share
        factors = np.stack([slopes, -slopes * ratios], axis=2).reshape(len(drawn), -1)
        squares = (factors[:, first] * factors[:, second] * twice * (drawn @ products)).sum(axis=1)
        parts.append(np.sqrt(np.maximum(squares, 0.0) / clusters / (clusters - 1)))
    errors: Array = np.concatenate(parts)
    return errors


def studentised(value: float, deviations: Array, errors: Array, prompts: Array) -> Array:
    """Return a sorted sample [R] of where the truth may lie, from *deviations* [R] of resamples from *value*.

    The mean, quantile by quantile, of the bootstrap-t sample and the symmetric one (Hall 1988, doi
    10.1214/aos/1176350933; the mean is ours): the former alone is short for symmetric long tails, the latter for
    skewed values. The more *prompts* [C] are skewed, the more the longer of the two counts (`_of_skewed`).
    """
    error = standard_error(prompts)
    longest = LONGEST * float(stats.t.ppf(0.975, len(prompts) - 1))
    scale = np.maximum(errors, 1e-9 * error)
    deviates = np.clip(deviations / scale, -longest, longest)
    one_sided = np.sort(value - deviates * error)
    sizes = np.abs(deviates) * error
    both = np.sort(np.concatenate([value - sizes, value + sizes]))
    symmetric = (both[0::2] + both[1::2]) / 2
    longer = np.where(
        np.arange(len(one_sided)) < len(one_sided) / 2,
        np.minimum(one_sided, symmetric),
        np.maximum(one_sided, symmetric),
    )
    skewed = _of_skewed(prompts)
    sample: Array = (1 - skewed) * (one_sided + symmetric) / 2 + skewed * longer
    return sample


def _of_skewed(prompts: Array) -> float:
    """Return 0 up to the first of `SKEWED`, 1 from the second on, by the skewness of *prompts* [C]."""
    low, high = SKEWED
    return float(np.clip((abs(stats.skew(prompts)) - low) / (high - low), 0.0, 1.0))


def with_unseen(prompts: Array, deviations: Array, bounds: tuple[float, float], seed: int) -> Array:
    """Return a sorted sample [R] of the mean of *prompts* [C], as if a = `UNSEEN` prompts were seen at either bound.

    Prompts get exponential weights (Rubin 1981, doi 10.1214/aos/1176345338); the ends get gamma weights of shape a.
    For values at the ends alone, this is Beta(k + a, C - k + a), close to Jeffreys' posterior, whose intervals hold
    the truth in 95 % of cases on average (Brown, Cai and DasGupta 2001, doi 10.1214/ss/1009213286). Beyond `MANY`
    prompts the *deviations* [R] of ordinary resamples take the place of the exponential weights.
    """
    generator = np.random.default_rng([seed, 2])
    clusters, resamples = len(prompts), len(deviations)
    if clusters > MANY:
        means = prompts.mean() + deviations
    else:
        means = np.concatenate([_weighted(prompts, size, generator) for size in _sizes(clusters, resamples)])
    seen, low, high = generator.dirichlet([clusters, UNSEEN, UNSEEN], resamples).T
    sample: Array = np.sort(seen * means + low * bounds[0] + high * bounds[1])
    return sample


def reach(alone: Array, counts: Array, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return where prompts that were not seen may stand at worst: as far from the middle of *bounds* as those seen.

    With e the distances of the prompts' own values (*alone* [C]) from the middle, in units of the ends', and n their
    denominators (*counts* [C]), that is sum(n e^2) / sum(n e): 1 where every value is at an end or in the middle. A
    prompt of several rows is seldom all right or all wrong.
    """
    middle, half = sum(bounds) / 2, (bounds[1] - bounds[0]) / 2
    far = np.abs(alone - middle) / half
    total = float((counts * far).sum())
    share = min(1.0, float((counts * far**2).sum()) / total) if total > 0 else 1.0
    return middle - share * half, middle + share * half


def _weighted(prompts: Array, size: int, generator: np.random.Generator) -> Array:
    drawn = generator.standard_exponential((size, len(prompts)))
    means: Array = (drawn @ prompts) / drawn.sum(axis=1)
    return means


def _sizes(clusters: int, resamples: int) -> Iterator[int]:
    step = max(1, WEIGHTS_AT_ONCE // clusters)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def at_the_marks(alone: Array, prompts: Array, bounds: tuple[float, float]) -> float:
    """Return which share of the variance of *prompts* [C] is of those that stand at an end or in the middle.

    *alone* [C] is the value of each prompt by itself.
    """
    squares = (prompts - prompts.mean()) ** 2
    marks = np.array([bounds[0], sum(bounds) / 2, bounds[1]])
    is_marked = np.isclose(alone[:, None], marks, rtol=0, atol=1e-9 * (bounds[1] - bounds[0])).any(axis=1)
    return float(squares[is_marked].sum() / squares.sum())
