"""What verdicts say together: win rate, position bias, agreement with people (with equal lengths: `lengths`).

Intervals resample prompts (deft.evaluation.intervals). It must not know questions, endpoints or files.

Letters: n judged pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.evaluation.intervals import Bounds, Estimate, cluster_sums, estimate, ratio, resample
from deft.judges.verdicts import Verdict

SHARE: Bounds = (0.0, 1.0)
SCORES: Bounds = (1.0, 10.0)
LEAST_LABELS = 50


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
            found.append(f"only {self.n} labelled pairs were judged, {LEAST_LABELS} are needed, repeats counted once")
        if 2 * self.n < self.asked:
            found.append(f"only {self.n} of the {self.asked} labelled pairs that it was asked about could be read")
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
