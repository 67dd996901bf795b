"""Answers kept prompt by prompt as they come: one JSON line each, synced, so that none is generated twice.

What a model in memory answered is taken by every evaluation of the team on this machine: all that it depends on is in
its key. What a server answered is not: another model may be served by that name tomorrow. The same job alone takes it
(its next attempt, or posted again after a failure) within `SERVED_SECONDS`, and it goes when the evaluation is done.
Knows prompts as token ids; no model, no row.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol

from deft import cache
from deft.errors import Unavailable
from deft.evaluation.generation import Answer, Keep, Questions
from deft.evaluation.reuse import Reused
from deft.evaluation.served import PromptsRefused

LARGEST_BYTES = 256 * 2**20
"""What all journals of models in memory may hold, and all of servers; beyond it those used longest ago go."""

SERVED_SECONDS = 24 * 3600.0
"""How long after its last answer a server's journal is believed."""

_IN_MEMORY, _SERVED = "answers", "served_answers"
_WAY = "1"
"""Another number whenever a line says something else."""

Note = Callable[[str], None]


class Asking(Protocol):
    """What answers prompts and hands each answer on as soon as it is there."""

    def __call__(self, questions: Questions, on_progress: Callable[[int], None], keep: Keep) -> list[Answer]:
        """Answer *questions*, sampled where they have seeds."""


@dataclass(slots=True)
class AnswerJournal:
    """Answers of one *context*: all that they depend on but the prompt and its seed. *path* None: in memory alone."""

    context: str
    path: Path | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    reused: Reused = field(default_factory=Reused)
    note: Note = lambda _: None
    lock: Lock = field(default_factory=Lock)

    def complete(self, ask: Asking, questions: Questions, on_progress: Callable[[int], None]) -> list[Answer]:
        """Return the answers to *questions*; *ask* gets those that there is no answer to, equal ones once.

        Raises:
            PromptsRefused: as *ask*, with the places in *questions*.
            Unavailable: as *ask*, with how many answers are kept.
        """
        keys = [self._key(questions, place) for place in range(len(questions))]
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        places = [place for key, place in first.items() if key not in self.answers]
        before = sum(key in self.answers for key in keys)
        self.reused.answers += before
        if before:
            on_progress(before)
        if places:
            self._ask(ask, keys, places, questions, lambda done: on_progress(before + done))
        if before + len(places) < len(keys):
            on_progress(len(keys))
        return [self.answers[key] for key in keys]

    def _ask(
        self,
        ask: Asking,
        keys: Sequence[str],
        places: Sequence[int],
        questions: Questions,
        on_progress: Callable[[int], None],
    ) -> None:
        """Have *ask* answer what stands at *places* of *questions*."""

        def keep(found: Mapping[int, Answer]) -> None:
            self.add({keys[places[place]]: answer for place, answer in found.items()})

        try:
            ask(questions.take(places), on_progress, keep)
        except PromptsRefused as error:
            error.first = places[error.first]
            raise
        except Unavailable as error:
            raise self._told(error, keys) from error

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keep *answers* by their keys, on the disk before this returns; what cannot be written stays in memory."""
        lines = "".join(_line(key, answer) for key, answer in answers.items())
        with self.lock:
            self.answers |= answers
            if self.path is None:
                return
            try:
                cache.append(self.path, lines.encode())
            except OSError as error:
                self.path = None
                self.note(f"answers are not kept any more: {error.strerror}")

    def _key(self, questions: Questions, place: int) -> str:
        prompt, is_cut = list(questions.prompts[place]), questions.cut_at_marks[place]
        facts = json.dumps([self.context, prompt, is_cut, questions.seed(place)])
        return hashlib.sha256(facts.encode()).hexdigest()

    def _told(self, error: Unavailable, keys: Sequence[str]) -> Unavailable:
        if self.path is None:
            return error
        number = sum(key in self.answers for key in keys)
        message = f"{error.message}; {number:,} of {len(keys):,} answers are kept: ask for the same job again"
        return Unavailable(message, code=error.error_code, findings=error.findings)


@dataclass(frozen=True, slots=True)
class AnswerJournals:
    """Where journals lie, below *root* (None: nowhere), the *facts* that all answers depend on, and the *job*."""

    root: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    job: str = ""
    """The hash of its spec."""
    reused: Reused = field(default_factory=Reused)
    note: Note = lambda _: None

    def open(self, own: Mapping[str, str]) -> AnswerJournal:
        """Return the journal of a model in memory; *own* is what its answers depend on besides the facts."""
        if self.root is None:
            return self._opened(None, own)
        journal = self._opened(self.root / _IN_MEMORY, own)
        if journal.answers and journal.path is not None:
            with suppress(OSError):
                os.utime(journal.path)
        return journal

    def open_served(self, own: Mapping[str, str]) -> AnswerJournal:
        """Return the journal of a server for this job, empty where its last answer is too old."""
        if self.root is None:
            return self._opened(None, own)
        every = self.root / _SERVED
        _forget_older(every, time.time() - SERVED_SECONDS)
        return self._opened(every / self.job, own)

    def end(self) -> None:
        """Let go of what servers answered, since another evaluation asks anew, and of journals beyond the bound.

        Only here, when the evaluation is done: none takes what its own next attempt is to go on with.
        """
        if self.root is None:
            return
        shutil.rmtree(self.root / _SERVED / self.job, ignore_errors=True)
        for folder, files in ((_IN_MEMORY, "*.jsonl"), (_SERVED, "*/*.jsonl")):
            with suppress(OSError):
                cache.forget_oldest(self.root / folder, LARGEST_BYTES, files)

    def _opened(self, folder: Path | None, own: Mapping[str, str]) -> AnswerJournal:
        context = cache.name_of({**self.facts, **own, "way": _WAY})
        path = None if folder is None else folder / f"{context}.jsonl"
        answers = {} if path is None else _read(path)
        return AnswerJournal(context, path, answers, self.reused, self.note)


def _line(key: str, answer: Answer) -> str:
    content = json.dumps({"key": key, **asdict(answer)})
    return f"{hashlib.sha256(content.encode()).hexdigest()} {content}\n"


def _forget_older(folder: Path, oldest: float) -> None:
    """Remove the journals of all jobs in *folder* whose last answer is from before *oldest*."""
    for path in folder.glob("*/*.jsonl"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                path.parent.rmdir()


def _read(path: Path) -> dict[str, Answer]:
    """Return the answers of whole lines of *path*."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    found: dict[str, Answer] = {}
    for line in lines:
        digest, _, content = line.partition(" ")
        if hashlib.sha256(content.encode()).hexdigest() == digest:
            with suppress(ValueError, KeyError, TypeError):  # of another version of this module
                stored = json.loads(content)
                key = stored.pop("key")
                found[key] = Answer(**stored)
    return found
