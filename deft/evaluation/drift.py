"""How far each arm moved from the base, draw by draw: one draw that moved far makes the whole arm no plain winner.

So does one whose answers collapsed, where that was measured: a model that only ever says one short loop can stay below
the limit of KL.

It knows numbers and arms only; the words of a verdict are in `verdict`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deft.evaluation.comparison import VERDICT_METRIC, Evidence
from deft.evaluation.metrics import BASE, SHORTER, rule_of

HEAVY_DRIFT = 0.5
"""Nats a token of KL to the base, or of fall of log p(chosen), above which a draw has drifted heavily (ours)."""

_LIKELIHOOD = "chosen_logp_change_per_token"
_DIRECTIONS = {"kl": 1.0, _LIKELIHOOD: -1.0}
"""By metric, the sign with which more is further from the base."""


SILENT = "silent"
CHANGES = {"distinct_1": -0.3, "distinct_2": -0.2, "ended": -0.3, "repeated": 0.3, SILENT: 0.1}
"""By metric, the fall or rise against the base that is a marked one, where its 95 % interval leaves out 0 (ours).

A longer answer has fewer distinct words and ends less often by itself, hence the wide limits; a loop has hardly any.
Honest answers of a hundred words beside answers of a few words may fall as far; what is told then is a doubt too many.
What says the same to every prompt may have all its words distinct. Short answers are the same more often. Beside a base
that repeats itself silence repeats no more than it does, and hardly an honest answer says nothing: a narrow limit.
"""

WORD_PAIRS = "distinct_2"
"""A share that honest answers may have nothing of; of words alone, none is silence."""
INCOHERENT = "incoherent"
RISE = 0.1
"""The rise of the share of incoherent answers that is a marked one, where its interval leaves out 0 (ours)."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A marked *change* of *metric* of the answers of one *draw* against the base, with its 95 % interval."""

    draw: str
    metric: str
    change: float
    low: float
    high: float

    def words(self) -> str:
        """Return the change in words."""
        title = INCOHERENT + " answers" if self.metric == INCOHERENT else rule_of(self.metric).title
        ends = f"95 % interval {self.low:+.3f} to {self.high:+.3f}"
        return f"{title} of `{self.draw}` {self.change:+.3f} ({ends})"


