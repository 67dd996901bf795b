"""What is put before a judge: the answers of an evaluation's folder, and pairs that people ranked. Torch-free.

Knows files, no wording of a question and no endpoint.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deft.data.answer_kinds import Kind
from deft.data.datasets import iterate_examples
from deft.data.prompt_sets import read_prompts, require_labelled_answers
from deft.evaluation.answered import asked_for, require_systems
from deft.evaluation.asked import Asked
from deft.examples import prompt_text, split_point_of
from deft.specs import JudgeSpec


class Place(NamedTuple):
    """Which answers: those to the prompt *row* of *set*, drawn the *sample*-th time."""

    set: str
    row: int
    sample: int


@dataclass(frozen=True, slots=True)
class Answers:
    """Conversations of all systems: the prompts, and by place and system the answer to each turn."""

    prompts: dict[tuple[str, int], Asked]
    texts: dict[Place, dict[str, list[str]]]

    @property
    def systems(self) -> list[str]:
        """The systems in the order in which they answered."""
        return list(dict.fromkeys(system for own in self.texts.values() for system in own))

    def asked(self, place: Place) -> Asked:
        """Return the prompt of *place*."""
        return self.prompts[place.set, place.row]


def read_answers(folder: Path, spec: JudgeSpec) -> Answers:
    """Return the answers in an evaluation's *folder* that *spec* asks to be judged.

    Raises:
        InvalidInput: it has no answers, or none of a system or a set that the spec names (`deft.evaluation.answered`).
    """
    chosen = {(p.set, p.row): p for p in _drawn(asked_for(folder, spec), spec)}
    texts: dict[Place, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    with (folder / "generations.jsonl").open(encoding="utf-8") as file:
        for line in file:
            stored = json.loads(line)
            if (stored["set"], stored["row"]) in chosen:
                place = Place(stored["set"], stored["row"], stored["sample"])
                texts[place][stored["system"]][stored["turn"]] = stored["text"]
    found = Answers(chosen, {place: _in_order(own) for place, own in texts.items()})
    require_systems(spec, found.systems)
    return found


def _in_order(own: dict[str, dict[int, str]]) -> dict[str, list[str]]:
    return {system: [turns[turn] for turn in sorted(turns)] for system, turns in own.items()}


def _drawn(prompts: Sequence[Asked], spec: JudgeSpec) -> list[Asked]:
    """Return at most `spec.prompts` of each set's *prompts*, in order."""
    found = []
    for name in dict.fromkeys(prompt.set for prompt in prompts):
        own = [prompt for prompt in prompts if prompt.set == name]
        order = np.random.default_rng(spec.seed).permutation(len(own))
        found += [own[place] for place in sorted(order[: spec.prompts])]
    return found


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pair of answers to a prompt of which people preferred *better*; *cluster* as in `Asked`."""

    row: int
    prompt: str
    better: str
    worse: str
    cluster: float


def read_labelled(folder: Path, spec: JudgeSpec) -> list[Labelled]:
    """Return up to `spec.label_rows` rows of a dataset of ranked answers: the best and the last of each."""
    rows = [
        Labelled(row, prompt_text(e.prompt), e.responses[0], e.responses[-1], split_point_of(e.prompt))
        for row, e in iterate_examples(folder)
    ]
    order = np.random.default_rng(spec.seed).permutation(len(rows))
    return [rows[place] for place in sorted(order[: spec.label_rows])]


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """An answer of which people said what *kind* it is; *cluster* as in `Asked`."""

    row: int
    prompt: str
    answer: str
    kind: Kind
    category: str | None
    cluster: float


def read_labelled_answers(folder: Path, spec: JudgeSpec) -> list[LabelledAnswer]:
    """Return up to `spec.label_rows` distinct rows of a set of answers that people labelled.

    Raises:
        InvalidInput: `no_labels`: the set has no such answers.
    """
    require_labelled_answers(folder)
    rows = [
        LabelledAnswer(row, prompt_text(one.prompt), one.answer or "", one.answer_kind, one.category, point)
        for row, one, point in read_prompts(folder)
        if one.answer_kind is not None
    ]
    distinct = list({(one.prompt, one.answer, one.kind): one for one in reversed(rows)}.values())[::-1]
    order = np.random.default_rng(spec.seed).permutation(len(distinct))
    return [distinct[place] for place in sorted(order[: spec.label_rows])]
