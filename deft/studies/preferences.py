"""A preference dataset out of a study's judgements: which answer people preferred, and what was left out.

Knows judgements and texts; the rows go through the ordinary import, so nothing here checks them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deft.examples import Message
from deft.studies.judgements import Judgement, Outcome, by_item


@dataclass(frozen=True, slots=True)
class Texts:
    """A pair as it was answered: the *answers* in the order in which the study names its systems."""

    row: int
    prompt: str | list[Message]
    source: str | None
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Preferences:
    """*rows* for the import (prompt, chosen, rejected and where they come from), and why items were *left_out*."""

    rows: list[dict[str, Any]]
    left_out: dict[str, int]


def preferences(
    texts: Mapping[str, Texts], judgements: Sequence[Judgement], systems: Sequence[str], *, min_judgements: int = 1
) -> Preferences:
    """Return one row for each item of *texts* on which more than half of its judgements prefer one answer.

    Left out, by reason: `not_judged`; `too_few_judgements`; `tie` and `both_bad` (most said so); `no_majority`.
    """
    outcomes = by_item(judgements)
    rows, left_out = [], Counter[str]()
    for item_id, pair in texts.items():
        said = outcomes.get(item_id, [])
        verdict = _verdict(said, min_judgements)
        if verdict in ("first", "second"):
            rows.append(_row(item_id, pair, said, systems, 0 if verdict == "first" else 1))
        else:
            left_out[verdict] += 1
    return Preferences(rows, dict(left_out))


def _verdict(said: Sequence[Outcome], min_judgements: int) -> str:
    if not said:
        return "not_judged"
    if len(said) < min_judgements:
        return "too_few_judgements"
    outcome, votes = Counter(said).most_common(1)[0]
    return outcome if 2 * votes > len(said) else "no_majority"


def _row(item_id: str, pair: Texts, said: Sequence[Outcome], systems: Sequence[str], winner: int) -> dict[str, Any]:
    chosen, rejected = pair.answers[winner], pair.answers[1 - winner]
    is_chat = not isinstance(pair.prompt, str)
    row = {
        "prompt": pair.prompt,
        "chosen": _answer(chosen) if is_chat else chosen,
        "rejected": _answer(rejected) if is_chat else rejected,
        "study_item": item_id,
        "study_row": pair.row,
        "chosen_system": systems[winner],
        "rejected_system": systems[1 - winner],
        "judgements": len(said),
        "agreeing": said.count("first" if winner == 0 else "second"),
    }
    return row | ({"source": pair.source} if pair.source is not None else {})


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
