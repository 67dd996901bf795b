"""Sums over prompts, drawn again and again: the statistics of systems, and what each prompt contributes. Numpy only.

Letters: S systems, C clusters (prompts), K additive numbers, R resamples. It must not know what the numbers mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deft.evaluation.confidence import Array, weights

Statistic = Callable[[Array], Array]
"""Maps sums of shape [..., K] to values of shape [...]."""

STEADIER = 0.2
"""How fast luck's degrees of freedom grow with the prompts' variance over its own (see `luck_deviates`)."""

SPARED = 4.0
"""Of f degrees of freedom, f / (f + `SPARED`) of what the prompts explain is taken off the variance between draws. Of
few draws that variance is often below the noise by chance, and luck as large as the noise would then count for nothing:
with all of it taken off, intervals of one run less the mean of three held the truth in 0.90 to 0.93 of cases, and 7 to
12 in 100 evaluations of equal arms had a finding (docs/diary.md; what is so: bench/results/familywise.md). It is ours.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """Statistics of S systems over *clusters* prompts: *observed* [S], and *resamples* [R, S] drawn with *seed*.

    *contributions* [C, S] are the jackknife's pseudo-values, whose mean is the statistic up to its bias: for a mean
    over as many rows of each prompt, the prompts' own means. *alone* [C, S] is the statistic of each prompt by itself.
    Where both are None, resamples are all that is known, and `estimate` takes their percentiles. *counts* [C, S] are
    the denominators of a ratio; *exponents* [S, C, 2] the sums whose ratio is the logarithm of the statistic.
    """

    observed: Array
    resamples: Array
    clusters: int
    contributions: Array | None = None
    alone: Array | None = None
    counts: Array | None = None
    exponents: Array | None = None
    seed: int = 0


class Luck(NamedTuple):
    """What chance adds to a value from run to run, as draws of arms tell it with so many *degrees* of freedom.

    *between* is the variance between draws of an arm, *noise* what is taken off it for finitely many prompts.
    """

    between: float
    degrees: int
    noise: float = 0.0

    @property
    def variance(self) -> float:
        """Return the luck's own variance; never below 0."""
        return max(0.0, self.between - self.noise)

    def times(self, factor: float) -> "Luck":
        """Return the luck of a value in which that of a run counts *factor* times, as a variance."""
        return Luck(self.between * factor, self.degrees, self.noise * factor)


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
        statistic((drawn @ flat).reshape(len(drawn), systems, width)) for drawn in weights(clusters, resamples, seed)
    ]
    observed = statistic(sums.sum(axis=1))
    contributions = _pseudo_values(sums, statistic, observed)
    counts = sums[:, :, 1].T if statistic is ratio else None
    exponents = sums if statistic is exp_ratio else None
    alone = statistic(sums).T
    return Resampled(observed, np.concatenate(parts), clusters, contributions, alone, counts, exponents, seed)


def _pseudo_values(sums: Array, statistic: Statistic, observed: Array) -> Array:
    """Return C * observed - (C - 1) * what the statistic is without each prompt (Tukey 1958): [C, S]."""
    clusters = sums.shape[1]
    without = statistic(sums.sum(axis=1, keepdims=True) - sums)
    values: Array = clusters * observed - (clusters - 1) * without.T
    return values


def contrast(values: Array, columns: list[list[int]]) -> Array:
    """Return the mean over the first list of columns less the mean over the second, if there is one: [R]."""
    means: list[Array] = [values[:, arm].mean(axis=1) for arm in columns]
    return means[0] if len(means) == 1 else means[0] - means[1]


def luck_of(resampled: Resampled, arms: Sequence[Sequence[int]]) -> Luck | None:
    """Return the luck of one run, pooled over those of *arms* with several draws; None: there are none."""
    several = [list(arm) for arm in arms if len(arm) > 1]
    degrees = sum(len(arm) - 1 for arm in several)
    if not degrees:
        return None
    between = sum((len(arm) - 1) * resampled.observed[arm].var(ddof=1) for arm in several)
    noise = sum((len(arm) - 1) * _explained(resampled, arm) for arm in several)
    return Luck(float(between / degrees), degrees, float(noise / (degrees + SPARED)))


def _explained(resampled: Resampled, arm: list[int]) -> float:
    """Return what finitely many prompts explain of the variance between the draws of *arm*."""
    resamples = resampled.resamples[:, arm]
    return float((resamples - resamples.mean(axis=1, keepdims=True)).var(axis=0).sum() / (len(arm) - 1))


def luck_deviates(luck: Luck | None, of_prompts: float, size: int, seed: int) -> Array | None:
    """Return deviates [*size*] of a value by the luck of its runs; None: there is none.

    They are Student's t with f (1 + `STEADIER` v / w) degrees, f and w the luck's own degrees and variance and v the
    variance *of_prompts*. The sum of two t deviates with few degrees is too long where both matter, Satterthwaite's
    degrees f ((v + w) / w)^2 (1946, doi 10.2307/3002019) are too many where f is 2 and estimated; this is between them,
    and held normal values in 0.936 to 0.964 of cases with three runs, five runs, 8 to 256 prompts and luck from none to
    the prompts' own spread. The factor is ours. Tests take f (v = 0), so that they are no less careful than t.
    """
    if luck is None or luck.variance == 0:
        return None
    degrees = luck.degrees * (1 + STEADIER * of_prompts / luck.variance)
    deviates: Array = np.sqrt(luck.variance) * np.random.default_rng([seed, 1]).standard_t(degrees, size)
    return deviates
