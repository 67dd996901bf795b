"""95 % intervals of any statistic of sums over prompts, and of differences between systems. Numpy and scipy only.

Rows of one prompt are not independent, so prompts (clusters) are resampled, all rows of one together. Every statistic
here is a function of additive numbers: a mean is (sum, count), a mean over tokens (sum, tokens), corpus BLEU ten
counts. One resampling serves all systems of a metric at once, which is what pairs their differences.

Letters: S systems, C clusters (prompts), K additive numbers, R resamples. It must not know what the numbers mean.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deft.planning.power import LEVEL, detectable

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Maps sums of shape [..., K] to values of shape [...]."""

Bounds = tuple[float, float] | None

WEIGHTS_AT_ONCE = 4_000_000
"""Resampling weights held in memory at a time, as a number of int64 values."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A *value* with its 95 % interval; None means that the data say nothing about that end.

    *standard_error* and the two-sided *p* of value = 0 belong to the same resampling.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """Statistics of S systems: *observed* [S], *resamples* [R, S] over shared resamples of *clusters* prompts."""

    observed: Array
    resamples: Array
    clusters: int


def ratio(sums: Array) -> Array:
    """Return sums[..., 0] / sums[..., 1], and 0 where nothing was counted."""
    counted = sums[..., 1]
    values: Array = np.divide(sums[..., 0], counted, out=np.zeros_like(counted), where=counted != 0)
    return values


def exp_ratio(sums: Array) -> Array:
    """Return exp(sums[..., 0] / sums[..., 1]): of summed negative log-probabilities and tokens, the perplexity."""
    values: Array = np.exp(ratio(sums))
    return values


def cluster_sums(values: Array, clusters: Sequence[Any]) -> Array:
    """Sum the rows of *values* [n, K] that share a cluster; returns [C, K], clusters in sorted order."""
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def resample(sums: Array, statistic: Statistic, *, resamples: int, seed: int) -> Resampled:
    """Resample the prompts of *sums* [S, C, K] with replacement, the same ones for every system."""
    systems, clusters, width = sums.shape
    flat = np.ascontiguousarray(sums.transpose(1, 0, 2)).reshape(clusters, systems * width)
    parts = [
        statistic((weights @ flat).reshape(len(weights), systems, width))
        for weights in _weights(clusters, resamples, np.random.default_rng(seed))
    ]
    return Resampled(statistic(sums.sum(axis=1)), np.concatenate(parts), clusters)


def _weights(clusters: int, resamples: int, generator: np.random.Generator) -> Iterable[NDArray[np.int64]]:
    """Yield how often each cluster is drawn, [<= R, C] at a time."""
    step = max(1, WEIGHTS_AT_ONCE // clusters)
    shares = np.full(clusters, 1 / clusters)
    for start in range(0, resamples, step):
        yield generator.multinomial(clusters, shares, size=min(step, resamples - start))


def estimate(
    resampled: Resampled,
    plus: Sequence[int],
    minus: Sequence[int] = (),
    *,
    bounds: Bounds = None,
    is_share: bool = False,
    seed: int = 0,
) -> Estimate:
    """Estimate mean(plus) - mean(minus), each the mean over the columns that are the draws of one arm.

    Percentile interval over prompts, expanded for small samples (Hesterberg 2015, doi 10.1080/00031305.2015.1089789,
    section 5.3). With several draws in an arm, the variance between draws that the prompts do not explain is added as
    a Student t deviate with draws - 1 degrees of freedom; with one draw it cannot be known and is not in the interval.
    *bounds* are the ends of the value's possible range; they serve values that never varied (see `_constant`) and,
    where the value *is_share* (or a difference of shares), few prompts (see `_with_two_more`).
    """
    columns = [list(arm) for arm in (plus, minus) if len(arm)]
    value = _contrast(resampled.observed[None, :], columns)[0]
    prompts = _contrast(resampled.resamples, columns)
    draws = [between_draws(resampled, arm) / len(arm) for arm in columns]
    if np.ptp(prompts) <= 1e-12 * max(1.0, abs(value)) and not any(draws):
        return _constant(float(value), resampled.clusters, bounds)
    correction = resampled.clusters / (resampled.clusters - 1) if resampled.clusters > 1 else 1.0
    error = float(np.sqrt(prompts.var() * correction))
    if is_share and bounds is not None and error > 0:
        prompts, error = _with_two_more(prompts, float(value), error, resampled.clusters, bounds)
    deviations = prompts + _draw_deviates(draws, [len(arm) for arm in columns], len(prompts), seed)
    low, high = np.quantile(deviations, [_tail(resampled.clusters), 1 - _tail(resampled.clusters)])
    if bounds is not None:
        low, high = max(min(low, value), bounds[0]), min(max(high, value), bounds[1])
    error = float(np.sqrt(error**2 + sum(draws)))
    return Estimate(float(value), float(low), float(high), error, _p_value(deviations, resampled.clusters))


def _contrast(values: Array, columns: list[list[int]]) -> Array:
    """Return the mean over the first list of columns less the mean over the second, if there is one: [R]."""
    means: list[Array] = [values[:, arm].mean(axis=1) for arm in columns]
    return means[0] if len(means) == 1 else means[0] - means[1]


def between_draws(resampled: Resampled, arm: Sequence[int]) -> float:
    """Return the variance between the draws of *arm* beyond what their answers to finitely many prompts explain."""
    if len(arm) < 2:
        return 0.0
    resamples = resampled.resamples[:, list(arm)]
    explained = (resamples - resamples.mean(axis=1, keepdims=True)).var(axis=0).sum() / (len(arm) - 1)
    return max(0.0, float(resampled.observed[list(arm)].var(ddof=1) - explained))


def _with_two_more(
    prompts: Array, value: float, error: float, clusters: int, bounds: tuple[float, float]
) -> tuple[Array, float]:
    """Move and widen resamples of a share as if two more prompts had been seen, one at either bound.

    Without it, few prompts of which hardly any differ make intervals that are too short (Agresti and Coull 1998,
    doi 10.1080/00031305.1998.10480550; for paired differences Agresti and Min 2005, doi 10.1002/sim.1781). Returns the
    resamples and their standard error.
    """
    more = sum((bound - value) ** 2 for bound in bounds)
    variance = (clusters * (clusters * error**2) + more) / (clusters + 2)
    wider = np.sqrt(variance / (clusters + 2))
    centre = (clusters * value + sum(bounds)) / (clusters + 2)
    return centre + (prompts - value) * wider / error, float(wider)


def _draw_deviates(variances: list[float], draws: list[int], size: int, seed: int) -> Array:
    """Return deviates [R] of the arms' means from the luck of their draws."""
    generator = np.random.default_rng([seed, 1])
    total = np.zeros(size)
    for variance, number in zip(variances, draws, strict=True):
        if variance > 0:
            total += np.sqrt(variance) * generator.standard_t(number - 1, size)
    return total


