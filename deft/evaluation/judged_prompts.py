"""Which of the prompts that an evaluation's systems answered a judging judged, from the files of both. Torch-free.

Whoever chooses the prompts that are judged could choose the number. Knows files and prompts, no statistics.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from deft.evaluation.asked import Asked, read_asked, slice_of
from deft.evaluation.prompt_values import LABELS


@dataclass(frozen=True)
class JudgedPrompts:
    """The file prompts.jsonl of an evaluation, and judgements.parquet of one of its judgings; None: there is none."""

    asked_file: Path | None
    judged_file: Path | None

    @cached_property
    def asked(self) -> Sequence[Asked]:
        """The prompts that the evaluation's systems answered; none where it has no such file."""
        return [] if self.asked_file is None else read_asked(self.asked_file)

    @cached_property
    def judged(self) -> frozenset[tuple[str, int]]:
        """Set and row of every prompt that was judged, whatever could be told of its answers."""
        if self.judged_file is None or not self.judged_file.is_file():
            return frozenset()
        table = pq.read_table(self.judged_file, columns=["set", "row"])
        places = zip(table["set"].to_pylist(), table["row"].to_pylist(), strict=True)
        return frozenset((name, row) for name, row in places if name != LABELS)

    def categories(self, label: str | None, prefix: str) -> set[str]:
        """Return the slices of the categories of the prompts with this *label*, of those that begin with *prefix*."""
        return {slice_of(each.category) for each in self._labelled(label, prefix)}

    def left_out(self, label: str | None, prefix: str) -> dict[str, str]:
        """Return in words which prompts with this *label* (None: any) were not judged, by the slice of their category.

        Slices that begin with *prefix* alone. An evaluation without such prompts on record is told under *prefix* and
        an asterisk: nobody can know what was left out of it.
        """
        asked = self._labelled(label, prefix)
        if not asked:
            return {f"{prefix}*": f"the evaluation has no {label or 'labelled'} prompts on record"}
        numbers = Counter(slice_of(each.category) for each in asked)
        by_category: dict[str, list[str]] = {}
        for each in asked:
            if (each.set, each.row) not in self.judged:
                by_category.setdefault(slice_of(each.category), []).append(each.set)
        return {name: _in_words(sets, numbers[name], label) for name, sets in by_category.items()}

    def _labelled(self, label: str | None, prefix: str) -> list[Asked]:
        own = (each for each in self.asked if each.is_labelled and label in (None, each.label))
        return [each for each in own if slice_of(each.category).startswith(prefix)]


def _in_words(sets: Sequence[str], asked: int, label: str | None) -> str:
    """Say how many prompts were left out, of which *sets*, a name for each of them, and what is to be done."""
    of_sets = ", ".join(f"{number} of {name}" for name, number in Counter(sets).items())
    told = f"the judging left out {len(sets)} of the {asked} {label or 'labelled'} prompts ({of_sets})"
    return f"{told}: judge every labelled prompt, without `prompt_sets` and `prompts`"
