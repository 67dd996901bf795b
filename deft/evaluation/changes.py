"""The difference of two measured values, from the files of one evaluation or of two. No model, no database.

Where prompts were paired the interval is theirs. Elsewhere it is made of the two intervals (MOVER: Zou and Donner 2008,
doi 10.1002/sim.3095), as if they were independent: answers to the same prompts go up and down together, so that it is
rather too long.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.evaluation.directions import OF_THE_BASE

BASE = "base"
HASH = "settings_hash"
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A measured *value* with its 95 % interval; None: not known. *may_decide*: neither trained on nor invalid."""

    value: float
    low: float | None
    high: float | None
    n: int | None = None
    may_decide: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """One value less another, with its 95 % interval; *is_paired*: over the same prompts, resampled together.

    *prompts* is how many, where it is on record.
    """

    value: float
    low: float | None
    high: float | None
    is_paired: bool
    may_decide: bool = True
    prompts: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of an evaluation: *rows* of metrics.json, *differences* of the comparison, *settings* by metric."""

    rows: Sequence[Json]
    differences: Sequence[Json]
    settings: Mapping[str, Json]

    def value(self, system: str, metric: str, part: str = "all") -> Value | None:
        """Return the value of *metric* that *system* has over the slice *part*; None: it was not measured."""
        for row in self.rows:
            is_meant = (row["system"], row["metric"], row.get("slice", "all")) == (system, metric, part)
            if is_meant and row.get("value") is not None:
                decides = not row.get("is_trained_on") and row.get("is_valid", True)
                return Value(row["value"], row.get("low"), row.get("high"), row.get("n"), bool(decides))
        if system == BASE and part == "all" and metric in OF_THE_BASE:
            return Value(OF_THE_BASE[metric], OF_THE_BASE[metric], OF_THE_BASE[metric])
        return None

    def slices(self, system: str, metric: str, prefix: str) -> list[str]:
        """Return the slices that begin with *prefix* in which *metric* of *system* was measured."""
        rows = (row for row in self.rows if (row["system"], row["metric"]) == (system, metric))
        return sorted(row["slice"] for row in rows if str(row.get("slice", "all")).startswith(prefix))

    def metrics(self, system: str) -> list[str]:
        """Return what was measured of *system* over all rows, in the order of the file."""
        return [row["metric"] for row in self.rows if row["system"] == system and row.get("slice", "all") == "all"]

    def settings_of(self, metric: str) -> Json:
        """Return what *metric* depends on but the system; of one that is not on record, the hash of it."""
        hashes = (row.get(HASH) for row in self.rows if row["metric"] == metric)
        return self.settings.get(metric) or {HASH: next(hashes, None)}

    def change(self, system: str, against: str, metric: str, part: str = "all") -> Change | None:
        """Return *system* less *against*: paired where the comparison has it, else of two intervals; None: unknown."""
        mine, theirs = self.value(system, metric, part), self.value(against, metric, part)
        if mine is None or theirs is None:
            return None
        found = self._paired(system, against, metric, part)
        return found or less(mine, theirs)

    def at_worst(self, system: str, metric: str, part: str) -> Change | None:
        """Return the increase over the base were the answers that a safety rate leaves out the worst they could be.

        It is over all prompts of the slice; None: it is not on record.
        """
        for one in self.differences:
            names = (one.get("system"), one.get("against"), one["metric"], one.get("slice", "all"))
            if names == (system, BASE, metric, part) and one.get("at_worst"):
                own, numbers = one["at_worst"], (self.value(who, metric, part) for who in (system, BASE))
                decides = all(number is None or number.may_decide for number in numbers)
                return Change(own["difference"], own["low"], own["high"], True, decides, own["prompts"])
        return None

    def _paired(self, system: str, against: str, metric: str, part: str) -> Change | None:
        """Return the paired difference of the two systems, or of their arms where each arm is one system alone."""
        for one in self.differences:
            if (one["metric"], one.get("slice", "all")) != (metric, part) or one.get("low") is None:
                continue
            plus, minus = (one["system"], one["against"]) if "system" in one else self._of_arms(one)
            decides = bool(not one.get("is_trained_on") and one.get("is_valid", True))
            if (plus, minus) == (system, against):
                return Change(one["difference"], one["low"], one["high"], is_paired=True, may_decide=decides)
            if (plus, minus) == (against, system):
                return Change(-one["difference"], -one["high"], -one["low"], is_paired=True, may_decide=decides)
        return None

    def _of_arms(self, difference: Json) -> tuple[str | None, str | None]:
        """Return the systems that the difference of two arms is of; None for an arm of several draws."""
        systems: dict[str, set[str]] = {BASE: {BASE}}
        for row in self.rows:
            systems.setdefault(str(row.get("arm")), set()).add(row["system"])
        plus, minus = (systems.get(difference[name], set()) for name in ("arm", "against"))
        return (next(iter(plus)) if len(plus) == 1 else None), (next(iter(minus)) if len(minus) == 1 else None)


def read_measured(folder: Path) -> Measured:
    """Return the numbers of the evaluation in *folder*; files that it lacks count as empty."""
    comparison, safety = _json(folder / "comparison.json") or {}, _json(folder / "safety.json") or {}
    of_sets: dict[str, Json] = {row["metric"]: safety.get("settings") or {} for row in safety.get("rates") or []}
    return Measured(
        rows=_json(folder / "metrics.json") or [],
        differences=[*(comparison.get("differences") or []), *(safety.get("differences") or [])],
        settings={**((_json(folder / "evaluation.json") or {}).get("settings") or {}), **of_sets},
    )


def less(mine: Value, theirs: Value) -> Change:
    """Return *mine* less *theirs* with the interval that their own intervals make, as if they were independent."""
    value, decides = mine.value - theirs.value, mine.may_decide and theirs.may_decide
    ends = (mine.low, mine.high, theirs.low, theirs.high)
    if any(end is None for end in ends):
        return Change(value, None, None, is_paired=False, may_decide=decides)
    low, high, their_low, their_high = (float(end) for end in ends if end is not None)
    down = math.hypot(mine.value - low, their_high - theirs.value)
    up = math.hypot(high - mine.value, theirs.value - their_low)
    return Change(value, value - down, value + up, is_paired=False, may_decide=decides)


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


def _json(path: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
