"""Answers that are kept while an evaluation runs: one that is interrupted asks no system twice.

Kept as a checkpoint after every system, below the folder of the attempt. Knows answers and checkpoints; no model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deft.evaluation.asked import Asked
from deft.evaluation.conversations import Conversation
from deft.evaluation.generation import Answer
from deft.evaluation.state import Answered, Run
from deft.models.fit import answers_prompts
from deft.specs import spec_hash
from deft.training import checkpoints as resume

DOCUMENT, SETS, ENGINES, HARNESS = "answers", "sets", "engines", "lm_eval"


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
        folder = self._newest(run)
        return [] if folder is None else [_read(each) for each in resume.read_document(folder, DOCUMENT)]

    def found_sets(self, run: Run) -> list[list[Conversation]]:
        """Return what the first systems answered to prompt sets, as far as an earlier attempt got.

        Raises:
            InvalidInput: they are of another evaluation.
        """
        folder = self._newest(run)
        asked = {(prompt.set, prompt.row): prompt for prompt in run.sets}
        stored = [] if folder is None else resume.read_document(folder, SETS)
        return [[_conversation(each, asked) for each in own] for own in stored]

    def found_results(self, run: Run) -> dict[str, str]:
        """Return the results of lm-evaluation-harness by system, as far as an earlier attempt got.

        Raises:
            InvalidInput: they are of another evaluation.
        """
        folder = self._newest(run)
        return {} if folder is None else dict(resume.read_document(folder, HARNESS))

    def _newest(self, run: Run) -> Path | None:
        """Return the newest checkpoint, with its engines on the run's record."""
        folder = None if self.root is None else resume.newest(self.root, run=self.facts, report=run.report)
        for used in [] if folder is None else resume.read_document(folder, ENGINES):
            run.engines.note(**used)
        return folder

    def keep(
        self,
        run: Run,
        answers: Sequence[Answered],
        sets: Sequence[Sequence[Conversation]] = (),
        results: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the *answers* of the first systems, what they answered to prompt *sets*, and the harness's *results*."""
        if self.root is None:
            return
        document = [asdict(own) for own in answers]
        conversations = [[_stored(each) for each in own] for own in sets]
        documents = {DOCUMENT: document, SETS: conversations, ENGINES: run.engines.used, HARNESS: dict(results or {})}
        step = len(answers) + len(sets) + len(results or {})
        folder = resume.write(self.root, step, run=self.facts, groups={}, documents=documents)
        run.report.checkpoint(step, folder)


def kept_answers(run: Run, settings_hash: str, root: Path | None) -> KeptAnswers:
    """Return where the answers of *run* are kept: below *root*; nowhere if there are none.

    *settings_hash* is of everything that its numbers depend on but the systems, whose files have hashes of their own.
    """
    if root is None or not (answers_prompts(run.spec) or run.sets or run.spec.lm_eval):
        return KeptAnswers(None, {})
    systems = "".join(adapter.files_hash for adapter in run.adapters)
    return KeptAnswers(
        root,
        {
            "spec": spec_hash(run.spec),
            "settings": settings_hash,
            "systems": hashlib.sha256(systems.encode()).hexdigest(),
            "prompts": run.prompts.fingerprint,
        },
    )


def _stored(own: Conversation) -> dict[str, Any]:
    """Return *own* without its prompt, which the set has."""
    answers = [asdict(answer) for answer in own.answers]
    return {"at": [own.asked.set, own.asked.row], "sample": own.sample, "answers": answers, "is_cut": own.is_cut}


def _conversation(stored: dict[str, Any], asked: Mapping[tuple[str, int], Asked]) -> Conversation:
    answers = tuple(Answer(**answer) for answer in stored["answers"])
    name, row = stored["at"]
    return Conversation(asked[name, row], stored["sample"], answers, stored["is_cut"])


def _read(document: dict[str, Any]) -> Answered:
    answers = [Answer(**answer) for answer in document.pop("answers")]
    return Answered(answers, **document)
