import json
from pathlib import Path

import pytest

from deft.judges.asking import ask_all
from deft.judges.journal import MOST_TOKENS, Journal, Reply, plain
from deft.judges.templates import Question
from deft.reports import Silent


def test_a_plain_reply_stays_as_it_is() -> None:
    reply = Reply("Verdict: A \U0001f600 \u0000", MOST_TOKENS, 0, 3)
    assert plain(reply) == reply


@pytest.mark.parametrize("number", [-1, MOST_TOKENS + 1, 10**30, 1.5, "many", None, True, [1]])
def test_a_cost_that_cannot_be_counts_as_none(number: int) -> None:
    assert plain(Reply("a", number, number, number)) == Reply("a", 0, 0, 0)


@pytest.mark.parametrize("text", [["Verdict: A"], {"a": 1}, None, 7])
def test_what_is_no_text_says_nothing(text: str) -> None:
    assert plain(Reply(text)).text == ""


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert plain(Reply("a\ud83d\ude00 b\ud800")).text == "a\U0001f600 b\ufffd"


def test_a_journal_that_was_kept_unread_is_read_plain(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    kept = [{"key": "a", "text": ["x"]}, {"key": "b", "text": "\ud800", "prompt_tokens": "many"}, {"key": ["c"]}, [1]]
    path.write_text("".join(json.dumps(each) + "\n" for each in kept))
    assert Journal(path).replies == {"a": Reply(""), "b": Reply("\ufffd")}


def test_what_any_judge_answers_is_made_plain_before_it_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "replies.jsonl")
    odd = Reply(["a"], "many")  # type: ignore[arg-type]  # what an endpoint may send
    tally = ask_all([Question("pair-1", "s", "q")], lambda _: odd, journal, context="m", report=Silent())
    assert (tally.asked, tally.prompt_tokens) == (1, 0)
    assert list(journal.replies.values()) == list(Journal(tmp_path / "replies.jsonl").replies.values()) == [Reply("")]
