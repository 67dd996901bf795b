"""What verdicts say together: win rate, position bias, length-controlled win rate, agreement with people.

Intervals resample prompts (deft.evaluation.intervals). It must not know questions, endpoints or files.

Letters: n judged pairs, C clusters (prompts), R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.evaluation.intervals import Array, Bounds, Estimate, Resampled, cluster_sums, estimate, ratio, resample
from deft.judges.verdicts import Verdict

SHARE: Bounds = (0.0, 1.0)
SCORES: Bounds = (1.0, 10.0)
LEAST_LABELS = 50
SLOPE_RIDGE = 1.0
"""Of the length's coefficient, so that a judge whom length alone decides has a finite one."""
STEPS = 50
LARGEST_STEP = 2.0
WEIGHTS_AT_ONCE = 2_000_000


def outcome(first: Verdict | None, second: Verdict | None) -> float | None:
    """Return 1 where both orders say that the system wins, 0 that it loses, else 0.5; None: one cannot be read.

    In the *first* order the system's answer is A, in the *second* it is B.
    """
    if first is None or second is None:
        return None
    if (first, second) == ("A", "B"):
        return 1.0
    return 0.0 if (first, second) == ("B", "A") else 0.5


@dataclass(frozen=True, slots=True)
class Sampling:
    """How intervals are made: *resamples* and their *seed*."""

    resamples: int = 2000
    seed: int = 0


def mean_of(values: Sequence[float], clusters: Sequence[Any], how: Sampling, bounds: Bounds = SHARE) -> Estimate:
    """Estimate the mean of *values* [n], resampling *clusters* [n]."""
    columns = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(values))])
    sums = cluster_sums(columns, clusters)[None]
    resampled = resample(sums, ratio, resamples=how.resamples, seed=how.seed)
    return estimate(resampled, [0], bounds=bounds, is_share=bounds == SHARE, seed=how.seed)


def first_place(verdicts: Sequence[Verdict | None], clusters: Sequence[Any], how: Sampling) -> Estimate | None:
    """Estimate how often the answer that stood first was preferred, among all verdicts that prefer one.

    Every pair is asked in both orders, so a judge without position bias gives one half, whoever is better.
    """
    decided = [(v == "A", c) for v, c in zip(verdicts, clusters, strict=True) if v in ("A", "B")]
    return mean_of([float(v) for v, _ in decided], [c for _, c in decided], how) if decided else None


def length_controlled(
    outcomes: Sequence[float], longer_by: Sequence[int], clusters: Sequence[Any], how: Sampling
) -> Estimate:
    """Estimate the win rate that is left where both answers are equally long.

    logit P(win) = a + b * tanh(d / rms(d)), d the difference in length (system less other); the rate is sigmoid(a).
    After Dubois et al. 2024 (arXiv 2404.04475) with one system a fit, without their terms of models and instructions.
    Ours: pairs in which the system is longer weigh as much together as those in which it is shorter, so that a judge
    whom length alone decides comes out at one half although no line fits its step; half a win and half a loss at d = 0
    and a ridge on b keep the fit finite.
    """
    y, d = np.asarray(outcomes, dtype=np.float64), np.asarray(longer_by, dtype=np.float64)
    spread = np.sqrt((d**2).mean())
    x = np.tanh(d / spread) if spread > 0 else np.zeros_like(d)
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    number = int(codes.max()) + 1
    generator = np.random.default_rng(how.seed)
    step, parts = max(1, WEIGHTS_AT_ONCE // len(y)), []
    for start in range(0, how.resamples, step):
        size = min(step, how.resamples - start)
        weights = generator.multinomial(number, np.full(number, 1 / number), size=size)[:, codes]
        parts.append(_rates(x, y, _balanced(np.sign(d), weights.astype(np.float64))))
    observed = _rates(x, y, _balanced(np.sign(d), np.ones((1, len(y)))))
    resampled = Resampled(observed, np.concatenate(parts)[:, None], number)
    return estimate(resampled, [0], bounds=SHARE, is_share=True, seed=how.seed)


def _balanced(side: Array, weights: Array) -> Array:
    """Return *weights* [R, n] with both sides (+1 and -1 [n]) of one total, where both are there."""
    totals = {sign: weights[:, side == sign].sum(axis=1, keepdims=True) for sign in (1.0, -1.0)}
    half = (totals[1.0] + totals[-1.0]) / 2
    has_both = (totals[1.0] > 0) & (totals[-1.0] > 0)
    found = weights.copy()
    for sign, total in totals.items():
        found[:, side == sign] *= np.divide(half, total, out=np.ones_like(total), where=has_both)
    return found


def _rates(x: Array, y: Array, weights: Array) -> Array:
    """Fit the logistic line for each row of *weights* [R, n] by Newton's method; return sigmoid(a), [R]."""
    a, b = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(STEPS):
        p = _sigmoid(a[:, None] + b[:, None] * x)
        rest, spread = weights * (y - p), weights * p * (1 - p)
        p0 = _sigmoid(a)
        slope_a, slope_b = rest.sum(axis=1) + 0.5 - p0, rest @ x - SLOPE_RIDGE * b
        aa, ab, bb = spread.sum(axis=1) + p0 * (1 - p0), spread @ x, spread @ (x * x) + SLOPE_RIDGE
        determinant = aa * bb - ab * ab
        change_a, change_b = (bb * slope_a - ab * slope_b) / determinant, (aa * slope_b - ab * slope_a) / determinant
        a = a + np.clip(change_a, -LARGEST_STEP, LARGEST_STEP)
        b = b + np.clip(change_b, -LARGEST_STEP, LARGEST_STEP)
        if max(np.abs(change_a).max(), np.abs(change_b).max()) < 1e-8:
            break
    return _sigmoid(a)


def _sigmoid(values: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge agrees with people on *n* labelled pairs, beside the *shorter* and *longer* length baselines.

    A tie of the judge counts one half. *asked* pairs include those whose verdict could not be read.
    """

    rate: Estimate | None
    n: int
    asked: int
    ties: int
    longer: float
    shorter: float

    @property
    def reasons(self) -> list[str]:
        """Why the judge may not decide; none: it may."""
        found = []
        if self.n < LEAST_LABELS:
            found.append(f"only {self.n} labelled pairs were judged, {LEAST_LABELS} are needed")
        low = None if self.rate is None else self.rate.low
        floor = max(0.5, self.longer, self.shorter)
        if low is None or low <= floor:
            told = "unknown" if low is None else f"{low:.3f}"
            found.append(
                f"the lower bound of its agreement with people, {told}, is not above {floor:.3f}: the better of chance "
                "and of length alone on the same pairs"
            )
        return found


def agreement(
    outcomes: Sequence[float | None], longer_by: Sequence[int], clusters: Sequence[Any], how: Sampling
) -> Agreement:
    """Return how the judge agrees: *outcomes* [n] of the answer that people preferred, None where it cannot be read.

    *longer_by* is how many characters that answer is longer than the other.
    """
    read = [(o, d, c) for o, d, c in zip(outcomes, longer_by, clusters, strict=True) if o is not None]
    values = [o for o, _, _ in read]
    rate = mean_of(values, [c for _, _, c in read], how) if read else None
    longer = float(np.mean([(np.sign(d) + 1) / 2 for _, d, _ in read])) if read else 0.5
    return Agreement(rate, len(read), len(outcomes), sum(o == 0.5 for o in values), longer, 1 - longer)


def numbers_of(found: Estimate, n: int) -> dict[str, Any]:
    """Return an estimate as the fields of a metrics row."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": n}
