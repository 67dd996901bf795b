import fcntl
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deft.endpoints import RequestRefused
from deft.errors import Interrupted, Unavailable
from deft.judges.asking import Pace, ask_all, key_of
from deft.judges.journal import Journal, Reply
from deft.judges.templates import Question
from deft.reports import Silent


def question(number: int) -> Question:
    return Question("pair-1", "system", f"question {number}")


class Scripted:
    """Answers with the question's own number; from the *until*-th call on it does what *then* says."""

    def __init__(self, until: int = 10**9, then: Exception | None = None) -> None:
        self.asked: list[str] = []
        self.until, self.then = until, then
        self._lock = threading.Lock()

    def __call__(self, asked: Question) -> Reply:
        with self._lock:
            self.asked.append(asked.text)
            number = len(self.asked)
        if number >= self.until and self.then is not None:
            raise self.then
        return Reply(asked.text, 10, 2, 1)


def test_a_question_is_asked_once_however_often_it_stands_there(tmp_path: Path) -> None:
    judge, journal = Scripted(), Journal(tmp_path / "replies.jsonl")
    tally = ask_all([question(1), question(2), question(1)], judge, journal, context="m", report=Silent())
    assert sorted(judge.asked) == ["question 1", "question 2"]
    assert (tally.asked, tally.kept, tally.prompt_tokens, tally.completion_tokens, tally.retries) == (2, 0, 20, 4, 2)


def test_a_restart_asks_nothing_twice(tmp_path: Path) -> None:
    path, questions = tmp_path / "replies.jsonl", [question(i) for i in range(6)]
    with pytest.raises(Unavailable, match="3 of 6 replies are kept"):
        ask_all(questions, Scripted(4, Unavailable("gone")), Journal(path), context="m", report=Silent(), lanes=1)
    second = Scripted()
    tally = ask_all(questions, second, Journal(path), context="m", report=Silent())
    assert (tally.asked, tally.kept) == (3, 3)
    assert tally.prompt_tokens == 60
    assert len(second.asked) == 3


def test_another_judge_is_asked_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "replies.jsonl")
    for context in ("one model", "another"):
        judge = Scripted()
        ask_all([question(1)], judge, journal, context=context, report=Silent())
        assert len(judge.asked) == 1


def test_a_line_that_a_crash_has_cut_is_asked_again_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    ask_all([question(1), question(2)], Scripted(), Journal(path), context="m", report=Silent(), lanes=1)
    path.write_bytes(path.read_bytes()[:-5])
    again = Scripted()
    ask_all([question(1), question(2)], again, Journal(path), context="m", report=Silent())
    assert again.asked == ["question 2"]
    assert len(Journal(path).replies) == 2
    assert json.loads(path.read_text().splitlines()[-1])["text"] == "question 2"


def test_a_refused_question_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    judge = Scripted(3, RequestRefused())
    tally = ask_all([question(i) for i in range(3)], judge, Journal(None), context="m", report=Silent(), lanes=1)
    assert (tally.asked, tally.refused) == (2, 1)


def test_it_stops_when_asked_and_keeps_what_came(tmp_path: Path) -> None:
    class Stopping(Silent):
        is_stopping = True

    journal = Journal(tmp_path / "replies.jsonl")
    with pytest.raises(Interrupted):
        ask_all([question(i) for i in range(50)], Scripted(), journal, context="m", report=Stopping(), lanes=1)
    assert len(Journal(tmp_path / "replies.jsonl").replies) == len(journal.replies)


class Noted(Silent):
    """Keeps notes; stops where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_two_jobs_that_ask_the_same_at_once_ask_nothing_twice(tmp_path: Path) -> None:
    path, questions, report = tmp_path / "replies.jsonl", [question(i) for i in range(40)], Noted()
    journals, judge, together = (Journal(path), Journal(path)), Scripted(), threading.Barrier(2)

    def slow(asked: Question) -> Reply:
        time.sleep(0.01)
        return judge(asked)

    def job(journal: Journal) -> Any:
        together.wait(timeout=30)
        return ask_all(questions, slow, journal, context="m", report=report)

    with ThreadPoolExecutor(2) as pool:
        tallies = list(pool.map(job, journals))
    assert sorted(judge.asked) == sorted(each.text for each in questions)
    assert sum(tally.asked for tally in tallies) == 40
    assert {(tally.asked + tally.kept, tally.prompt_tokens) for tally in tallies} == {(40, 400)}
    assert journals[0].replies == journals[1].replies == Journal(path).replies
    taken = [f"{tally.kept} replies came from another job that asked the same meanwhile" for tally in tallies]
    assert set(report.notes) == {note for note, tally in zip(taken, tallies, strict=True) if tally.kept}


ASKER = """
import sys, time
from pathlib import Path
from deft.judges.asking import ask_all
from deft.judges.journal import Journal
from deft.judges.templates import Question
from deft.reports import Silent

def ask(question):
    print("asked", flush=True)
    time.sleep(600)

ask_all([Question("pair-1", "system", "question 1")], ask, Journal(Path(sys.argv[1])), context="m", report=Silent())
"""


def test_a_question_of_a_killed_process_is_asked_by_the_one_that_waits(tmp_path: Path) -> None:
    path, judge = tmp_path / "replies.jsonl", Scripted()
    other = subprocess.Popen([sys.executable, "-c", ASKER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "asked\n"
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_all, [question(1)], judge, Journal(path), context="m", report=Silent())
            time.sleep(0.5)
            assert (judge.asked, asking.done()) == ([], False)
            other.kill()
            assert asking.result(timeout=60).asked == 1
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert judge.asked == ["question 1"]


def test_whoever_waits_for_another_job_stops_when_asked(tmp_path: Path) -> None:
    class Stopping(Silent):
        asked = 0

        @property
        def is_stopping(self) -> bool:  # type: ignore[override]
            self.asked += 1
            return self.asked > 3

    path, judge = tmp_path / "replies.jsonl", Scripted()
    with Journal(path).held(key_of(question(1), "m"), lambda: None), pytest.raises(Interrupted):
        ask_all([question(1)], judge, Journal(path), context="m", report=Stopping())
    assert judge.asked == []


@pytest.mark.parametrize("what", ["a file system without locks", "no room for files to lock"])
def test_where_nothing_can_be_locked_questions_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    if what == "a file system without locks":
        monkeypatch.setattr(fcntl, "flock", refused)
    else:
        (tmp_path / "replies.locks").write_text("in the way")
    tally = ask_all([question(1)], Scripted(), Journal(tmp_path / "replies.jsonl"), context="m", report=Silent())
    assert tally.asked == 1
    assert len(Journal(tmp_path / "replies.jsonl").replies) == 1


def test_no_file_stays_open_for_a_question(tmp_path: Path) -> None:
    def open_after(number: int) -> int:
        questions = [question(i) for i in range(number)]
        ask_all(questions, Scripted(), Journal(tmp_path / "replies.jsonl"), context="m", report=Silent())
        return len(list(Path("/proc/self/fd").iterdir()))

    few = open_after(5)
    assert open_after(60) <= few + 5


def test_a_pace_spreads_calls() -> None:
    slept: list[float] = []
    pace = Pace(60, clock=lambda: 100.0, sleep=slept.append)
    for _ in range(3):
        pace.wait()
    assert slept == [1.0, 2.0]
    free = Pace(None, clock=lambda: 100.0, sleep=slept.append)
    free.wait()
    free.wait()
    assert len(slept) == 2
