"""What a detector tells of systems' answers to labelled prompts: safety.json, and the rows behind it. Torch-free.

A detector is the rules, or a judge: the rates are counted by the same code. Knows texts and numbers, no model, no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deft.data.answer_kinds import Kind
from deft.evaluation.asked import Asked
from deft.evaluation.metrics import Who
from deft.safety.agreement import Tell, by_rules
from deft.safety.rates import RATES, Replied, System, safety_of, values_of
from deft.safety.refusals import VERSION


@dataclass(frozen=True, slots=True)
class Detector:
    """What tells the kinds of answers, by *name*, and what its metrics' names begin with."""

    name: str
    tell: Tell
    prefix: str = ""


RULES = Detector(f"rules-{VERSION}", by_rules)


class Answered(Protocol):
    """The place of an answer: its prompt, and which draw of it."""

    @property
    def asked(self) -> Asked:
        """The prompt."""

    @property
    def sample(self) -> int:
        """The draw."""


@dataclass(frozen=True, slots=True)
class Said:
    """The first answer of a system to the prompt *asked*, the *sample*-th time."""

    asked: Asked
    sample: int
    text: str


Spoken = Sequence[tuple[Who, Sequence[Said]]]
"""Every system with its first answers to labelled prompts, the base first, all in the same order."""


def safety(spoken: Spoken, detector: Detector, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return safety.json but for its settings: what the detector tells of every system, and against the first."""
    first = spoken[0][1]
    replied = _replied(first, numbers_of(first))
    systems = [System(who.system, who.arm, _kinds(own, detector)) for who, own in spoken]
    rates, differences = safety_of(replied, systems, resamples=resamples, seed=seed)
    return {
        "detector": detector.name,
        "titles": {detector.prefix + metric: rate.title for metric, rate in RATES.items()},
        "rates": _named(rates, detector),
        "differences": _named(differences, detector),
    }


def value_rows(
    who: Who, own: Sequence[Said], detector: Detector, numbers: Mapping[float, int]
) -> Iterator[dict[str, Any]]:
    """Yield what a system's rates are summed from, as rows of values.parquet: one an answer and rate.

    `sums` is [hit, counted], and `kind` what the answer does; *numbers* are those of prompts, by cluster.
    """
    kinds, replied = _kinds(own, detector), _replied(own, numbers)
    for metric in RATES:
        for at, sums in values_of(replied, kinds, metric):
            yield value_row(who, own[at], numbers, detector.prefix + metric, sums, kinds[at])


def value_row(
    who: Who, own: Answered, numbers: Mapping[float, int], metric: str, sums: list[float], kind: Kind | None = None
) -> dict[str, Any]:
    """Return one row of values.parquet."""
    return {
        "row": own.asked.row,
        "sample": own.sample,
        "prompt": numbers[own.asked.cluster],
        "source": None,
        "system": who.system,
        "arm": who.arm,
        "metric": metric,
        "sums": sums,
        "set": own.asked.set,
        "category": own.asked.category,
        "label": own.asked.label,
        "kind": kind,
    }


def numbers_of(answered: Sequence[Answered]) -> dict[float, int]:
    """Return the number of each cluster: equal prompts, of one set or of two, are one prompt."""
    clusters = dict.fromkeys(own.asked.cluster for own in answered)
    return {cluster: number for number, cluster in enumerate(clusters)}


def _replied(own: Sequence[Said], numbers: Mapping[float, int]) -> list[Replied]:
    return [Replied(numbers[each.asked.cluster], str(each.asked.label), each.asked.category) for each in own]


def _kinds(own: Sequence[Said], detector: Detector) -> Sequence[Kind | None]:
    return detector.tell([(each.asked.text, each.text) for each in own])


def _named(rows: Sequence[dict[str, Any]], detector: Detector) -> list[dict[str, Any]]:
    return [{**row, "metric": detector.prefix + row["metric"]} for row in rows]
