"""What an evaluation or a judging measured, read back prompt by prompt from its files, as the measurements it was.

So any two sides of it can be compared as its own verdict compares two arms. Torch-free; knows files and columns, no
statistics.

Letters: n rows, C clusters (prompts), K additive numbers.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deft.evaluation.intervals import Array, Bounds
from deft.evaluation.metrics import Measurement, rule_of

BOUNDS = "deft_bounds"
"""Key in the metadata of values.parquet: the ends of each metric's range, as JSON by metric."""

LABELS = "labels"
"""The set of a judging's pairs that people ranked: they are of no system."""

Json = Mapping[str, Any]
RANGES: Mapping[str, Bounds] = {"share": (0.0, 1.0), "0-100": (0.0, 100.0), "1-10": (1.0, 10.0)}
"""What values of a unit can be, where the file does not say."""


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """How many prompts of a judging were read *of_all* the systems that are asked about, and how many were *judged*.

    A prompt that several rows share is counted once.
    """

    of_all: int
    judged: int

    @property
    def are_few(self) -> bool:
        """Whether they are fewer than half, so that they may say something else than the rest."""
        return 2 * self.of_all < self.judged


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """One metric of all systems over the same C prompts; equal *prompts*: over the same rows in the same order.

    *clusters* [C] name the prompts of a judging, which may have read other ones of each system; None: all have all.
    """

    measurements: list[Measurement]
    prompts: str
    clusters: Array | None = None

    def read_of(self, systems: Sequence[str]) -> "Summed | None":
        """Return this over the prompts that were read of all of *systems*; None: there is no such prompt."""
        return self if self.clusters is None else self._over(self.is_read_of(systems))

    def shared_with(self, other: "Summed") -> "tuple[Summed, Summed] | None":
        """Return this and *other* over the prompts that both have; None: their rows are not known to be the same."""
        if self.prompts == other.prompts:
            return self, other
        if self.clusters is None or other.clusters is None:
            return None
        mine = self._over(np.isin(self.clusters, other.clusters))
        theirs = other._over(np.isin(other.clusters, self.clusters))
        return None if mine is None or theirs is None else (mine, theirs)

    def is_read_of(self, systems: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of the prompts were read of all of *systems* that are here: [C]."""
        is_read: NDArray[np.bool_] = np.ones(len(self.measurements[0].sums), dtype=np.bool_)
        for each in self.measurements:
            if each.system in systems:
                is_read &= each.sums[:, 1] > 0
        return is_read

    def _over(self, is_kept: NDArray[np.bool_]) -> "Summed | None":
        """Return this over some of its prompts, without systems of which none of them was read; None: over none."""
        if self.clusters is None or not is_kept.any():
            return None
        clusters, own = self.clusters[is_kept], [replace(m, sums=m.sums[is_kept]) for m in self.measurements]
        return Summed([m for m in own if m.sums[:, 1].any()], _digest(clusters), clusters)

    def with_known(self, system: str, value: float, like: str) -> "Summed":
        """Add *system*, whose *value* holds by definition, counted as the system *like* is; or change nothing."""
        by_name = {each.system: each for each in self.measurements}
        if system in by_name or like not in by_name:
            return self
        counts = by_name[like].sums[:, 1]
        sums = np.column_stack([value * counts, counts])
        own = replace(by_name[like], system=system, arm=system, sums=sums, is_by_definition=True)
        own = replace(own, is_trained_on=False, is_valid=True)
        return replace(self, measurements=[*self.measurements, own])


@dataclass(frozen=True, slots=True)
class EvaluationValues:
    """The file values.parquet of an evaluation."""

    path: Path

    def read(self, metric: str, rows: Sequence[Json]) -> Summed | None:
        """Return *metric* of all its systems over held-out rows; None: the file has nothing of it.

        *rows* are those of metrics.json. What the file has of prompt sets is in no number over all rows.
        """
        table = pq.read_table(self.path, filters=[("metric", "=", metric)])
        if "set" in table.column_names:
            table = table.filter(pc.is_null(table["set"]))
        if not len(table):
            return None
        bounds = self._bounds(metric)
        systems = np.array(table["system"].to_pylist())
        own = {name: table.filter(systems == name) for name in dict.fromkeys(systems.tolist())}
        places = {name: (each["row"].to_numpy(), each["prompt"].to_numpy()) for name, each in own.items()}
        first = next(iter(places.values()))
        if any(not all(map(np.array_equal, first, each)) for each in places.values()):
            return None
        found = [
            _measurement(metric, name, each["arm"][0].as_py(), _sums(each, first[1]), bounds, rows)
            for name, each in own.items()
        ]
        return Summed(found, _digest(*first))

    def _bounds(self, metric: str) -> Bounds:
        known = json.loads((pq.read_schema(self.path).metadata or {}).get(BOUNDS.encode(), b"{}"))
        if metric in known:
            return None if known[metric] is None else (known[metric][0], known[metric][1])
        return RANGES.get(rule_of(metric).unit)


@dataclass(frozen=True, slots=True)
class JudgingValues:
    """The file judgements.parquet of a judging."""

    path: Path

    def read(self, metric: str, rows: Sequence[Json]) -> Summed | None:
        """Return *metric* of all systems over the prompts that were read of any; None: it is no mean over answers.

        *rows* are those of metrics.json. A prompt that was not read of a system has the sums 0, 0 there: `read_of`.
        """
        value_of = _SAID.get(metric)
        if value_of is None:
            return None
        table = pq.read_table(self.path).to_pylist()
        said = [(each, value_of(each)) for each in table if each["set"] != LABELS]
        read = [(each, value) for each, value in said if value is not None]
        if not read:
            return None
        clusters = np.array(sorted({each["cluster"] for each, _ in read}))
        place_of = {cluster: place for place, cluster in enumerate(clusters.tolist())}
        sums: dict[str, Array] = {}
        for each, value in read:
            own = sums.setdefault(each["system"], np.zeros((len(clusters), 2)))
            own[place_of[each["cluster"]]] += (value, 1.0)
        arms = {row["system"]: row["arm"] for row in rows}
        bounds: Bounds = RANGES.get(rule_of(metric).unit, (-9.0, 9.0))
        found = [_measurement(metric, name, arms.get(name, name), own, bounds, rows) for name, own in sums.items()]
        return Summed(found, _digest(clusters), clusters)

    def read_prompts(self, metric: str, systems: Sequence[str]) -> ReadPrompts | None:
        """Return how many prompts were read of all of *systems*; None: *metric* is no mean over answers."""
        every = self.read(metric, [])
        if every is None:
            return None
        table = pq.read_table(self.path, columns=["set", "cluster"])
        judged = pc.count_distinct(table.filter(pc.not_equal(table["set"], LABELS))["cluster"]).as_py()
        return ReadPrompts(int(every.is_read_of(systems).sum()), judged)


def _gain(said: Json) -> float | None:
    if said["score"] is None or said["score_against"] is None or said["system"] == said["against"]:
        return None
    return float(said["score"] - said["score_against"])


_SAID = {
    "judge_win_rate": lambda said: said["outcome"],
    "judge_score": lambda said: said["score"],
    "judge_score_gain": _gain,
}


def _measurement(metric: str, system: str, arm: str, sums: Array, bounds: Bounds, rows: Sequence[Json]) -> Measurement:
    """Return *sums* with what *rows* say of this number."""
    key = (system, metric, "all")
    row = next((row for row in rows if (row["system"], row["metric"], row.get("slice", "all")) == key), {})
    return Measurement(
        metric=metric,
        system=system,
        arm=arm,
        sums=sums,
        n=int(row.get("n") or 0),
        bounds=bounds,
        is_trained_on=bool(row.get("is_trained_on")),
        is_valid=bool(row.get("is_valid", True)),
    )


def _sums(table: Any, prompts: Any) -> Array:  # noqa: ANN401 -- pyarrow and numpy
    """Sum the rows of each prompt: [C, K], prompts in their own order."""
    values = np.array(table["sums"].to_pylist(), dtype=np.float64)
    sums: Array = np.zeros((int(prompts.max()) + 1, values.shape[1]))
    np.add.at(sums, prompts, values)
    return sums


def _digest(*arrays: Any) -> str:  # noqa: ANN401 -- numpy
    """Return the SHA-256, in hex, of the arrays' bytes."""
    return hashlib.sha256(b"|".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()
