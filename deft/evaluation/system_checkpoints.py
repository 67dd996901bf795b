"""A checkpoint after every system that has answered or that lm-evaluation-harness has measured, with what it measured.

An evaluation that goes on measures no system twice, and a new checkpoint says that it got further than its earlier
attempts. Answers are not in it: their journals keep them (`deft.evaluation.answer_journals`). Knows no model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deft.evaluation.state import Run
from deft.models.fit import answers_prompts
from deft.reports import Report, Silent
from deft.specs import spec_hash
from deft.training import checkpoints as resume

RESULTS = "lm_eval"
"""The document that holds the harness's results as it wrote them, by system."""


@dataclass(slots=True)
class SystemCheckpoints:
    """Where checkpoints are written (None: nowhere), the *facts* that they belong to, and how far an evaluation is."""

    root: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    report: Report = field(default_factory=Silent)
    results: dict[str, str] = field(default_factory=dict)
    """What the harness wrote, by system."""
    answered: int = 0
    """Systems that have answered in this attempt, counted apart for held-out prompts and prompt sets."""
    newest: int = 0
    """The step of the newest checkpoint; as long as an attempt that goes on is no further, it writes none."""

    def add_answered(self) -> None:
        """Put down that one more system has answered the held-out prompts, or those of the sets."""
        self.answered += 1
        self._write()

    def add_results(self, system: str, text: str) -> None:
        """Keep the *text* that the harness wrote of *system*."""
        self.results[system] = text
        self._write()

    def _write(self) -> None:
        step = self.answered + len(self.results)
        if self.root is None or step <= self.newest:
            return
        folder = resume.write(self.root, step, run=self.facts, groups={}, documents={RESULTS: self.results})
        self.newest = step
        self.report.checkpoint(step, folder)


def open_checkpoints(run: Run, settings_hash: str, root: Path | None) -> SystemCheckpoints:
    """Return the checkpoints of *run* below *root*, with what its earlier attempts left there.

    *settings_hash* is of everything that its numbers depend on but the systems, whose files have hashes of their own.

    Raises:
        InvalidInput: they are of another evaluation.
    """
    if root is None or not (answers_prompts(run.spec) or run.sets or run.spec.lm_eval):
        return SystemCheckpoints()
    systems = "".join(adapter.files_hash for adapter in run.adapters)
    facts = {
        "spec": spec_hash(run.spec),
        "settings": settings_hash,
        "systems": hashlib.sha256(systems.encode()).hexdigest(),
        "prompts": run.prompts.fingerprint,
    }
    found = SystemCheckpoints(root, facts, run.report)
    folder = resume.newest(root, run=facts, report=run.report)
    if folder is not None:
        found.newest = resume.step_of(folder)
        found.results = dict(resume.read_document(folder, RESULTS))
    return found
