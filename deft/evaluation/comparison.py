"""What measurements of several systems say together: the table, the paired differences, the document.

Systems that share an arm are draws of it: their mean is the arm's value, and where there are several, their spread is
in the interval. It must not know models or files; the words are those of deft.evaluation.verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deft.arms import START
from deft.evaluation.intervals import (
    Bounds,
    Estimate,
    Luck,
    Resampled,
    estimate,
    holm,
    luck_of,
    resample,
    smallest_detectable_difference,
)
from deft.evaluation.metrics import BASE, SHORTER, Measurement, in_order, rule_of

VERDICT_METRIC = "preference_accuracy"
SIGNIFICANCE = 0.05
UNTRAINED = (BASE, SHORTER, START)
"""What no arm's training run has luck in: the base, the length baseline, and a start that all arms share."""
NO_LUCK = Luck(0.0, 1)
FACTORS = (("no_reward_term", "random"), ("deft", "no_reward_term"), ("random_with_term", "random"))
"""The 2 x 2: what the selection did, then what the reward term did on selected and on random rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All measurements of one metric, resampled together so that their differences are paired."""

    metric: str
    measurements: list[Measurement]
    resampled: Resampled
    seed: int
    luck: Luck | None = None
    """Of one training run, pooled over all arms with several draws."""

    def columns(self, arm: str) -> list[int]:
        """Return the columns of *arm*'s draws."""
        return [index for index, m in enumerate(self.measurements) if m.arm == arm]

    def arms(self) -> list[str]:
        """Return the arms in the order in which they were measured."""
        return list(dict.fromkeys(m.arm for m in self.measurements))

    def estimate(self, plus: Sequence[int], minus: Sequence[int] = ()) -> Estimate:
        """Estimate the mean of the columns *plus*, less that of *minus*: of these very systems, without luck."""
        return self._estimate(plus, minus, NO_LUCK)

    def estimate_arms(self, arm: str, against: str | None = None) -> Estimate:
        """Estimate what *arm* does, less what *against* does, whichever runs of each were seen."""
        return self.estimate_runs(self.columns(arm), [] if against is None else self.columns(against))

    def estimate_runs(self, plus: Sequence[int], minus: Sequence[int] = ()) -> Estimate:
        """Estimate the mean of the runs *plus*, less that of *minus*, with the luck of every training run in it."""
        luck = self.luck or NO_LUCK
        return self._estimate(plus, minus, luck.times(self.runs(plus, minus)))

    def runs(self, *sides: Sequence[int]) -> float:
        """Return by how much the variance of one run's luck counts: 1 / n for each trained side of n runs."""
        return sum(1 / len(side) for side in sides if side and self.measurements[side[0]].arm not in UNTRAINED)

    def luck_within(self, columns: Sequence[int]) -> Luck | None:
        """Return the luck of a run as the draws among *columns* tell it; None where no arm has several."""
        arms = {column: self.measurements[column].arm for column in columns}
        trained = dict.fromkeys(arm for arm in arms.values() if arm not in UNTRAINED)
        return luck_of(self.resampled, [[c for c, arm in arms.items() if arm == name] for name in trained])

    def estimate_with(self, luck: Luck, plus: Sequence[int], minus: Sequence[int] = ()) -> Estimate:
        """Estimate the mean of *plus*, less that of *minus*, with that *luck* of the difference."""
        return self._estimate(plus, minus, luck)

    def _estimate(self, plus: Sequence[int], minus: Sequence[int], luck: Luck) -> Estimate:
        bounds, is_share = self._range(plus, minus), rule_of(self.metric).unit == "share"
        return estimate(self.resampled, plus, minus, bounds=bounds, is_share=is_share, luck=luck, seed=self.seed)

    def _range(self, plus: Sequence[int], minus: Sequence[int]) -> Bounds:
        """Return the ends of what the difference of *plus* and *minus* could be."""
        upper, lower = self._ends(plus[0]), self._ends(minus[0]) if minus else (0.0, 0.0)
        return None if upper is None or lower is None else (upper[0] - lower[1], upper[1] - lower[0])

    def _ends(self, column: int) -> Bounds:
        """Return the ends of what one column could be; what holds by definition could not be anything else."""
        if self.measurements[column].is_by_definition:
            value = float(self.resampled.observed[column])
            return value, value
        return self.measurements[column].bounds


