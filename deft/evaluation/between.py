"""Two sides of two evaluations: whether they were measured alike, and how they differ. No model, no database."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from deft.evaluation.changes import HASH, Measured, Runs, columns_of, paired
from deft.evaluation.comparison import NO_LUCK, Evidence
from deft.evaluation.differences import Change, Value, less
from deft.evaluation.intervals import Luck

ROWS_OF = ("pairs", "prompts", "texts")
"""Settings of a metric that identify the rows which it is over."""


def between(left: Measured, plus: Runs, right: Measured, minus: Runs, metric: str) -> Change | None:
    """Return *plus* of the evaluation *left* less *minus* of another, *right*; None: one of them was not measured.

    It is paired where both have *metric* prompt by prompt over the same rows. The luck of a run is that of the side's
    own evaluation, or else of the other.
    """
    mine, theirs = left.value_of(plus, metric), right.value_of(minus, metric)
    if mine is None or theirs is None:
        return None
    found = _paired(left, plus, right, minus, metric) if _is_over_the_same(left, right, metric) else None
    if found is not None:
        return replace(found, may_decide=mine.may_decide and theirs.may_decide)
    (mine, mine_has), (theirs, theirs_has) = (
        _with_luck(left, plus, metric, mine),
        _with_luck(right, minus, metric, theirs),
    )
    return replace(less(mine, theirs), has_luck=mine_has and theirs_has)


def _paired(left: Measured, plus: Runs, right: Measured, minus: Runs, metric: str) -> Change | None:
    """Return the difference over the same rows; None where the rows of the two are not the same after all."""
    mine, theirs = left.summed(metric, (plus,)), right.summed(metric, (minus,))
    shared = None if mine is None or theirs is None else mine.shared_with(theirs)
    if shared is None:
        return None
    one, other = shared
    own, its = len(one.measurements), len(other.measurements)
    evidence = left.resampled(metric, [*one.measurements, *other.measurements])
    here = [place for place in range(own) if one.measurements[place].system in plus]
    there = [own + place for place in range(its) if other.measurements[place].system in minus]
    lucks = [evidence.luck_within(range(own)), evidence.luck_within(range(own, own + its))]
    luck = _added(evidence, (here, there), lucks)
    return paired(evidence.estimate_with(luck or NO_LUCK, here, there), has_luck=luck is not None)


def _added(evidence: Evidence, sides: Sequence[Sequence[int]], lucks: Sequence[Luck | None]) -> Luck | None:
    """Return the luck of the difference of two *sides* whose runs come from two evaluations; None: neither tells."""
    known = [luck for luck in lucks if luck is not None]
    if not known:
        return None
    own = [(luck or known[0]).times(evidence.runs(side)) for luck, side in zip(lucks, sides, strict=True)]
    degrees = min(luck.degrees for luck in known)
    return Luck(sum(luck.between for luck in own), degrees, sum(luck.noise for luck in own))


def _with_luck(measured: Measured, runs: Runs, metric: str, value: Value) -> tuple[Value, bool]:
    """Return *value* with the luck of its runs in the interval, and whether it is known."""
    evidence = measured.evidence(metric, (runs,))
    if evidence is None or evidence.luck is None:
        return value, False
    found = evidence.estimate_runs(columns_of(evidence, runs))
    return replace(value, low=found.low, high=found.high), True


def _is_over_the_same(left: Measured, right: Measured, metric: str) -> bool:
    """Whether the settings of *metric* name the same rows on both sides."""
    named = [[own.settings_of(metric).get(name) for name in ROWS_OF] for own in (left, right)]
    return named[0] == named[1] and any(each is not None for each in named[0])


def differing_settings(left: Measured, right: Measured, metrics: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return by name the settings in which *metrics* of the two differ: {left, right, metrics}.

    Of a metric whose settings are not on record the hash is compared; without one nobody can say that they are alike.
    """
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        mine, theirs = left.settings_of(metric), right.settings_of(metric)
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name) or (name == HASH and mine[name] is None):
                own = found.setdefault(name, {"left": mine.get(name), "right": theirs.get(name), "metrics": []})
                own["metrics"].append(metric)
    return found
