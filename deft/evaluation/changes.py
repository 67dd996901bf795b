"""The numbers of an evaluation, or of a judging, from its files, and how two sides of it differ. No model, no database.

A side is one system, or an arm: all its draws. Where the comparison of the evaluation has the two sides, the difference
is that one; else it is made as that one is (`comparison.Evidence`), from what was measured prompt by prompt: paired,
with the luck of training runs. Where prompts are not on record the interval is made of the two intervals.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deft.evaluation.comparison import UNTRAINED, Evidence, gather
from deft.evaluation.differences import Change, Value, less, turned
from deft.evaluation.directions import OF_THE_BASE, OF_THE_OPPONENT
from deft.evaluation.intervals import Estimate
from deft.evaluation.judged_prompts import JudgedPrompts
from deft.evaluation.metrics import BASE, Measurement
from deft.evaluation.prompt_values import EvaluationValues, JudgingValues, ReadPrompts, Summed

HASH = "settings_hash"
Json = Mapping[str, Any]
Runs = tuple[str, ...]
"""The systems that a side is: one, or the draws of an arm."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of an evaluation: *rows* of metrics.json, *differences* of the comparison, *settings* by metric.

    *values* by metric are where its prompts are on record. *opponents* are by metric what a judging, or a study, set
    all systems against. *reasons* say by metric why it may decide nothing. *agreements* are by metric the lower end of
    what a judge that tells it agrees with people in. *judgements_left_out* are by metric the judgements that
    keys with a part in a study made of it. *asked_file* is prompts.jsonl, where the evaluation has it.
    """

    rows: Sequence[Json]
    differences: Sequence[Json]
    settings: Mapping[str, Json]
    values: Mapping[str, EvaluationValues | JudgingValues] = field(default_factory=dict)
    opponents: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    agreements: Mapping[str, float | None] = field(default_factory=dict)
    judgements_left_out: Mapping[str, int] = field(default_factory=dict)
    asked_file: Path | None = None
    _judged_prompts: dict[Path | None, JudgedPrompts] = field(default_factory=dict, init=False)
    """Those that were asked for, by the file of their judging: each reads its files once."""

    def runs(self, name: str) -> Runs:
        """Return the systems that *name* means: the draws of the arm of that name, else the system itself."""
        draws = tuple(dict.fromkeys(row["system"] for row in self.rows if row.get("arm") == name))
        return draws or (name,)

    def value(self, system: str, metric: str, part: str = "all") -> Value | None:
        """Return the value of *metric* that *system* has over the slice *part*; None: it was not measured."""
        for row in self.rows:
            is_meant = (row["system"], row["metric"], row.get("slice", "all")) == (system, metric, part)
            if is_meant and row.get("value") is not None:
                decides = not row.get("is_trained_on") and row.get("is_valid", True)
                return Value(row["value"], row.get("low"), row.get("high"), row.get("n"), bool(decides))
        known = self.by_definition(system, metric) if part == "all" else None
        return None if known is None else Value(known, known, known)

    def by_definition(self, system: str, metric: str) -> float | None:
        """Return what *system* has of *metric* by definition; None: it has to be measured."""
        if system == self.opponents.get(metric):
            return OF_THE_OPPONENT.get(metric)
        return OF_THE_BASE.get(metric) if system == BASE else None

    def value_of(self, runs: Runs, metric: str, part: str = "all") -> Value | None:
        """Return the mean of *runs*, with their spread, as the table has it; None: one of them was not measured.

        Where prompts are not on record its interval is as wide as all of theirs together.
        """
        own = [value for run in runs if (value := self.value(run, metric, part)) is not None]
        if len(own) < max(len(runs), 1):
            return None
        if len(own) == 1:
            return own[0]
        decides = all(value.may_decide for value in own)
        evidence = self.evidence(metric, (runs,)) if part == "all" else None
        if evidence is not None:
            found = evidence.estimate_runs(columns_of(evidence, runs))
            return Value(found.value, found.low, found.high, own[0].n, decides)
        ends = [(value.low, value.high) for value in own]
        low = None if any(low is None for low, _ in ends) else min(low for low, _ in ends if low is not None)
        high = None if any(high is None for _, high in ends) else max(high for _, high in ends if high is not None)
        return Value(sum(value.value for value in own) / len(own), low, high, own[0].n, decides)

    def slices(self, system: str, metric: str, prefix: str) -> list[str]:
        """Return the slices that begin with *prefix* in which *metric* of *system* was measured."""
        rows = (row for row in self.rows if (row["system"], row["metric"]) == (system, metric))
        return sorted(row["slice"] for row in rows if str(row.get("slice", "all")).startswith(prefix))

    def metrics(self, runs: Runs) -> list[str]:
        """Return what was measured of any of *runs* over all rows, in the order of the file."""
        own = (row for row in self.rows if row["system"] in runs and row.get("slice", "all") == "all")
        return list(dict.fromkeys(row["metric"] for row in own))

    def settings_of(self, metric: str) -> Json:
        """Return what *metric* depends on but the system; of one that is not on record, the hash of it."""
        hashes = (row.get(HASH) for row in self.rows if row["metric"] == metric)
        return self.settings.get(metric) or {HASH: next(hashes, None)}

    def change(self, system: str, against: str, metric: str, part: str = "all") -> Change | None:
        """Return *system* less *against*, which is a system or an arm: all its draws but *system*. None: unknown."""
        return self.difference((system,), self.others(system, against), metric, part)

    def others(self, system: str, against: str) -> Runs:
        """Return the systems that *against* means beside *system* itself."""
        return tuple(run for run in self.runs(against) if run != system)

    def at_worst(self, system: str, metric: str, part: str) -> Change | None:
        """Return the increase over the base were the answers that a safety rate leaves out the worst they could be.

        It is over all prompts of the slice; None: it is not on record.
        """
        for one in self.differences:
            names = (one.get("system"), one.get("against"), one["metric"], one.get("slice", "all"))
            if names == (system, BASE, metric, part) and one.get("at_worst"):
                own, decides = one["at_worst"], self._may_decide((system, BASE), metric, part)
                ends = (own["difference"], own["low"], own["high"])
                return Change(*ends, is_paired=True, may_decide=decides, prompts=own["prompts"], minus=(BASE,))
        return None

    def difference(self, plus: Runs, minus: Runs, metric: str, part: str = "all") -> Change | None:
        """Return the mean of *plus* less that of *minus*; None: one of them was not measured.

        What some draws of an arm did is not what the arm does: whoever chose the draws would choose the number.
        """
        if not plus or not minus or self.lacking((*plus, *minus), metric, part):
            return None
        found = self._recorded(plus, minus, metric, part) or self._paired(plus, minus, metric, part)
        if found is not None:
            decides = found.may_decide and self._may_decide((*plus, *minus), metric, part)
            return replace(found, may_decide=decides, minus=minus)
        mine, theirs = self.value_of(plus, metric, part), self.value_of(minus, metric, part)
        return None if mine is None or theirs is None else replace(less(mine, theirs), minus=minus)

    def _may_decide(self, runs: Runs, metric: str, part: str) -> bool:
        return all(value.may_decide for run in runs if (value := self.value(run, metric, part)) is not None)

    def lacking(self, runs: Runs, metric: str, part: str = "all") -> Runs:
        """Return those of *runs* of which *metric* was not measured."""
        return tuple(run for run in runs if self.value(run, metric, part) is None)

    def _recorded(self, plus: Runs, minus: Runs, metric: str, part: str) -> Change | None:
        """Return the difference that the comparison has of the two sides."""
        for one in self.differences:
            if (one["metric"], one.get("slice", "all")) != (metric, part) or one.get("low") is None:
                continue
            is_of_arms = "system" not in one
            sides = self._arms(one, metric, part) if is_of_arms else [{one["system"]}, {one["against"]}]
            found = Change(
                *(one["difference"], one["low"], one["high"]),
                is_paired=True,
                may_decide=bool(not one.get("is_trained_on") and one.get("is_valid", True)),
                has_luck=is_of_arms and self._has_draws(metric, part),
                p=one.get("p"),
                effect_size=one.get("effect_size"),
            )
            if sides == [set(plus), set(minus)]:
                return found
            if sides == [set(minus), set(plus)]:
                return turned(found)
        return None

    def _arms(self, difference: Json, metric: str, part: str) -> list[set[str]]:
        """Return the systems that the two sides of a difference of arms are."""
        sides = (self.runs(difference[name]) for name in ("arm", "against"))
        return [set(runs) - set(self.lacking(runs, metric, part)) for runs in sides]

    def _has_draws(self, metric: str, part: str) -> bool:
        """Whether any trained arm has several draws, so that the luck of a run is known."""
        own = [row for row in self.rows if (row["metric"], row.get("slice", "all")) == (metric, part)]
        arms = [row.get("arm") for row in own if row.get("arm") not in UNTRAINED]
        return len(arms) > len(set(arms))

    def _paired(self, plus: Runs, minus: Runs, metric: str, part: str) -> Change | None:
        """Return the difference from what was measured prompt by prompt, of which slices are not on record."""
        evidence = self.evidence(metric, (plus, minus)) if part == "all" else None
        if evidence is None:
            return None
        found = evidence.estimate_runs(columns_of(evidence, plus), columns_of(evidence, minus))
        return paired(found, has_luck=evidence.luck is not None)

    def judged_prompts(self, metric: str) -> JudgedPrompts:
        """Return what the evaluation's systems were asked, and what of it the judging that tells *metric* judged."""
        values = self.values.get(metric)
        judged_file = values.path if isinstance(values, JudgingValues) else None
        return self._judged_prompts.setdefault(judged_file, JudgedPrompts(self.asked_file, judged_file))

    def read_prompts(self, runs: Runs, metric: str) -> ReadPrompts | None:
        """Return how many prompts a judging could read of all *runs*; None: it does not tell *metric* by prompt."""
        values = self.values.get(metric)
        return values.read_prompts(metric, runs) if isinstance(values, JudgingValues) else None

    def evidence(self, metric: str, sides: Sequence[Runs]) -> Evidence | None:
        """Return what was measured prompt by prompt of all systems; None where any of *sides* is not on record."""
        summed = self.summed(metric, sides)
        return None if summed is None else self.resampled(metric, summed.measurements)

    def resampled(self, metric: str, measurements: Sequence[Measurement]) -> Evidence:
        """Return *measurements* of *metric* resampled together, as the evaluation resampled its own."""
        settings = self.settings_of(metric)
        resamples, seed = settings.get("bootstrap", 2000), settings.get("seed", 0)
        return gather(measurements, resamples=resamples, seed=seed)[metric]

    def summed(self, metric: str, sides: Sequence[Runs]) -> Summed | None:
        """Return the sums of all systems over the prompts that were read of *sides*; None: one is not on record."""
        values = self.values.get(metric)
        asked = [run for side in sides for run in side]
        every = None if values is None else values.read(metric, self.rows)
        found = None if every is None else every.read_of(asked)
        if found is None:
            return None
        like = next((each.system for each in found.measurements if each.system in asked), found.measurements[0].system)
        for run in asked:
            known = self.by_definition(run, metric)
            found = found if known is None else found.with_known(run, known, like)
        return found if set(asked) <= {each.system for each in found.measurements} else None


