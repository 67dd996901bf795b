"""The stored answers of two systems to the same prompts, read from an evaluation and the dataset that it asked.

Knows the files of both folders; nothing of studies, raters or rows of a database.
"""

import itertools
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deft.data.datasets import iterate_examples
from deft.errors import Finding, InvalidInput, shown
from deft.evaluation.asked import HELD_OUT, read_asked
from deft.examples import Message, split_point_of

GENERATIONS = "generations.jsonl"
PROMPTS = "prompts.jsonl"
"""The prompts of an evaluation that asked prompt sets."""


@dataclass(frozen=True, slots=True)
class LaterTurn:
    """What the *user* said next, the same to both, and the two *answers* to it."""

    user: str
    answers: tuple[str, str]


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """One prompt with the *answers* of the two systems, in the order in which these were named, and *later* turns.

    *row* is the dataset's; prompts with one first user turn share a *cluster*, which intervals resample whole.
    """

    row: int
    prompt: str | list[Message]
    cluster: float
    source: str | None
    answers: tuple[str, str] = ("", "")
    later: tuple[LaterTurn, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether both systems said the same, in every turn."""
        every = (self.answers, *(turn.answers for turn in self.later))
        return all(first == second for first, second in every)


Said = Mapping[int, str]
"""What one system answered to one prompt, by turn, from 1."""


def answered_prompts(
    evaluation: Path, dataset: Path, systems: Sequence[str], prompt_set: str | None = None
) -> list[AnsweredPrompt]:
    """Return every prompt that both *systems* of the folder *evaluation* answered, by row.

    The prompts are rows of *dataset*, or of the *prompt_set*. Of several samples the first is taken, with all turns.

    Raises:
        InvalidInput: `no_generations`: nothing was generated; `unknown_system`: a name is none of its systems;
            `no_shared_prompts`: the two answered no prompt in common.
    """
    texts = _texts_by_system(evaluation / GENERATIONS, prompt_set)
    for place, name in enumerate(systems):
        if name not in texts:
            raise _unknown(place, name, sorted(texts))
    first, second = (texts[name] for name in systems)
    rows = first.keys() & second.keys()
    asked = _of_dataset(dataset, rows) if prompt_set is None else _of_set(evaluation / PROMPTS, prompt_set, rows)
    found = [_with_answers(prompt, further, first[prompt.row], second[prompt.row]) for prompt, further in asked]
    if not found:
        raise InvalidInput("The two systems answered no prompt in common.", code="no_shared_prompts")
    return found


def _with_answers(prompt: AnsweredPrompt, further: Sequence[str], first: Said, second: Said) -> AnsweredPrompt:
    """Return *prompt* with what both said to it and to the *further* turns, as far as both answered."""
    turns = itertools.takewhile(lambda turn: turn[0] in first and turn[0] in second, enumerate(further, start=2))
    later = tuple(LaterTurn(user, (first[turn], second[turn])) for turn, user in turns)
    return replace(prompt, answers=(first[1], second[1]), later=later)


def _texts_by_system(path: Path, prompt_set: str | None) -> dict[str, dict[int, dict[int, str]]]:
    """Return the texts of the first sample by system, row and turn."""
    texts: dict[str, dict[int, dict[int, str]]] = {}
    for line in _lines(path):
        if line.get("set", HELD_OUT) == (prompt_set or HELD_OUT) and line.get("sample", 0) == 0:
            own = texts.setdefault(str(line["system"]), {}).setdefault(int(line["row"]), {})
            own[int(line.get("turn", 1))] = str(line["text"])
    if texts:
        return texts
    finding = Finding(
        "no_generations",
        "no stored answers",
        "an evaluation that generated answers" if prompt_set is None else "a prompt set that the evaluation asked",
        "evaluate with options.prompts above 0 and a metric of answers, for example `length`"
        if prompt_set is None
        else "name one of the evaluation's `prompt_sets`",
        pointer="/evaluation" if prompt_set is None else "/prompt_set",
    )
    raise InvalidInput("The evaluation has no such stored answers.", code="no_generations", findings=[finding])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _of_dataset(dataset: Path, rows: Container[int]) -> Iterator[tuple[AnsweredPrompt, tuple[str, ...]]]:
    """Yield the prompts and the user's further turns, of which a dataset has none."""
    for row, example in iterate_examples(dataset):
        if row in rows:
            yield AnsweredPrompt(row, example.prompt, split_point_of(example.prompt), example.source), ()


def _of_set(path: Path, prompt_set: str, rows: Container[int]) -> Iterator[tuple[AnsweredPrompt, tuple[str, ...]]]:
    """Yield the prompts and the user's further turns."""
    for asked in read_asked(path):
        if asked.set == prompt_set and asked.row in rows:
            yield AnsweredPrompt(asked.row, asked.prompt, asked.cluster, asked.category), asked.further


def _unknown(place: int, name: str, known: Sequence[str]) -> InvalidInput:
    expected = shown(f"one of {', '.join(known)}")
    fix = "name two systems of this evaluation"
    finding = Finding("unknown_system", shown(name), expected, fix, pointer=f"/systems/{place}")
    return InvalidInput("The evaluation has no such system.", code="unknown_system", findings=[finding])
