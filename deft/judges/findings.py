"""The numbers and words of a judging: rates by system and slice, what is known of the judge, one sentence.

Knows judged items; it must not know questions, endpoints or files.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deft.evaluation.intervals import Estimate
from deft.judges.judged import Judged
from deft.judges.lengths import length_controlled, one_sided
from deft.judges.statistics import (
    SCORES,
    Agreement,
    Sampling,
    agreement,
    first_place,
    mean_of,
    numbers_of,
)
from deft.specs import JudgeSpec

CONTROLLED = "judge_win_rate_length_controlled"
FEW = 5
"""Fewest items of a slice that gets numbers of its own."""

PARTS: dict[str, Callable[[Judged], str]] = {
    "set": lambda each: each.item.place.set,
    "category": lambda each: each.item.category or "",
    "turn": lambda each: str(each.item.turn),
}
"""What slices are made by; the empty text is in none."""

Measure = Callable[[Sequence[Judged]], tuple[Estimate, int] | None]


def metrics_rows(found: Sequence[Judged], spec: JudgeSpec, arms: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of metrics.json: for each system and slice the win rate or the mean score.

    A number is valid where most of what it is over could be read, and, length-controlled, where answers are longer as
    well as shorter; `not_valid_because` says what is amiss.
    """
    how, rows = Sampling(spec.bootstrap, spec.seed), []
    for system in dict.fromkeys(each.item.system for each in found):
        own = [each for each in found if each.item.system == system]
        for metric, measure in _measures(spec, how).items():
            for name, items in _slices(own):
                measured = measure(items)
                if measured is not None:
                    who = {"system": system, "arm": arms.get(system, system), "metric": metric, "slice": name}
                    why = _not_valid_because(metric, items, spec)
                    own_numbers = {**numbers_of(*measured), "is_trained_on": False, "is_valid": why is None}
                    rows.append({**who, **own_numbers, "not_valid_because": why})
    return rows


def _not_valid_because(metric: str, items: Sequence[Judged], spec: JudgeSpec) -> str | None:
    """Return why *metric* over *items* says nothing whatever the judge is worth; None: it may."""
    unread, number = unread_of(items, spec)
    if _is_most(unread, number):
        return f"{unread} of {number} {_what(spec)} could not be read"
    if metric != CONTROLLED:
        return None
    read = [each.item for each in items if each.outcome is not None]
    return one_sided([item.longer_by for item in read], [item.cluster for item in read])


def _measures(spec: JudgeSpec, how: Sampling) -> dict[str, Measure]:
    if spec.mode == "single":
        return {"judge_score": lambda items: _score(items, how), "judge_score_gain": lambda items: _gain(items, how)}
    return {
        "judge_win_rate": lambda items: _rate(items, how),
        CONTROLLED: lambda items: _controlled(items, how),
    }


def _slices(own: Sequence[Judged]) -> Iterator[tuple[str, Sequence[Judged]]]:
    """Yield all items, then those of each set, category and turn where there are several of these."""
    yield "all", own
    for name, values_of in PARTS.items():
        values = sorted({values_of(each) for each in own} - {""})
        for value in values if len(values) > 1 else ():
            items = [each for each in own if values_of(each) == value]
            if len(items) >= FEW:
                yield f"{name}:{value}", items


def _rate(items: Sequence[Judged], how: Sampling) -> tuple[Estimate, int] | None:
    read = [(each.outcome, each.item.cluster) for each in items if each.outcome is not None]
    return (mean_of([o for o, _ in read], [c for _, c in read], how), len(read)) if read else None


def _controlled(items: Sequence[Judged], how: Sampling) -> tuple[Estimate, int] | None:
    read = [each for each in items if each.outcome is not None]
    if len(read) < 2 * FEW:
        return None
    outcomes = [each.outcome for each in read if each.outcome is not None]
    longer_by, clusters = [each.item.longer_by for each in read], [each.item.cluster for each in read]
    return length_controlled(outcomes, longer_by, clusters, how), len(read)


def _score(items: Sequence[Judged], how: Sampling) -> tuple[Estimate, int] | None:
    read = [(each.scores[0], each.item.cluster) for each in items if each.scores[0] is not None]
    return (mean_of([s for s, _ in read], [c for _, c in read], how, SCORES), len(read)) if read else None


def _gain(items: Sequence[Judged], how: Sampling) -> tuple[Estimate, int] | None:
    """Estimate the mean score of the system less that of the other, answer by answer."""
    read = [
        (each.scores[0] - each.scores[1], each.item.cluster)
        for each in items
        if each.scores[0] is not None and each.scores[1] is not None and each.item.system != each.item.against
    ]
    return (mean_of([s for s, _ in read], [c for _, c in read], how, (-9.0, 9.0)), len(read)) if read else None


def unread_of(found: Sequence[Judged], spec: JudgeSpec) -> tuple[int, int]:
    """Return how many of *found*, and of how many that the judge was asked about, have no verdict or score."""
    asked = [each for each in found if each.is_asked]
    told = [each.scores[0] if spec.mode == "single" else each.outcome for each in asked]
    return sum(each is None for each in told), len(asked)