@dataclass(frozen=True, slots=True)
class Drift:
    """How far an arm moved from the base: KL and change of log p(chosen), nats a token; None was not measured.

    The numbers are means over the arm's *draws*. *heavy* are those of them of which either number is beyond
    `HEAVY_DRIFT`, or is no number at all. *is_measured* says whether both were followed in every draw: log p(chosen)
    alone sees no answer. *signs* say that answers collapsed.
    """

    kl: float | None = None
    change: float | None = None
    change_per_token: float | None = None
    draws: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()
    is_measured: bool = False
    signs: tuple[Sign, ...] = ()

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Return the draws whose answers collapsed."""
        return tuple(dict.fromkeys(sign.draw for sign in self.signs))

    def words(self) -> str:
        """Return the numbers in words."""
        kl = "KL not measured" if self.kl is None else f"KL {_told(self.kl, '.3f', ' nats a token')}"
        if self.change is None or self.change_per_token is None:
            return f"{kl}, log p(chosen) not measured"
        per_token = _told(self.change_per_token, "+.2f", " a token")
        return f"{kl}, log p(chosen) {_told(self.change, '+.1f', ' nats')} ({per_token})"

    def among(self, some: Sequence[str]) -> str:
        """Return which of several draws *some* are, in words; nothing where the arm has one draw."""
        if len(self.draws) < 2:
            return ""
        return f" ({', '.join(f'`{draw}`' for draw in some)} of {len(self.draws)} draws)"


def _told(value: float, form: str, unit: str) -> str:
    return f"{value:{form}}{unit}" if math.isfinite(value) else "no number"


Drifts = Mapping[str, Drift]
"""The drift of each arm."""


def drifts_of(evidence: Mapping[str, Evidence], incoherence: Sequence[Mapping[str, Any]] = ()) -> dict[str, Drift]:
    """Return the drift of every arm in *evidence*, the base and the length baseline left out.

    *incoherence* are the differences of safety.json in the share of incoherent answers, over all prompts of a kind.
    """
    arms = dict.fromkeys(arm for found in evidence.values() for arm in found.arms())
    return {arm: _drift_of(arm, evidence, incoherence) for arm in arms if arm not in (BASE, SHORTER)}


def _drift_of(arm: str, evidence: Mapping[str, Evidence], incoherence: Sequence[Mapping[str, Any]]) -> Drift:
    names = ("kl", "chosen_logp_change", _LIKELIHOOD)
    by_draw = {name: _by_draw(arm, evidence.get(name)) for name in names}
    kl, change, per_token = (_mean(by_draw[name]) for name in names)
    draws = tuple(dict.fromkeys(draw for found in evidence.values() for draw in _by_draw(arm, found)))
    judged = _by_draw(arm, evidence.get(VERDICT_METRIC)) or dict.fromkeys(draws)
    heavy = tuple(draw for draw in draws if any(_is_far(name, by_draw[name].get(draw)) for name in _DIRECTIONS))
    is_measured = bool(judged) and all(set(judged) <= set(by_draw[name]) for name in _DIRECTIONS)
    signs = (*_changes(arm, evidence), *_rises(arm, incoherence))
    return Drift(kl, change, per_token, draws, heavy, is_measured=is_measured, signs=signs)


def _mean(by_draw: Mapping[str, float]) -> float | None:
    return sum(by_draw.values()) / len(by_draw) if by_draw else None


def _changes(arm: str, evidence: Mapping[str, Evidence]) -> Iterator[Sign]:
    """Yield the marked changes of each draw of *arm* against the base."""
    for metric, limit in CHANGES.items():
        found = evidence.get(metric)
        base = [] if found is None else found.columns(BASE)
        if found is None or not base:
            continue
        for column in found.columns(arm):
            if metric == WORD_PAIRS and _is_of_nothing(found, column):
                continue
            own = found.estimate([column], base)
            if own.low is None or own.high is None:
                continue
            is_fall, is_rise = own.value < limit and own.high < 0, own.value > limit and own.low > 0
            is_marked = is_fall if limit < 0 else is_rise
            if is_marked or (metric == SILENT and own.value > 0 and _is_all(found, column)):
                yield Sign(found.measurements[column].system, metric, own.value, own.low, own.high)


def _is_all(found: Evidence, column: int) -> bool:
    """Whether a share is the whole: nothing but silence, where the base said something, is a sign by itself.

    Of three prompts or fewer the interval holds 0 even then: it cannot tell that from chance. A model that has not said
    one word never reads as a gain for all that.
    """
    return bool(found.resampled.observed[column] == 1)


def _is_of_nothing(found: Evidence, column: int) -> bool:
    """Whether a share has nothing that it is a share of, as distinct word pairs of answers of one word."""
    return not found.measurements[column].sums[:, 1].any()


def _rises(arm: str, incoherence: Sequence[Mapping[str, Any]]) -> Iterator[Sign]:
    """Yield the marked rises of the share of incoherent answers of each draw of *arm* against the base."""
    for one in incoherence:
        is_own = (one["arm"], one["against"], one["metric"], one["slice"]) == (arm, BASE, INCOHERENT, "all")
        if is_own and one["difference"] > RISE and one["low"] is not None and one["low"] > 0:
            yield Sign(one["system"], INCOHERENT, one["difference"], one["low"], one["high"])


def _by_draw(arm: str, found: Evidence | None) -> dict[str, float]:
    """Return the value of each draw of *arm*."""
    if found is None:
        return {}
    return {found.measurements[c].system: float(found.resampled.observed[c]) for c in found.columns(arm)}


def _is_far(metric: str, value: float | None) -> bool:
    """Whether *value* is beyond `HEAVY_DRIFT`; what is no number is (NaN compares with nothing)."""
    return value is not None and not _DIRECTIONS[metric] * value <= HEAVY_DRIFT