def _tail(clusters: int) -> float:
    """Return the share cut from each side: 2.5 %, less for few clusters."""
    if clusters < 2:
        return 0.0
    quantile = stats.t.ppf((1 - LEVEL) / 2, clusters - 1)
    return float(stats.norm.cdf(np.sqrt(clusters / (clusters - 1)) * quantile))


def _p_value(deviations: Array, clusters: int) -> float:
    """Return the two-sided p at which the interval of `estimate` would just reach 0."""
    share = min(float((deviations <= 0).mean()), float((deviations >= 0).mean()))
    tail = (share * len(deviations) + 1) / (len(deviations) + 1)
    if clusters < 2 or tail >= 0.5:
        return 1.0
    return float(2 * stats.t.cdf(stats.norm.ppf(tail) * np.sqrt((clusters - 1) / clusters), clusters - 1))


def _constant(value: float, clusters: int, bounds: Bounds) -> Estimate:
    """Estimate from prompts that all said the same, where resampling cannot see any spread.

    Up to a share q = 1 - 0.025 ** (1 / C) of prompts may still be otherwise, at worst at either bound: for a share of
    0 or 1 these are the exact (Clopper-Pearson) limits. Without bounds nothing can be said from one prompt, and
    nothing but the value from more.
    """
    if bounds is None:
        known = value if clusters > 1 else None
        return Estimate(value, known, known, None, 1.0 if value == 0 else min(1.0, 2 * 0.5**clusters))
    unseen = 1 - ((1 - LEVEL) / 2) ** (1 / clusters)
    low, high = ((1 - unseen) * value + unseen * bound for bound in bounds)
    reach = abs(value) / (abs(value) + abs(bounds[0] if value > 0 else bounds[1])) if value else 0.0
    return Estimate(value, low, high, None, min(1.0, 2 * (1 - reach) ** clusters))


def smallest_detectable_difference(difference: Estimate) -> float | None:
    """Return the true difference that would be found in 80 % of repetitions at 5 %, two-sided, for one comparison.

    2.80 times the paired standard error (`deft.planning.power`). Where no spread was seen, the half width of the
    interval; None where that is unknown too.
    """
    if difference.standard_error is not None:
        return detectable(difference.standard_error)
    if difference.low is None or difference.high is None or difference.low == difference.high:
        return None
    return (difference.high - difference.low) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (1979): below 0.05, the claim holds with all others of the family."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = running
    return adjusted
