"""Adapters ranked by one metric, only among numbers of like settings. Pure: no rows of a database, no files.

A rank by value alone claims more than the numbers hold: every entry says, too, between which ranks its interval leaves
it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from deft.evaluation.directions import Direction

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One score of one adapter, from one evaluation, or from a judging or a human study of it.

    *may_rank*: it is valid, and training did not aim at it.
    """

    adapter_id: str
    evaluation_id: str
    system: str
    arm: str | None
    value: float
    low: float | None
    high: float | None
    n: int | None
    settings_hash: str
    may_rank: bool
    measured_at: datetime
    judging_id: str | None = None
    study_id: str | None = None
    metric: str = ""
    """The score's own, where what is ranked is a family (`reward:rm_...` of `reward`)."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entry with its *rank* by value, and the best and worst rank that the intervals allow.

    Ranks are None where the entry may not rank, and where no end of the metric is the better one: it is shown and
    takes no part.
    """

    entry: Entry
    rank: int | None
    best_rank: int | None
    worst_rank: int | None


@dataclass(frozen=True, slots=True)
class Board:
    """The places of all adapters that were measured under one *settings_hash*."""

    settings_hash: str
    places: list[Place]


def boards(entries: Iterable[Entry], *, better: Direction | None, order: Order | None = None) -> list[Board]:
    """Return one board a settings hash, that of the newest entry first; of an adapter the newest score counts.

    Ranks go by the *better* end of the metric; None: it has none, and nobody ranks. Places stand in *order* of values,
    what does not rank last; None: the better end first.
    """
    by_hash: dict[str, dict[str, Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.measured_at, entry.evaluation_id), reverse=True):
        by_hash.setdefault(entry.settings_hash, {}).setdefault(entry.adapter_id, entry)
    first: Order = order or ("asc" if better == "lower" else "desc")
    return [Board(name, _places(list(own.values()), better, first)) for name, own in by_hash.items()]


def _places(entries: Sequence[Entry], better: Direction | None, order: Order) -> list[Place]:
    listed = sorted(entries, key=lambda entry: entry.value if order == "asc" else -entry.value)
    ranked = [entry for entry in listed if entry.may_rank and better is not None]
    sign = -1.0 if better == "lower" else 1.0
    placed = [_place(entry, ranked, sign) for entry in ranked]
    return placed + [Place(entry, None, None, None) for entry in listed if entry not in ranked]


def _place(entry: Entry, ranked: Sequence[Entry], sign: float) -> Place:
    worst, best = _ends(entry, sign)
    above = sum(_ends(other, sign)[0] > best for other in ranked)
    below = sum(_ends(other, sign)[1] < worst for other in ranked)
    rank = 1 + sum(sign * other.value > sign * entry.value for other in ranked)
    return Place(entry, rank, 1 + above, len(ranked) - below)


def _ends(entry: Entry, sign: float) -> tuple[float, float]:
    """Return the worse and the better end of the entry, so that more is better; an unknown end is infinitely far."""
    ends = (entry.low, entry.high) if sign > 0 else (entry.high, entry.low)
    worse, better = (None if end is None else sign * end for end in ends)
    return (float("-inf") if worse is None else worse), (float("inf") if better is None else better)
