"""Many questions asked at once, at a pace, each at most once; what came back is in the journal before anything else.

Jobs that ask the same at once, with one journal, take over each other's replies. Knows questions and a function that
answers one; it must not know HTTP, templates or statistics.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock

from deft.endpoints import RequestRefused
from deft.errors import Unavailable
from deft.judges.journal import Journal, Reply, plain
from deft.judges.templates import Question
from deft.reports import Report, stop_if_asked

LOOK_SECONDS = 0.5
"""Between two looks at whether the operation should stop."""

Ask = Callable[[Question], Reply]


@dataclass
class Tally:
    """What the asking came to: questions *asked* now and *kept* from before, *refused* ones, *retries*, tokens."""

    asked: int = 0
    kept: int = 0
    refused: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def count(self, reply: Reply, *, is_new: bool) -> None:
        """Add a *reply* with its cost; one that is not new was kept from before, retries and all."""
        self.asked += is_new
        self.kept += not is_new
        self.retries += reply.retries * is_new
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens


class Pace:
    """Lets at most *per_minute* calls through a minute, evenly spread; None: all."""

    def __init__(
        self,
        per_minute: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spacing = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = Lock()

    def wait(self) -> None:
        """Return when it is this call's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._spacing
        if turn > now:
            self._sleep(turn - now)


def key_of(question: Question, context: str) -> str:
    """Return what *question* is kept by; *context* is all else that the reply depends on."""
    return hashlib.sha256(json.dumps([context, question.template, question.messages]).encode()).hexdigest()


def ask_all(
    questions: Iterable[Question],
    ask: Ask,
    journal: Journal,
    *,
    context: str,
    report: Report,
    lanes: int = 4,
    pace: Pace | None = None,
) -> Tally:
    """Ask every question that the journal has no reply to, *lanes* at a time; equal questions once.

    Raises:
        Unavailable: the judge does not answer; what it answered until then is in the journal.
        Interrupted: the report asks to stop; likewise.
    """
    every = {key_of(question, context): question for question in questions}
    missing = {key: question for key, question in every.items() if key not in journal.replies}
    tally = Tally()
    for key in every.keys() - missing.keys():
        tally.count(journal.replies[key], is_new=False)
    kept = tally.kept
    with ThreadPoolExecutor(lanes, "judge") as pool:
        open_ones = {
            pool.submit(_asked, question, ask, pace or Pace(None), key, journal, report): key
            for key, question in missing.items()
        }
        try:
            _gather(open_ones, tally, len(every), report)
        except Unavailable as error:
            pool.shutdown(wait=True, cancel_futures=True)
            number = sum(key in journal.replies for key in every)
            message = f"{error.message}; {number:,} of {len(every):,} replies are kept: ask for the same job again"
            raise Unavailable(message, code=error.error_code, findings=error.findings) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if tally.kept > kept:
        report.note(f"{tally.kept - kept:,} replies came from another job that asked the same meanwhile")
    return tally


@dataclass(frozen=True, slots=True)
class Interview:
    """A judge who is asked: how (*ask*), under which *context*, *lanes* questions at a time, and what it has said."""

    ask: Ask
    journal: Journal
    context: str
    report: Report
    lanes: int
    per_minute: int | None

    def put(self, questions: Iterable[Question]) -> Tally:
        """Ask every question that has no reply yet.

        Raises:
            Unavailable, Interrupted: as `ask_all`.
        """
        return ask_all(
            questions,
            self.ask,
            self.journal,
            context=self.context,
            report=self.report,
            lanes=self.lanes,
            pace=Pace(self.per_minute),
        )

    def reply_to(self, question: Question) -> Reply | None:
        """Return the reply to *question*; None: the judge refused it, or was not asked."""
        return self.journal.replies.get(key_of(question, self.context))

    def unread(self, questions: Iterable[Question], is_unread: Callable[[Reply], bool]) -> int:
        """Return how many of the replies to distinct *questions* hold nothing sure."""
        keys = {key_of(question, self.context) for question in questions}
        return sum(is_unread(self.journal.replies[key]) for key in keys & self.journal.replies.keys())


def _asked(question: Question, ask: Ask, pace: Pace, key: str, journal: Journal, report: Report) -> tuple[Reply, bool]:
    """Return the reply to *question*, and whether it is new: another job may have kept it, or be asking just now."""
    if (kept := journal.reply_to(key)) is not None:
        return kept, False
    pace.wait()
    with journal.held(key, lambda: stop_if_asked(report)):
        if (kept := journal.reply_to(key)) is not None:
            return kept, False
        reply = plain(ask(question))
        journal.add(key, reply)
        return reply, True


def _gather(open_ones: dict[Future[tuple[Reply, bool]], str], tally: Tally, total: int, report: Report) -> None:
    pending = set(open_ones)
    report.progress(tally.kept, total, "questions")
    while pending:
        stop_if_asked(report)
        done, pending = wait(pending, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            _take(future, tally)
        if done:
            report.progress(tally.kept + tally.asked + tally.refused, total, "questions")


def _take(future: Future[tuple[Reply, bool]], tally: Tally) -> None:
    try:
        reply, is_new = future.result()
    except RequestRefused:
        tally.refused += 1
    else:
        tally.count(reply, is_new=is_new)