def about_judge(found: Sequence[Judged], labelled: Sequence[Judged], spec: JudgeSpec) -> dict[str, Any]:
    """Return what is known of the judge: position bias, consistency, agreement with people, whether it may decide."""
    how, every = Sampling(spec.bootstrap, spec.seed), [*found, *labelled]
    asked = [each for each in every if each.is_asked]
    places = [(verdict, each.item.cluster) for each in asked for verdict in each.verdicts]
    first = first_place([v for v, _ in places], [c for _, c in places], how) if spec.mode == "pairwise" else None
    distinct = _distinct(labelled)
    people = agreement(
        [each.outcome for each in distinct],
        [each.item.longer_by for each in distinct],
        [each.item.cluster for each in distinct],
        how,
    )
    reasons = people.reasons if labelled else ["it was asked about no pair that people have labelled"]
    unread, number = unread_of(found, spec)
    if _is_most(unread, number):
        reasons = [f"{unread} of {number} of its {_what(spec)} could not be read", *reasons]
    return {
        "position_bias": None if first is None else _first_place(first, places),
        "consistency": _consistency(asked) if spec.mode == "pairwise" else None,
        "agreement": _agreement(people) if labelled else None,
        "may_decide": not reasons,
        "may_not_decide_because": reasons,
    }


def _distinct(labelled: Sequence[Judged]) -> list[Judged]:
    """Return the *labelled* pairs without repeats, which tell nothing more of the judge."""
    return list({_texts_of(each): each for each in labelled}.values())


def _texts_of(each: Judged) -> tuple[str, ...]:
    own, other = each.item.own, each.item.other
    return (own.before, *own.turns, *own.answers, *other.answers)


def _first_place(first: Estimate, places: Sequence[tuple[object, float]]) -> dict[str, Any]:
    return {**numbers_of(first, sum(v in ("A", "B") for v, _ in places)), "unbiased": 0.5}


def _consistency(asked: Sequence[Judged]) -> float | None:
    """Return the share of pairs whose two orders say the same, of those that can be read."""
    read = [each.verdicts for each in asked if None not in each.verdicts]
    same = [pair in (("A", "B"), ("B", "A"), ("tie", "tie")) for pair in read]
    return sum(same) / len(same) if same else None


def _agreement(people: Agreement) -> dict[str, Any]:
    numbers = {"value": None, "low": None, "high": None, "n": people.n}
    if people.rate is not None:
        numbers = numbers_of(people.rate, people.n)
    baseline = {"preferring_the_longer": people.longer, "preferring_the_shorter": people.shorter}
    return {**numbers, "asked": people.asked, "ties": people.ties, "length_baseline": baseline}


def sentence(found: Sequence[Judged], rows: Sequence[dict[str, Any]], about: dict[str, Any], spec: JudgeSpec) -> str:
    """Return the judging in words: of every system its result and what could not be read, then what the judge is worth.

    Where most of a system's verdicts or scores could not be read, the others are no sample of them: no result is told.
    """
    metric = "judge_score" if spec.mode == "single" else "judge_win_rate"
    own, controlled = (
        {row["system"]: row for row in rows if row["metric"] == name and row["slice"] == "all"}
        for name in (metric, CONTROLLED)
    )
    told = []
    for system in dict.fromkeys(each.item.system for each in found):
        unread, number = unread_of([each for each in found if each.item.system == system], spec)
        if system not in own or _is_most(unread, number):
            told.append(_nothing_told(system, unread, number, spec))
        else:
            told.append(_told(own[system], unread, number, spec) + _of_lengths(controlled.get(system)))
    if about["may_decide"]:
        agreed = about["agreement"]
        trust = f"It agrees with people in {agreed['value']:.3f} of {agreed['n']} labelled pairs, and may decide."
    else:
        trust = f"It may decide nothing: {'; '.join(about['may_not_decide_because'])}."
    return " ".join([*told, trust])


def _is_most(unread: int, number: int) -> bool:
    return 2 * unread > number


def _what(spec: JudgeSpec) -> str:
    return "scores" if spec.mode == "single" else "verdicts"


def _nothing_told(system: str, unread: int, number: int, spec: JudgeSpec) -> str:
    beside = "" if spec.mode == "single" else f" beside `{spec.against}`"
    why = f"{unread} of {number} {_what(spec)} by {spec.judge.model} could not be read"
    return f"Nothing can be concluded of `{system}`{beside}: {why}."


def _of_lengths(row: dict[str, Any] | None) -> str:
    """Return a sentence where the length-controlled rate is no answer."""
    why = None if row is None else row["not_valid_because"]
    return f" Nothing is known of equal lengths: {why}." if why else ""


def _told(row: dict[str, Any], unread: int, number: int, spec: JudgeSpec) -> str:
    interval = f"95 % interval {row['low']:.3f} to {row['high']:.3f}, {row['n']} answers"
    if unread:
        interval += f"; {unread} of {number} {_what(spec)} could not be read and count nowhere"
    if spec.mode == "single":
        return f"`{row['system']}` is scored {row['value']:.2f} of 10 by {spec.judge.model} ({interval})."
    return f"`{row['system']}` wins {row['value']:.3f} against `{spec.against}` by {spec.judge.model} ({interval})."
