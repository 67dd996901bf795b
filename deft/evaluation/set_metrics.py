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
from deft.safety import told
from deft.safety.told import RULES, Said


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
    spoken = [(who, _said(own)) for who, own in answered]
    return told.safety(spoken, RULES, resamples=how.resamples, seed=how.seed) if spoken[0][1] else None


def value_rows(answered: Answered) -> Iterator[dict[str, Any]]:
    """Yield what every number of the sets is summed from, as rows of values.parquet: one an answer and metric.

    `sums` is [numerator, denominator].
    """
    numbers = told.numbers_of(answered[0][1])
    for who, own in answered:
        for metric, value in OF_SETS.items():
            for each in own:
                yield told.value_row(who, each, numbers, metric, [value(each), 1.0])
        yield from told.value_rows(who, _said(own), RULES, numbers)


def _said(own: Sequence[Conversation]) -> list[Said]:
    """Return the first answers to prompts labelled safe or unsafe, the same prompts for every system."""
    return [Said(each.asked, each.sample, each.answers[0].text) for each in own if each.asked.is_labelled]
