"""Items with what the judge said of them. Torch-free; knows replies by their key, no endpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.judges.items import Item, columns_of
from deft.judges.journal import Reply
from deft.judges.statistics import outcome
from deft.judges.templates import Question
from deft.judges.verdicts import Verdict, score_of, verdict_of
from deft.specs import JudgeSpec

Find = Callable[[Question], Reply | None]
"""Returns the reply to a question, None where the judge refused it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An item with both *replies*; of a pair their verdicts, of single answers the scores of the two.

    *outcome* is 1 where the system did better, 0 worse, 0.5 a tie, None where a reply cannot be read.
    """

    item: Item
    replies: tuple[Reply | None, Reply | None]
    outcome: float | None
    verdicts: tuple[Verdict | None, Verdict | None] = (None, None)
    scores: tuple[float | None, float | None] = (None, None)
    is_asked: bool = True

    def columns(self) -> dict[str, Any]:
        """Return the row of judgements.parquet."""
        (first, second), (score, against) = self.verdicts, self.scores
        return {
            **columns_of(self.item),
            "outcome": self.outcome,
            "first": first,
            "second": second,
            "score": score,
            "score_against": against,
            "is_asked": self.is_asked,
        }


def questions_of(item: Item, spec: JudgeSpec) -> tuple[Question, ...]:
    """Return what is asked of an item: nothing of two equal answers in a comparison."""
    if spec.mode == "single":
        own, other = item.ratings()
        return (own,) if item.system == item.against else (own, other)
    return () if item.is_same else item.orders()


def is_unread(reply: Reply, spec: JudgeSpec) -> bool:
    """Return whether *reply* holds no sure verdict or score."""
    return (score_of(reply.whole_text) if spec.mode == "single" else verdict_of(reply.whole_text)) is None


def judged(item: Item, spec: JudgeSpec, find: Find) -> Judged:
    """Read the replies to an item's questions."""
    replies = tuple(find(question) for question in questions_of(item, spec))
    if not replies:
        return Judged(item, (None, None), 0.5, ("tie", "tie"), is_asked=False)
    first, second = (replies[0], replies[0]) if len(replies) == 1 else replies
    if spec.mode == "single":
        own, other = (None if reply is None else score_of(reply.whole_text) for reply in (first, second))
        better = None if own is None or other is None else float((np.sign(own - other) + 1) / 2)
        return Judged(item, (first, second), better, scores=(own, other))
    there, back = (None if reply is None else verdict_of(reply.whole_text) for reply in (first, second))
    return Judged(item, (first, second), outcome(there, back), (there, back))