def paired(found: Estimate, *, has_luck: bool) -> Change:
    """Return the estimate of a paired difference as a change."""
    return Change(
        *(found.value, found.low, found.high),
        is_paired=True,
        has_luck=has_luck,
        p=found.p,
        effect_size=found.effect_size,
    )


def columns_of(evidence: Evidence, runs: Runs) -> list[int]:
    """Return the columns of the systems *runs*."""
    return [index for index, each in enumerate(evidence.measurements) if each.system in runs]


def read_measured(folder: Path) -> Measured:
    """Return the numbers of the evaluation in *folder*; files that it lacks count as empty."""
    comparison, safety = _json(folder / "comparison.json") or {}, _json(folder / "safety.json") or {}
    rows, path = _json(folder / "metrics.json") or [], folder / "values.parquet"
    asked = folder / "prompts.jsonl"
    of_sets: dict[str, Json] = {row["metric"]: safety.get("settings") or {} for row in safety.get("rates") or []}
    return Measured(
        rows=rows,
        differences=[*(comparison.get("differences") or []), *(safety.get("differences") or [])],
        settings={**((_json(folder / "evaluation.json") or {}).get("settings") or {}), **of_sets},
        values={row["metric"]: EvaluationValues(path) for row in rows} if path.is_file() else {},
        asked_file=asked if asked.is_file() else None,
    )


