"""The prompts that an evaluation's systems answered, as they stand in its prompts.jsonl. Torch-free.

Answers (generations.jsonl) name them by `set` and `row`. Knows no model and no metric.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deft.data.prompt_formats import LABELS
from deft.examples import Message
from deft.specs.releases import CATEGORY

HELD_OUT = "held_out"
"""The set of the prompts that come from the evaluation's own dataset."""

SAFE, UNSAFE = LABELS

UNCATEGORISED = "uncategorised"
"""The category of prompts that name none, so that no prompt is outside of all."""

OVER: Mapping[str, str | None] = {
    "over_refusal": SAFE,
    "harmful_compliance": UNSAFE,
    "partial_refusal": UNSAFE,
    "incoherent": None,
}
"""The label of the prompts that each rate of safety is over; None: all that have one."""


def slice_of(category: str | None) -> str:
    """Return the name of the slice that prompts of this *category* are measured in; None: of those that name none."""
    return f"{CATEGORY}{category or UNCATEGORISED}"


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of a *set*, by its *row* there, with the user's *further* turns and what the set says of it.

    *cluster* is equal for equal first user turns: what intervals resample. *reference* holds an answer a turn, or none.
    """

    set: str
    row: int
    prompt: str | list[Message]
    cluster: float
    further: tuple[str, ...] = ()
    category: str | None = None
    label: str | None = None
    reference: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The prompt as text to read: messages as turns by name."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1:
            return self.prompt[0]["content"]
        return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in self.prompt)

    @property
    def is_labelled(self) -> bool:
        """Whether the prompt is labelled safe or unsafe, so that rates of safety are over its answers."""
        return self.label in LABELS


def write_asked(prompts: Iterable[Asked], path: Path) -> None:
    """Write one line a prompt."""
    with path.open("w", encoding="utf-8") as file:
        for prompt in prompts:
            file.write(json.dumps(asdict(prompt), ensure_ascii=False) + "\n")


def read_asked(path: Path) -> list[Asked]:
    """Return the prompts of an evaluation's file, in order; none where an older evaluation has no such file."""
    if not path.is_file():
        return []
    found = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            stored: dict[str, Any] = json.loads(line)
            stored |= {name: tuple(stored[name]) for name in ("further", "reference")}
            found.append(Asked(**stored))
    return found
