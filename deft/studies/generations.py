"""The stored answers of two systems to the same prompts, read from an evaluation and the dataset that it asked.

Knows the files of both folders; nothing of studies, raters or rows of a database.
"""

import json
from collections.abc import Container, Iterator, Sequence
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
class AnsweredPrompt:
    """One prompt with the *answers* of the two systems, in the order in which these were named.

    *row* is the dataset's; prompts with one first user turn share a *cluster*, which intervals resample whole.
    """

    row: int
    prompt: str | list[Message]
    cluster: float
    source: str | None
    answers: tuple[str, str] = ("", "")


def answered_prompts(
    evaluation: Path, dataset: Path, systems: Sequence[str], prompt_set: str | None = None
) -> list[AnsweredPrompt]:
    """Return every prompt that both *systems* of the folder *evaluation* answered, by row.

    The prompts are rows of *dataset*, or of the *prompt_set*, of which each first answer to the first turn is taken.

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
    found = [replace(prompt, answers=(first[prompt.row], second[prompt.row])) for prompt in asked]
    if not found:
        raise InvalidInput("The two systems answered no prompt in common.", code="no_shared_prompts")
    return found


def _texts_by_system(path: Path, prompt_set: str | None) -> dict[str, dict[int, str]]:
    texts: dict[str, dict[int, str]] = {}
    for line in _lines(path):
        if line.get("set", HELD_OUT) == (prompt_set or HELD_OUT) and line.get("turn", 1) == 1:
            texts.setdefault(str(line["system"]), {}).setdefault(int(line["row"]), str(line["text"]))
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


def _of_dataset(dataset: Path, rows: Container[int]) -> Iterator[AnsweredPrompt]:
    for row, example in iterate_examples(dataset):
        if row in rows:
            yield AnsweredPrompt(row, example.prompt, split_point_of(example.prompt), example.source)


def _of_set(path: Path, prompt_set: str, rows: Container[int]) -> Iterator[AnsweredPrompt]:
    for asked in read_asked(path):
        if asked.set == prompt_set and asked.row in rows:
            yield AnsweredPrompt(asked.row, asked.prompt, asked.cluster, asked.category)


def _unknown(place: int, name: str, known: Sequence[str]) -> InvalidInput:
    expected = shown(f"one of {', '.join(known)}")
    fix = "name two systems of this evaluation"
    finding = Finding("unknown_system", shown(name), expected, fix, pointer=f"/systems/{place}")
    return InvalidInput("The evaluation has no such system.", code="unknown_system", findings=[finding])