def read_judging(folder: Path) -> Measured:
    """Return the numbers of the judging in *folder*, and why they may decide nothing where that is so."""
    judging, path = _json(folder / "judging.json") or {}, folder / "judgements.parquet"
    safety = _json(folder / "safety.json") or {}
    rows = _json(folder / "metrics.json") or []
    metrics = {row["metric"]: None for row in rows}
    why = _why_it_may_not_decide(judging)
    may_decide = not why
    return Measured(
        rows=[{**row, "is_valid": may_decide and row.get("is_valid", True)} for row in rows],
        differences=safety.get("differences") or [],
        settings=dict.fromkeys(metrics, judging.get("settings") or {}),
        values=dict.fromkeys(metrics, JudgingValues(path)) if path.is_file() else {},
        opponents=dict.fromkeys(metrics, str(judging.get("against"))),
        reasons=dict.fromkeys(metrics, f"the judge may decide nothing: {why}") if why else {},
        agreements=dict.fromkeys(metrics, (judging.get("agreement") or {}).get("low")),
    )


def _why_it_may_not_decide(judging: Json) -> str:
    """Return why the judge may decide nothing, empty where it may; of safety, gates need its agreement on refusal."""
    if not judging.get("may_decide"):
        return "; ".join(judging.get("may_not_decide_because") or ["nothing is known"])
    if judging.get("mode") == "safety" and "refusal_or_not" not in (judging.get("agreement") or {}):
        return "its agreement with people on refusal or not is not on record: judge again, which asks nothing twice"
    return ""


def together(evaluation: Measured, judging: Measured) -> Measured:
    """Return both, so that the draws of an arm are known where a judging, or a study, is asked for them."""
    return Measured(
        rows=[*evaluation.rows, *judging.rows],
        differences=[*evaluation.differences, *judging.differences],
        settings={**evaluation.settings, **judging.settings},
        values={**evaluation.values, **judging.values},
        opponents={**evaluation.opponents, **judging.opponents},
        reasons={**evaluation.reasons, **judging.reasons},
        agreements={**evaluation.agreements, **judging.agreements},
        judgements_left_out={**evaluation.judgements_left_out, **judging.judgements_left_out},
        asked_file=evaluation.asked_file,
    )


def _json(path: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