@dataclass(frozen=True, slots=True)
class Difference:
    """*arm* minus *against* in *metric*; *p_adjusted* by Holm over the comparisons of the metric."""

    metric: str
    arm: str
    against: str
    estimate: Estimate
    n: int
    prompts: int
    is_trained_on: bool
    p_adjusted: float = 1.0
    comparisons: int = 1
    is_valid: bool = True
    """False: what measured it was not shown to be better than a baseline."""
    slice: str = "all"

    @property
    def leaves_out_zero(self) -> bool:
        """Return whether 0 is outside the interval, which knows of no correction."""
        return _leaves_out_zero(self.estimate)

    @property
    def plain_verdict(self) -> str:
        """Return what the numbers support: `plain_verdict` of them."""
        return plain_verdict(self.estimate, self.p_adjusted)

    @property
    def has_verdict(self) -> bool:
        """Return whether the difference may have a verdict."""
        return self.metric == VERDICT_METRIC and not self.is_trained_on and self.slice == "all"

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON, without a verdict."""
        return {
            "metric": self.metric,
            "slice": self.slice,
            "arm": self.arm,
            "against": self.against,
            "difference": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "n": self.n,
            "prompts": self.prompts,
            "p": self.estimate.p,
            "p_adjusted": self.p_adjusted,
            "comparisons": self.comparisons,
            "effect_size": self.estimate.effect_size,
            "prompts_better": self.estimate.better,
            "prompts_worse": self.estimate.worse,
            "smallest_detectable_difference": smallest_detectable_difference(self.estimate),
            "is_trained_on": self.is_trained_on,
            "is_valid": self.is_valid,
        }


def plain_verdict(found: Estimate, p: float) -> str:
    """Return what a difference supports: no noise is where *p*, after the correction, and the interval agree.

    It knows nothing of drift: what is told is `deft.evaluation.verdict.verdict_of`.
    """
    if p >= SIGNIFICANCE or not _leaves_out_zero(found):
        return "within noise"
    return "clear gain" if found.value > 0 else "clear loss"


def _leaves_out_zero(found: Estimate) -> bool:
    return found.low is not None and found.high is not None and not found.low <= 0 <= found.high


def gather(measurements: Sequence[Measurement], *, resamples: int, seed: int) -> dict[str, Evidence]:
    """Resample the prompts once for each metric; metrics in the order of `RULES`. All are of one slice."""
    evidence = {}
    for metric in in_order(m.metric for m in measurements):
        own = [m for m in measurements if m.metric == metric]
        sums = np.stack([m.sums for m in own])
        resampled = resample(sums, rule_of(metric).statistic, resamples=resamples, seed=seed)
        found = Evidence(metric, own, resampled, seed)
        trained = [found.columns(arm) for arm in found.arms() if arm not in UNTRAINED]
        evidence[metric] = replace(found, luck=luck_of(resampled, trained))
    return evidence


def system_metrics(evidence: dict[str, Evidence], settings_hash: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of metrics.json: every measured metric of every system, with its interval over prompts."""
    rows = []
    for metric, found in evidence.items():
        for column, m in enumerate(found.measurements):
            if not m.is_by_definition:
                own = {"system": m.system, "arm": m.arm, "metric": metric, "slice": m.slice}
                rows.append(
                    {**own, **_cell(found, [column], found.estimate([column])), "settings_hash": settings_hash[metric]}
                )
    return rows


def table(evidence: dict[str, Evidence]) -> list[dict[str, Any]]:
    """Return one row an arm: its number of draws, and a cell {value, low, high, n, is_trained_on} a metric.

    The base and the length baseline come first; a metric that an arm does not have, or has by definition, is absent.
    """
    arms = list(dict.fromkeys(arm for found in evidence.values() for arm in found.arms()))
    arms.sort(key=lambda arm: (BASE, SHORTER).index(arm) if arm in (BASE, SHORTER) else 2)
    rows = []
    for arm in arms:
        cells = {}
        for metric, found in evidence.items():
            columns = found.columns(arm)
            if columns and not found.measurements[columns[0]].is_by_definition:
                cells[metric] = _cell(found, columns, found.estimate_arms(arm))
        rows.append({"arm": arm, "draws": max(len(f.columns(arm)) for f in evidence.values()), "cells": cells})
    return rows


def _cell(found: Evidence, columns: list[int], interval: Estimate) -> dict[str, Any]:
    first = found.measurements[columns[0]]
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": first.n,
        "is_trained_on": any(found.measurements[c].is_trained_on for c in columns),
        "is_valid": all(found.measurements[c].is_valid for c in columns),
    }


def differences(evidence: dict[str, Evidence], focus: str) -> list[Difference]:
    """Return *focus* minus every other arm and the base, and the factors of the 2 x 2, Holm-adjusted a metric."""
    found = []
    for own in evidence.values():
        found += _adjusted([_difference(own, arm, against) for arm, against in _comparisons(own.arms(), focus)])
    return found


def described(evidence: dict[str, Evidence], focus: str | None) -> list[dict[str, Any]]:
    """Return the same of a slice, as JSON and without verdicts: parts of the rows describe, the whole decides."""
    return [] if focus is None else [difference.as_dict() for difference in differences(evidence, focus)]


def _comparisons(arms: Sequence[str], focus: str) -> list[tuple[str, str]]:
    """Return the pairs (arm, against) of one metric's family of comparisons."""
    others = [arm for arm in arms if arm not in (focus, SHORTER, BASE)] + [arm for arm in arms if arm == BASE]
    pairs = [(focus, other) for other in others] if focus in arms else []
    pairs += [(arm, against) for arm, against in FACTORS if arm in arms and against in arms]
    return list(dict.fromkeys(pairs))


def _difference(own: Evidence, arm: str, against: str) -> Difference:
    plus, minus = own.columns(arm), own.columns(against)
    trained = any(own.measurements[column].is_trained_on for column in plus + minus)
    is_valid = all(own.measurements[column].is_valid for column in plus + minus)
    n, prompts, part = own.measurements[plus[0]].n, own.resampled.clusters, own.measurements[plus[0]].slice
    found = own.estimate_arms(arm, against)
    return Difference(own.metric, arm, against, found, n, prompts, trained, is_valid=is_valid, slice=part)


def _adjusted(family: list[Difference]) -> list[Difference]:
    p_values = holm([difference.estimate.p for difference in family])
    return [replace(d, p_adjusted=p, comparisons=len(family)) for d, p in zip(family, p_values, strict=True)]


def default_focus(arms: Sequence[str]) -> str | None:
    """Return `deft` where there is such an arm, else the first."""
    return "deft" if "deft" in arms else next(iter(arms), None)
