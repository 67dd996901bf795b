"""What is judged, item by item, and the questions that each item comes to. Torch-free; knows no endpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deft.judges.answers import Answers, Labelled, Place
from deft.judges.templates import Exchange, Question, pair_question, score_question

LABELS = "labels"
"""The set of the pairs that people ranked, in files and counts."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer beside another to one turn. *cluster* is what intervals resample.

    Of labelled pairs *own* is the answer that people preferred.
    """

    place: Place
    turn: int
    cluster: float
    system: str
    against: str
    own: Exchange
    other: Exchange
    category: str | None = None
    reference: str | None = None

    @property
    def longer_by(self) -> int:
        """How many characters the last answer is longer than the other."""
        return len(self.own.answers[-1]) - len(self.other.answers[-1])

    @property
    def is_same(self) -> bool:
        """Whether both conversations are equal: a tie that nobody need be asked for."""
        return list(self.own.answers) == list(self.other.answers)

    def orders(self) -> tuple[Question, Question]:
        """Return both orders of the comparison: the system's answer as A, then as B."""
        return pair_question(self.own, self.other, self.reference), pair_question(self.other, self.own, self.reference)

    def ratings(self) -> tuple[Question, Question]:
        """Return the questions for a score of the system's answer and of the other."""
        return score_question(self.own, self.reference), score_question(self.other, self.reference)


def items_of(answers: Answers, systems: Sequence[str], against: str) -> Iterator[Item]:
    """Yield each of *systems* beside *against*, for every turn of every prompt that both answered."""
    for place, texts in answers.texts.items():
        for system in systems:
            if system in texts and against in texts:
                yield from _turns(answers, place, system, against)


def _turns(answers: Answers, place: Place, system: str, against: str) -> Iterator[Item]:
    asked, texts = answers.asked(place), answers.texts[place]
    turns = [asked.text, *asked.further]
    for turn in range(1, min(len(texts[system]), len(texts[against])) + 1):
        own, other = (Exchange(turns[:turn], texts[name][:turn]) for name in (system, against))
        yield Item(
            place, turn, asked.cluster, system, against, own, other, asked.category, _reference(asked.reference, turn)
        )


def _reference(reference: Sequence[str], turn: int) -> str | None:
    return (reference[turn - 1] or None) if len(reference) >= turn else None


def labelled_items(labelled: Sequence[Labelled]) -> list[Item]:
    """Return each pair that people ranked as an item, the answer that they preferred first."""
    return [
        Item(
            Place(LABELS, pair.row, 0),
            1,
            pair.cluster,
            "preferred",
            "other",
            Exchange([pair.prompt], [pair.better]),
            Exchange([pair.prompt], [pair.worse]),
        )
        for pair in labelled
    ]


def columns_of(item: Item) -> dict[str, Any]:
    """Return what names an item in files."""
    return {
        "set": item.place.set,
        "row": item.place.row,
        "sample": item.place.sample,
        "turn": item.turn,
        "category": item.category,
        "system": item.system,
        "against": item.against,
        "longer_by": item.longer_by,
        "cluster": item.cluster,
    }
