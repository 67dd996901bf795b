"""95 % intervals of any statistic of sums over prompts, and of differences between systems. Numpy and scipy only.

Rows of one prompt are not independent, so prompts (clusters) are resampled, all rows of one together. Every statistic
here is a function of additive numbers: a mean is (sum, count), a mean over tokens (sum, tokens), corpus BLEU ten
counts. One resampling serves all systems of a metric at once, which is what pairs their differences.

Letters: S systems, C clusters (prompts), K additive numbers, R resamples. It must not know what the numbers mean. How
intervals are cut from resamples is in `confidence`, how differences are tested in `permutation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from deft.evaluation.confidence import (
    MANY,
    Array,
    at_the_marks,
    exp_ratio_errors,
    ratio_errors,
    reach,
    standard_error,
    standard_errors,
    studentised,
    with_unseen,
)
from deft.evaluation.permutation import sign_flip_p
from deft.evaluation.resampling import (
    Luck,
    Resampled,
    Statistic,
    cluster_sums,
    contrast,
    exp_ratio,
    luck_deviates,
    luck_of,
    ratio,
    resample,
)
from deft.planning.power import LEVEL, TWO_SIDED, UNSEEN, detectable_beyond

__all__ = [
    "Array",
    "Bounds",
    "Estimate",
    "Luck",
    "Resampled",
    "Statistic",
    "cluster_sums",
    "estimate",
    "exp_ratio",
    "holm",
    "luck_of",
    "ratio",
    "resample",
    "smallest_detectable_difference",
]

Bounds = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A *value* with its 95 % interval; None means that the data say nothing about that end.

    *p* is that of value = 0, two-sided, by swapping signs prompt by prompt. The *effect_size* is the value in standard
    deviations of prompts (of a difference: Cohen's d_z). *better* and *worse* are the shares of prompts, each by
    itself, whose value is above and below 0. A value must be *critical* from 0, luck included, to be told from it.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    p: float
    effect_size: float | None = None
    better: float | None = None
    worse: float | None = None
    critical: float | None = None


TAIL = (1 - LEVEL) / 2
ROUNDING = 1e-12


def estimate(
    resampled: Resampled,
    plus: Sequence[int],
    minus: Sequence[int] = (),
    *,
    bounds: Bounds = None,
    is_share: bool = False,
    luck: Luck | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate mean(plus) - mean(minus), each the mean over the columns that are the draws of one arm.

    *bounds* are the ends of the value's possible range; they serve values that never varied (see `_constant`) and,
    where the value *is_share* (or a difference of shares), few prompts (`confidence.with_unseen`). *luck* is
    what chance adds to the value from run to run; it goes into the interval and into the test as a Student t deviate.
    None: it is taken from those of the two arms that have several draws (`luck_of`), and is in neither where none has.
    """
    columns = [list(arm) for arm in (plus, minus) if len(arm)]
    value = float(contrast(resampled.observed[None, :], columns)[0])
    luck = luck or _own_luck(resampled, columns)
    if resampled.contributions is None or resampled.alone is None:
        return _of_percentiles(resampled, columns, value, luck, bounds, seed)
    prompts, alone = contrast(resampled.contributions, columns), contrast(resampled.alone, columns)
    if _is_constant(prompts, value) and (luck is None or luck.variance == 0):
        return _with_effect(_constant(value, resampled.clusters, bounds, is_share=is_share), prompts, alone)
    deviations = contrast(resampled.resamples, columns) - value
    seen = _Seen(value, prompts, alone, deviations, columns, resampled)
    sample, error = _where(seen, bounds if is_share else None, seed)
    deviates = luck_deviates(luck, error**2, len(deviations), seed)
    low, high = _ends(sample, deviates, value, bounds, seed)
    of_test = luck_deviates(luck, 0.0, len(deviations), seed)
    p = sign_flip_p(prompts, of_test, seed=seed)
    critical = max((high - low) / 2, _critical(prompts, of_test, seed))
    error = float(np.sqrt(error**2 + (luck.variance if luck else 0.0)))
    return _with_effect(Estimate(value, low, high, error, p, critical=critical), prompts, alone)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What is known of one *value* of *columns*: *prompts* and *alone* [C] as in `Resampled`, *deviations* [R]."""

    value: float
    prompts: Array
    alone: Array
    deviations: Array
    columns: list[list[int]]
    resampled: Resampled

    @property
    def counts(self) -> Array | None:
        """The denominators [C] of the ratios in the columns; None where they differ, or are no ratios."""
        if self.resampled.counts is None:
            return None
        counts = self.resampled.counts[:, [column for arm in self.columns for column in arm]]
        own: Array = counts[:, 0]
        return own if (counts == own[:, None]).all() else None

    def errors(self) -> Array:
        """Return the standard error of the value in each resample, [R]."""
        found, size = self.resampled, len(self.deviations)
        if len(self.prompts) <= MANY and found.exponents is not None:
            every = [column for arm in self.columns for column in arm]
            signs = [sign / len(arm) for sign, arm in zip((1, -1), self.columns, strict=False) for _ in arm]
            return exp_ratio_errors(found.exponents[every], np.array(signs), size, found.seed)
        counts = self.counts
        if len(self.prompts) > MANY or counts is None:
            return standard_errors(self.prompts, size, found.seed)
        return ratio_errors(self.alone, counts, self.value + self.deviations, found.seed)


def _where(seen: _Seen, bounds: Bounds, seed: int) -> tuple[Array, float]:
    """Return a sample [R] of where the truth may lie, as far as prompts go, and the standard error.

    *bounds* are given for a share alone. The more of its variance is of prompts at an end or in the middle, the more
    `with_unseen` says.
    """
    value, prompts, deviations = seen.value, seen.prompts, seen.deviations
    if _is_constant(prompts, value):
        return np.full(len(deviations), value), 0.0
    error = standard_error(prompts)
    sample = studentised(value, deviations, seen.errors(), prompts)
    if bounds is None:
        return sample, error
    marked = at_the_marks(seen.alone, prompts, bounds)
    own = seen.counts
    counts = np.ones(len(prompts)) if own is None else own
    shares = with_unseen(prompts, deviations, reach(seen.alone, counts, bounds), seed)
    return marked * shares + (1 - marked) * sample, marked * float(shares.std()) + (1 - marked) * error


def _ends(sample: Array, luck: Array | None, value: float, bounds: Bounds, seed: int) -> tuple[float, float]:
    """Return the ends of the interval: of the *sample* with the *luck* of draws, never beyond *bounds*."""
    if luck is not None:
        sample = np.random.default_rng([seed, 4]).permutation(sample) + luck
    low, high = (float(end) for end in np.quantile(sample, [TAIL, 1 - TAIL], method="weibull"))
    if bounds is None:
        return low, high
    return max(min(low, value), bounds[0]), min(max(high, value), bounds[1])


def _critical(prompts: Array, luck: Array | None, seed: int) -> float:
    """Return how far from 0 the mean of *prompts* [C] has to be for p < 0.05 by `sign_flip_p`, as if normal.

    The test's deviation grows with the mean itself; a large mean counts as one that can just be seen.
    """
    size, spread = len(prompts), float(prompts.std())
    just = min(abs(float(prompts.mean())), detectable_beyond(_beyond(spread / np.sqrt(size), luck, seed)))
    return _beyond(float(np.hypot(spread, just)) / np.sqrt(size), luck, seed)


def _beyond(deviation: float, luck: Array | None, seed: int) -> float:
    """Return what a normal value with that *deviation*, and *luck* added, exceeds either way in 5 % of cases."""
    if luck is None:
        return TWO_SIDED * deviation
    null = np.random.default_rng([seed, 5]).normal(scale=deviation, size=len(luck)) + luck
    return float(np.quantile(np.abs(null), LEVEL))


def _of_percentiles(
    resampled: Resampled, columns: list[list[int]], value: float, luck: Luck | None, bounds: Bounds, seed: int
) -> Estimate:
    """Estimate from resamples alone, as of a fit: percentiles, expanded for few prompts (Hesterberg 2015).

    doi 10.1080/00031305.2015.1089789, section 5.3.
    """
    clusters = resampled.clusters
    deviations = contrast(resampled.resamples, columns) - value
    wider = np.sqrt(clusters / (clusters - 1)) if clusters > 1 else 1.0
    added = luck_deviates(luck, float(wider * deviations.std()) ** 2, len(deviations), seed)
    if np.ptp(deviations) <= ROUNDING and added is None:
        return _constant(value, clusters, bounds)
    few = stats.t.ppf(1 - TAIL, clusters - 1) / stats.norm.ppf(1 - TAIL) if clusters > 1 else 1.0
    sample = value + wider * few * deviations + (0.0 if added is None else added)
    low, high = _ends(sample, None, value, bounds, 0)
    share = min(float((sample <= 0).mean()), float((sample >= 0).mean()))
    p = min(1.0, 2 * (share * len(sample) + 1) / (len(sample) + 1))
    return Estimate(value, low, high, float(wider * deviations.std()), p, critical=(high - low) / 2)


def _with_effect(found: Estimate, prompts: Array, alone: Array) -> Estimate:
    """Return *found* with the effect size, and the shares of prompts above and below 0."""
    size = None if _is_constant(prompts, found.value) else float(prompts.mean() / prompts.std(ddof=1))
    better, worse = float((alone > ROUNDING).mean()), float((alone < -ROUNDING).mean())
    return replace(found, effect_size=size, better=better, worse=worse)


def _is_constant(prompts: Array, value: float) -> bool:
    """Return whether all *prompts* say the same, but for rounding."""
    return bool(np.ptp(prompts) <= ROUNDING * max(1.0, abs(value)) * max(1.0, len(prompts) / 100))


def _own_luck(resampled: Resampled, columns: list[list[int]]) -> Luck | None:
    """Return the luck of the difference of two arms as far as their own draws tell of it."""
    luck = luck_of(resampled, columns)
    return luck and luck.times(sum(1 / len(arm) for arm in columns if len(arm) > 1))


def _constant(value: float, clusters: int, bounds: Bounds, *, is_share: bool = False) -> Estimate:
    """Estimate from prompts that all said the same, where resampling cannot see any spread.

    Up to a share q = 1 - 0.025 ** (1 / C) of prompts may still be otherwise, at worst at either bound (the exact limit,
    Clopper and Pearson). Where *is_share* and the value is a bound, q is what `with_unseen` comes to there. Without
    bounds nothing can be said from one prompt, and nothing but the value from more.
    """
    if bounds is None:
        known = value if clusters > 1 else None
        return Estimate(value, known, known, None, 1.0 if value == 0 else min(1.0, 2 * 0.5**clusters))
    is_end = is_share and any(np.isclose(value, bound, rtol=0, atol=ROUNDING) for bound in bounds)
    kept = stats.beta.ppf(TAIL, clusters + UNSEEN, UNSEEN) if is_end else TAIL ** (1 / clusters)
    unseen = 1 - float(kept)
    low, high = ((1 - unseen) * value + unseen * bound for bound in bounds)
    reach = abs(value) / (abs(value) + abs(bounds[0] if value > 0 else bounds[1])) if value else 0.0
    return Estimate(value, low, high, None, min(1.0, 2 * (1 - reach) ** clusters))


def smallest_detectable_difference(difference: Estimate) -> float | None:
    """Return the true difference that would be found in 80 % of repetitions at 5 %, two-sided, for one comparison.

    Found is what both the test and the interval tell from 0: `deft.planning.power.detectable_beyond` of *critical*.
    With many prompts and no luck that is 2.80 times the paired standard error. It may lie beyond all that there can
    be, where few draws tell of the luck of a run. Where no spread was seen, the half width of the interval; None where
    that is unknown too.
    """
    if difference.critical is not None:
        return detectable_beyond(difference.critical)
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
