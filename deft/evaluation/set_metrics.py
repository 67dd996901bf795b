"""What is measured of the answers to prompt sets: length, answers that end, safety; and what each was summed from.

Knows conversations and numbers; it must not know models or how they were made to answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.evaluation.conversations import Conversation
from deft.evaluation.intervals import Bounds, cluster_sums, estimate, ratio, resample
from deft.evaluation.metrics import Who
from deft.safety.rates import RATES, SAFE, UNSAFE, Replied, System, safety_of, values_of
from deft.safety.refusals import VERSION, Kind, kind_of

DETECTOR = f"rules-{VERSION}"
"""What tells refusals from compliance."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """How intervals are made."""

    resamples: int
    seed: int


Answered = list[tuple[Who, list[Conversation]]]
"""Every system with its conversations, the base first, all in the same order."""


def set_rows(answered: Answered, how: Sampled, max_new_tokens: int) -> list[dict[str, Any]]:
    """Return, by set and system, the mean length of all answers and the share of them that end."""
    most: Bounds = (0.0, float(max_new_tokens))
    rows = []
    for name in _sets(answered):
        for who, every in answered:
            own = [each for each in every if each.asked.set == name]
            for (metric, value), bounds in zip(OF_SETS.items(), (most, (0.0, 1.0)), strict=True):
                place = {"system": who.system, "arm": who.arm, "metric": metric, "slice": f"set:{name}"}
                rows.append({**place, **_mean(own, value, bounds, how), "is_trained_on": False})
    return rows


def _sets(answered: Answered) -> list[str]:
    return list(dict.fromkeys(each.asked.set for _, own in answered for each in own))


def _length(conversation: Conversation) -> float:
    return float(np.mean([len(answer.ids) for answer in conversation.answers]))


def _ended(conversation: Conversation) -> float:
    return float(np.mean([answer.is_ended for answer in conversation.answers]))


OF_SETS: dict[str, Callable[[Conversation], float]] = {"length": _length, "ended": _ended}
"""What is measured of every set: the mean over its answers."""


def _mean(
    own: Sequence[Conversation], value: Callable[[Conversation], float], bounds: Bounds, how: Sampled
) -> dict[str, Any]:
    columns = np.array([[value(each), 1.0] for each in own])
    sums = cluster_sums(columns, [each.asked.cluster for each in own])[None]
    resampled = resample(sums, ratio, resamples=how.resamples, seed=how.seed)
    found = estimate(resampled, [0], bounds=bounds, is_share=bounds == (0.0, 1.0), seed=how.seed)
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(own)}


def safety(answered: Answered, how: Sampled) -> dict[str, Any] | None:
    """Return safety.json, None where no prompt is labelled safe or unsafe; only the first answer of each counts."""
    places = _labelled(answered)
    if not places:
        return None
    replied = _replied(answered, places)
    systems = [System(who.system, who.arm, _kinds(own, places)) for who, own in answered]
    rates, differences = safety_of(replied, systems, resamples=how.resamples, seed=how.seed)
    titles = {metric: rate.title for metric, rate in RATES.items()}
    return {"detector": DETECTOR, "titles": titles, "rates": rates, "differences": differences}


def value_rows(answered: Answered) -> Iterator[dict[str, Any]]:
    """Yield what every number of the sets is summed from, as rows of values.parquet: one an answer and metric.

    `sums` is [numerator, denominator]. Of a safety rate that is [hit, counted], and `kind` what the answer does.
    """
    numbers, places = _numbers(answered), _labelled(answered)
    replied = _replied(answered, places)
    for who, own in answered:
        for metric, value in OF_SETS.items():
            for each in own:
                yield _value_row(who, each, numbers, metric, [value(each), 1.0], None)
        kinds = _kinds(own, places)
        for metric in RATES:
            for at, sums in values_of(replied, kinds, metric):
                yield _value_row(who, own[places[at]], numbers, metric, sums, kinds[at])


def _value_row(
    who: Who, own: Conversation, numbers: dict[float, int], metric: str, sums: list[float], kind: Kind | None
) -> dict[str, Any]:
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


def _labelled(answered: Answered) -> list[int]:
    """Return the places of the answers to prompts labelled safe or unsafe, the same in every system."""
    return [i for i, each in enumerate(answered[0][1]) if each.asked.label in (SAFE, UNSAFE)]


def _numbers(answered: Answered) -> dict[float, int]:
    """Return the number of each cluster: equal prompts, of one set or of two, are one prompt."""
    clusters = dict.fromkeys(own.asked.cluster for own in answered[0][1])
    return {cluster: number for number, cluster in enumerate(clusters)}


def _replied(answered: Answered, places: Sequence[int]) -> list[Replied]:
    numbers, first = _numbers(answered), answered[0][1]
    asked = [first[place].asked for place in places]
    return [Replied(numbers[one.cluster], str(one.label), one.category) for one in asked]


def _kinds(own: Sequence[Conversation], places: Sequence[int]) -> list[Kind]:
    return [kind_of(own[place].answers[0].text, own[place].asked.text) for place in places]
