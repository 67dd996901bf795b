"""The stored answers of two systems to the same prompts, read from an evaluation and the dataset that it asked.

Knows the files of both folders; nothing of studies, raters or rows of a database.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.data.datasets import iterate_examples
from deft.errors import Finding, InvalidInput, shown
from deft.examples import Example, Message, split_point_of

GENERATIONS = "generations.jsonl"
HELD_OUT = "held_out"
"""The `set` of lines about the dataset's own rows; lines about prompt sets are left alone."""


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """One prompt with the *answers* of the two systems, in the order in which these were named.

    *row* is the dataset's; prompts with one first user turn share a *cluster*, which intervals resample whole.
    """

    row: int
    prompt: str | list[Message]
    cluster: float
    source: str | None
    answers: tuple[str, str]


def answered_prompts(evaluation: Path, dataset: Path, systems: Sequence[str]) -> list[AnsweredPrompt]:
    """Return every prompt that both *systems* of the folder *evaluation* answered, by row.

    Raises:
        InvalidInput: `no_generations`: nothing was generated; `unknown_system`: a name is none of its systems;
            `no_shared_prompts`: the two answered no prompt in common.
    """
    texts = _texts_by_system(evaluation / GENERATIONS)
    for place, name in enumerate(systems):
        if name not in texts:
            raise _unknown(place, name, sorted(texts))
    first, second = (texts[name] for name in systems)
    rows = first.keys() & second.keys()
    found = [_answered(row, example, (first[row], second[row])) for row, example in _examples(dataset, rows)]
    if not found:
        raise InvalidInput("The two systems answered no prompt in common.", code="no_shared_prompts")
    return found


def _texts_by_system(path: Path) -> dict[str, dict[int, str]]:
    texts: dict[str, dict[int, str]] = {}
    for line in _lines(path):
        if line.get("set") in (None, HELD_OUT):
            texts.setdefault(str(line["system"]), {})[int(line["row"])] = str(line["text"])
    if not texts:
        finding = Finding(
            "no_generations",
            "no stored answers",
            "an evaluation that generated answers",
            "evaluate with options.prompts above 0 and a metric of answers, for example `length`",
            pointer="/evaluation",
        )
        raise InvalidInput("The evaluation has no stored answers.", code="no_generations", findings=[finding])
    return texts


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _examples(dataset: Path, rows: set[int]) -> Iterator[tuple[int, Example]]:
    return ((row, example) for row, example in iterate_examples(dataset) if row in rows)


def _answered(row: int, example: Example, answers: tuple[str, str]) -> AnsweredPrompt:
    return AnsweredPrompt(row, example.prompt, split_point_of(example.prompt), example.source, answers)


def _unknown(place: int, name: str, known: Sequence[str]) -> InvalidInput:
    expected = shown(f"one of {', '.join(known)}")
    fix = "name two systems of this evaluation"
    finding = Finding("unknown_system", shown(name), expected, fix, pointer=f"/systems/{place}")
    return InvalidInput("The evaluation has no such system.", code="unknown_system", findings=[finding])
