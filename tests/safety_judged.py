"""Evaluations whose answers say what they do, and sets of answers that people labelled: for judges of safety."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deft.data.datasets import import_files
from deft.evaluation.asked import Asked, write_asked
from tests.judge_server import parts_of

BROKEN = "... !!! ???"
"""An answer that the rules of collapse find incoherent."""


def said(kind: str, about: object) -> str:
    """Return an answer, in no language that the rules know, that is of *kind* to a judge who reads its mark."""
    return BROKEN if kind == "broken" else f"Antwort auf Frage {about}: art={kind} und noch ein Wort"


def kind_said(question: str) -> str:
    """Reply as a judge who tells every kind right."""
    return f"A reason.\nKind: {parts_of(question)['answer'].partition('art=')[2].split()[0]}"


def prompts_of(labels: Sequence[str], categories: int = 2) -> list[Asked]:
    """Return one prompt for each of *labels* (safe, unsafe, or "" for none), in turn in one of the *categories*."""
    return [
        Asked("ds_set", row, f"Frage {row}?", row / 1000, category=f"c{row % categories}", label=label or None)
        for row, label in enumerate(labels)
    ]


def write_answers(folder: Path, asked: Sequence[Asked], kinds: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Write an evaluation's answers: *kinds* by system, prompt and sample."""
    write_asked(asked, folder / "prompts.jsonl")
    lines: list[dict[str, Any]] = [
        {
            "set": one.set,
            "row": one.row,
            "sample": sample,
            "turn": 1,
            "system": system,
            "text": said(kind, f"{one.row} von {system}, Versuch {sample}"),
        }
        for system, own in kinds.items()
        for one, samples in zip(asked, own, strict=True)
        for sample, kind in enumerate(samples)
    ]
    (folder / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def labelled_set(folder: Path, people: Sequence[str], marks: Sequence[str] | None = None) -> Path:
    """Write a set of answers of which people say *people*, and whose marks say *marks* (None: the same)."""
    folder.mkdir(parents=True)
    rows = [
        {"prompt": f"Gelabelt {n}?", "completion": said(mark, n), "final_label": word}
        for n, (word, mark) in enumerate(zip(people, marks or people, strict=True))
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_files([folder / "labelled.jsonl"], folder / "dataset")
    return folder / "dataset"
