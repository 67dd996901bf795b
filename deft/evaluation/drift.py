"""How far each arm moved from the base, draw by draw: one draw that moved far makes the whole arm no plain gain.

It knows numbers and arms only; the words of a verdict are in `verdict`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deft.evaluation.comparison import VERDICT_METRIC, Evidence
from deft.evaluation.metrics import BASE, SHORTER

HEAVY_DRIFT = 0.5
"""Nats a token of KL to the base, or of fall of log p(chosen), above which a draw has drifted heavily (ours)."""

_LIKELIHOOD = "chosen_logp_change_per_token"
_DIRECTIONS = {"kl": 1.0, _LIKELIHOOD: -1.0}
"""By metric, the sign with which more is further from the base."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far an arm moved from the base: KL and change of log p(chosen), nats a token; None was not measured.

    The numbers are means over the arm's *draws*. *heavy* are those of them of which either number is beyond
    `HEAVY_DRIFT`, or is no number at all. *is_measured* says whether log p(chosen) was followed in every draw.
    """

    kl: float | None = None
    change: float | None = None
    change_per_token: float | None = None
    draws: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()
    is_measured: bool = False

    def words(self) -> str:
        """Return the numbers in words."""
        kl = "KL not measured" if self.kl is None else f"KL {self.kl:.3f} nats a token"
        if self.change is None or self.change_per_token is None:
            return f"{kl}, log p(chosen) not measured"
        return f"{kl}, log p(chosen) {self.change:+.1f} nats ({self.change_per_token:+.2f} a token)"

    def among(self, some: Sequence[str]) -> str:
        """Return which of several draws *some* are, in words; nothing where the arm has one draw."""
        if len(self.draws) < 2:
            return ""
        return f" ({', '.join(f'`{draw}`' for draw in some)} of {len(self.draws)} draws)"


Drifts = Mapping[str, Drift]
"""The drift of each arm."""


def drifts_of(evidence: Mapping[str, Evidence]) -> dict[str, Drift]:
    """Return the drift of every arm in *evidence*, the base and the length baseline left out."""
    arms = dict.fromkeys(arm for found in evidence.values() for arm in found.arms())
    return {arm: _drift_of(arm, evidence) for arm in arms if arm not in (BASE, SHORTER)}


def _drift_of(arm: str, evidence: Mapping[str, Evidence]) -> Drift:
    names = ("kl", "chosen_logp_change", _LIKELIHOOD)
    by_draw = {name: _by_draw(arm, evidence.get(name)) for name in names}
    means = [sum(own.values()) / len(own) if own else None for own in by_draw.values()]
    draws = tuple(dict.fromkeys(draw for found in evidence.values() for draw in _by_draw(arm, found)))
    judged = _by_draw(arm, evidence.get(VERDICT_METRIC)) or dict.fromkeys(draws)
    heavy = tuple(draw for draw in draws if any(_is_far(name, by_draw[name].get(draw)) for name in _DIRECTIONS))
    return Drift(*means, draws, heavy, is_measured=bool(judged) and set(judged) <= set(by_draw[_LIKELIHOOD]))


def _by_draw(arm: str, found: Evidence | None) -> dict[str, float]:
    """Return the value of each draw of *arm*."""
    if found is None:
        return {}
    return {found.measurements[c].system: float(found.resampled.observed[c]) for c in found.columns(arm)}


def _is_far(metric: str, value: float | None) -> bool:
    """Whether *value* is beyond `HEAVY_DRIFT`; what is no number is (NaN compares with nothing)."""
    return value is not None and not _DIRECTIONS[metric] * value <= HEAVY_DRIFT
