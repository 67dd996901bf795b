"""Comparisons of two evaluations: refused where their settings differ, unless they are forced and so marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, NotFound, shown
from deft.evaluation.between import between, differing_settings
from deft.evaluation.changes import Measured, Runs, read_measured
from deft.evaluation.differences import Change, Value
from deft.evaluation.directions import told_by
from deft.evaluation.intervals import holm
from deft.evaluation.metrics import BASE
from deft.specs import spec_json
from deft.specs.comparisons import ComparisonSpec, Side
from store import judgings
from store.accounts import Caller
from store.artifacts import ArtifactFiles
from store.finite import finite
from store.ids import new_id
from store.named import artifact_named
from store.paging import Order, Page, page_of
from store.release_tables import Comparison

Json = dict[str, Any]


def compare(session: Session, files: ArtifactFiles, team_id: str, spec: ComparisonSpec) -> Json:
    """Return what *spec* asks for: by metric both values, the difference, and what of their settings differs.

    Raises:
        NotFound: the team has no such evaluation.
        InvalidInput: a system or a metric was not measured.
        Conflict: `incomparable_evaluations`: settings differ, and `force` is not set.
    """
    left = _read(session, files, team_id, spec.left, "/left")
    right = _read(session, files, team_id, spec.right, "/right")
    metrics = _metrics(spec, left, right)
    apart = [metric for metric in metrics if not _is_of_one(left, right, metric)]
    differing = differing_settings(left.measured, right.measured, apart)
    if differing and not spec.force:
        raise _incomparable(differing)
    found = _adjusted({metric: _compared(left, right, metric, differing) for metric in metrics})
    result: Json = finite({"is_forced": bool(differing), "differing_settings": differing, "metrics": found})
    return result


def create(session: Session, caller: Caller, spec: ComparisonSpec, result: Json) -> Comparison:
    """Store the comparison and return it."""
    row = Comparison(
        id=new_id("cmp"),
        team_id=caller.team_id,
        key_id=caller.key_id,
        spec=spec_json(spec),
        is_forced=result["is_forced"],
        result=result,
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, team_id: str, comparison_id: str) -> Comparison:
    """Return the team's comparison.

    Raises:
        NotFound: the team has no such comparison.
    """
    statement = select(Comparison).where(Comparison.id == comparison_id, Comparison.team_id == team_id)
    row = session.scalars(statement).first()
    if row is None:
        raise NotFound("there is no such comparison")
    return row


def page(
    session: Session, team_id: str, *, limit: int = 50, after: str | None = None, order: Order = "desc"
) -> Page[Comparison]:
    """Return a page of the team's comparisons.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    own = select(Comparison).where(Comparison.team_id == team_id)
    return page_of(session, own, Comparison, limit, after, order)


@dataclass(frozen=True, slots=True)
class _Read:
    """A side that was read: what it measured, and the systems that are meant, several for the draws of an arm."""

    side: Side
    measured: Measured
    runs: Runs


def _read(session: Session, files: ArtifactFiles, team_id: str, side: Side, pointer: str) -> _Read:
    row = artifact_named(session, team_id, side.evaluation, ("evaluation",), f"{pointer}/evaluation")
    measured = read_measured(files.folder(row))
    if side.judging is not None:
        measured = judgings.with_judging(session, files, row, measured, side.judging, f"{pointer}/judging")
    runs = measured.runs(side.system)
    systems = sorted({BASE, *(str(one["system"]) for one in measured.rows)})
    if not set(runs) <= set(systems):
        expected = shown(f"one of {', '.join(systems)}")
        finding = Finding(
            "unknown_system", shown(side.system), expected, "name one of its systems", pointer=f"{pointer}/system"
        )
        raise InvalidInput("the evaluation has no such system", code="unknown_system", findings=[finding])
    return _Read(side, measured, runs)


