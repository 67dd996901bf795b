import json
import threading
from pathlib import Path

import pytest

from deft.endpoints import RequestRefused
from deft.errors import Interrupted, Unavailable
from deft.judges.asking import Pace, ask_all
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
