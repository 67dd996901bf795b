"""Judgements as rows, and what they say of the systems behind the sides. Knows no statistics and no database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from deft.specs.studies import GivenVerdict, Verdict
from deft.studies.items import ItemKind

Outcome = Literal["first", "tie", "both_bad", "second"]
"""Which system was preferred, by the order in which the study names them; sides are undone."""

OUTCOMES: tuple[Outcome, ...] = ("first", "tie", "both_bad", "second")
WINS: dict[Outcome, float] = {"first": 1.0, "tie": 0.5, "both_bad": 0.5, "second": 0.0}
"""What an outcome counts for the first system."""


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """An item as far as judging it goes; *cluster* (prompts with one first user turn) is null for attention items."""

    id: str
    kind: ItemKind
    cluster: float | None
    is_swapped: bool
    expected: Verdict | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one rater said of one item, *seconds* after it was first shown."""

    item: JudgedItem
    rater_id: str
    verdict: GivenVerdict
    seconds: float

    @property
    def outcome(self) -> Outcome | None:
        """Which system was preferred; None of a skip and of an attention item."""
        if self.item.kind != "pair" or self.verdict == "skip":
            return None
        return outcome_of(self.verdict, is_swapped=self.item.is_swapped)

    @property
    def is_failure(self) -> bool:
        """Whether this is a wrong answer to an attention item; a skip is none."""
        return self.item.kind == "attention" and self.verdict not in (self.item.expected, "skip")


def outcome_of(verdict: Verdict, *, is_swapped: bool) -> Outcome:
    """Return the system that *verdict* prefers; *is_swapped*: the second system stood on side 1."""
    if verdict in ("tie", "both_bad"):
        return verdict
    return "first" if (verdict == "1") != is_swapped else "second"


def inattentive(judgements: Iterable[Judgement], *, allowed: int) -> set[str]:
    """Return the raters who failed more than *allowed* attention items."""
    failures: dict[str, int] = {}
    for judgement in judgements:
        failures[judgement.rater_id] = failures.get(judgement.rater_id, 0) + judgement.is_failure
    return {rater for rater, number in failures.items() if number > allowed}


def by_item(judgements: Sequence[Judgement]) -> dict[str, list[Outcome]]:
    """Return the outcomes of each judged pair, in the order of its first judgement."""
    found: dict[str, list[Outcome]] = {}
    for judgement in judgements:
        if judgement.outcome is not None:
            found.setdefault(judgement.item.id, []).append(judgement.outcome)
    return found
