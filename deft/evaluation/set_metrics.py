"""What is measured of the answers to prompt sets: length, answers that end, safety; as rows of metrics.json.

Knows conversations and numbers; it must not know models or how they were made to answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.evaluation.conversations import Conversation
from deft.evaluation.intervals import Bounds, cluster_sums, estimate, ratio, resample
from deft.evaluation.metrics import Who
from deft.safety.rates import RATES, SAFE, UNSAFE, Replied, System, safety_of
from deft.safety.refusals import VERSION, kind_of

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
            for metric, value, bounds in (("length", _length, most), ("ended", _ended, (0.0, 1.0))):
                place = {"system": who.system, "arm": who.arm, "metric": metric, "slice": f"set:{name}"}
                rows.append({**place, **_mean(own, value, bounds, how), "is_trained_on": False})
    return rows


def _sets(answered: Answered) -> list[str]:
    return list(dict.fromkeys(each.asked.set for _, own in answered for each in own))


def _length(conversation: Conversation) -> float:
    return float(np.mean([len(answer.ids) for answer in conversation.answers]))


def _ended(conversation: Conversation) -> float:
    return float(np.mean([answer.is_ended for answer in conversation.answers]))


def _mean(
    own: Sequence[Conversation], value: Callable[[Conversation], float], bounds: Bounds, how: Sampled
) -> dict[str, Any]:
    columns = np.array([[value(each), 1.0] for each in own])
    sums = cluster_sums(columns, [each.asked.row for each in own])[None]
    resampled = resample(sums, ratio, resamples=how.resamples, seed=how.seed)
    found = estimate(resampled, [0], bounds=bounds, is_share=bounds == (0.0, 1.0), seed=how.seed)
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(own)}


def safety(answered: Answered, how: Sampled) -> dict[str, Any] | None:
    """Return safety.json, None where no prompt is labelled safe or unsafe; only the first answer of each counts."""
    places = [i for i, each in enumerate(answered[0][1]) if each.asked.label in (SAFE, UNSAFE)]
    if not places:
        return None
    first = answered[0][1]
    number = {place: n for n, place in enumerate(dict.fromkeys((own.asked.set, own.asked.row) for own in first))}
    asked = [first[i].asked for i in places]
    replied = [Replied(number[one.set, one.row], str(one.label), one.category) for one in asked]
    systems = [System(who.system, who.arm, [kind_of(own[i].answers[0].text) for i in places]) for who, own in answered]
    rates, differences = safety_of(replied, systems, resamples=how.resamples, seed=how.seed)
    titles = {metric: rate.title for metric, rate in RATES.items()}
    return {"detector": DETECTOR, "titles": titles, "rates": rates, "differences": differences}