def _metrics(spec: ComparisonSpec, left: _Read, right: _Read) -> list[str]:
    """Return the metrics that are compared: those asked for, or all that both sides have."""
    named = [*left.measured.metrics(left.runs), *right.measured.metrics(right.runs)]
    both = [m for m in dict.fromkeys(named) if _has(left, m) and _has(right, m)]
    asked = both if spec.metrics is None else list(dict.fromkeys(spec.metrics))
    places = {metric: place for place, metric in enumerate(spec.metrics or [])}
    findings = [
        Finding("not_measured", shown(m), shown(f"one of {', '.join(both)}"), _fix(m, left, right), _at(places[m]))
        for m in asked
        if m not in both
    ]
    if findings or not asked:
        raise InvalidInput("the two sides do not both have such a metric", code="not_measured", findings=findings)
    return asked


def _at(place: int) -> str:
    return f"/metrics/{place}"


def _fix(metric: str, *sides: _Read) -> str:
    """Return what is to be done where not both sides have *metric*, naming the draws of an arm that lack it."""
    lacking = [run for side in sides if len(side.runs) > 1 for run in side.measured.lacking(side.runs, metric)]
    named = ", ".join(dict.fromkeys(lacking))
    return f"measure it of {named} too, name one system, or leave it out" if named else "leave it out"


def _has(one: _Read, metric: str) -> bool:
    """Whether a side has *metric*: its evaluation measured it, of an arm in all its draws."""
    is_measured = any(row["metric"] == metric for row in one.measured.rows)
    return is_measured and not one.measured.lacking(one.runs, metric)


def _is_of_one(left: _Read, right: _Read, metric: str) -> bool:
    """Whether *metric* of both sides was measured together: by one evaluation, or by one judging."""
    is_same_judging = told_by(metric) is None or left.side.judging == right.side.judging
    return left.side.evaluation == right.side.evaluation and is_same_judging


def _compared(left: _Read, right: _Read, metric: str, differing: Mapping[str, Json]) -> Json:
    mine, theirs = left.measured.value_of(left.runs, metric), right.measured.value_of(right.runs, metric)
    change = _difference(left, right, metric)
    if mine is None or theirs is None or change is None:
        raise AssertionError("only metrics that both sides have are compared")
    names = sorted(name for name, own in differing.items() if metric in own["metrics"])
    return {
        "left": {"systems": list(left.runs), **_value(mine)},
        "right": {"systems": list(right.runs), **_value(theirs)},
        **_change(change),
        "is_comparable": not names,
        "differing_settings": names,
    }


def _adjusted(found: dict[str, Json]) -> dict[str, Json]:
    """Return what was *found* by metric with Holm's p over those metrics of which there is one."""
    tested = [metric for metric, own in found.items() if own["p"] is not None]
    adjusted = dict(zip(tested, holm([found[metric]["p"] for metric in tested]), strict=True))
    more = {metric: {"p_adjusted": adjusted.get(metric), "comparisons": len(tested)} for metric in found}
    return {metric: {**own, **more[metric]} for metric, own in found.items()}


def _difference(left: _Read, right: _Read, metric: str) -> Change | None:
    if _is_of_one(left, right, metric):
        return left.measured.difference(left.runs, right.runs, metric)
    return between(left.measured, left.runs, right.measured, right.runs, metric)


def _value(value: Value) -> Json:
    return {"value": value.value, "low": value.low, "high": value.high, "n": value.n, "may_decide": value.may_decide}


def _change(change: Change) -> Json:
    named = ("low", "high", "is_paired", "has_luck", "p", "effect_size")
    return {"difference": change.value, **{name: getattr(change, name) for name in named}}


def _incomparable(differing: Mapping[str, Json]) -> Conflict:
    findings = [_finding(name, own) for name, own in differing.items()]
    names: Sequence[str] = list(differing)
    return Conflict(
        f"These evaluations were not made alike: {', '.join(names)} differ. Evaluate both systems together, or set "
        "`force`: the result is then marked.",
        code="incomparable_evaluations",
        findings=findings,
    )


def _finding(name: str, own: Json) -> Finding:
    expected = f"{name} as on the left, {_short(own['left'])}, for {', '.join(own['metrics'])}"
    return Finding(
        "differing_setting", _short(own["right"]), expected, "evaluate both alike", pointer="/right/evaluation"
    )


def _short(value: object) -> str:
    return shown(orjson.dumps(value).decode())
