"""Answers that are kept while an evaluation runs: one that is interrupted asks no system twice.

Kept as a checkpoint after every system, below the folder of the attempt. Knows answers and checkpoints; no model.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deft.evaluation.generation import Answer
from deft.evaluation.state import Answered, Run
from deft.specs import spec_hash
from deft.training import checkpoints as resume

DOCUMENT = "answers"


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Where answers are kept (None: nowhere), and what they depend on."""

    root: Path | None
    facts: dict[str, str]

    def found(self, run: Run) -> list[Answered]:
        """Return the answers of the first systems, as far as an earlier attempt got.

        Raises:
            InvalidInput: they are of another evaluation.
        """
        folder = None if self.root is None else resume.newest(self.root, run=self.facts, report=run.report)
        return [] if folder is None else [_read(each) for each in resume.read_document(folder, DOCUMENT)]

    def keep(self, run: Run, answers: Sequence[Answered]) -> None:
        """Keep the *answers* of the first systems."""
        if self.root is None:
            return
        document = [asdict(own) for own in answers]
        folder = resume.write(self.root, len(answers), run=self.facts, groups={}, documents={DOCUMENT: document})
        run.report.checkpoint(len(answers), folder)


def kept_answers(run: Run, base_hash: str, root: Path | None) -> KeptAnswers:
    """Return where the answers of *run* are kept: below *root*."""
    systems = "".join(adapter.weights_hash for adapter in run.adapters)
    return KeptAnswers(
        root,
        {
            "spec": spec_hash(run.spec),
            "base": base_hash,
            "systems": hashlib.sha256(systems.encode()).hexdigest(),
            "prompts": run.prompts.fingerprint,
        },
    )


def _read(document: dict[str, Any]) -> Answered:
    answers = [Answer(**answer) for answer in document.pop("answers")]
    return Answered(answers, **document)
