"""Where PRO's rewards come from, and which weights rows have."""

import pytest

from deft.errors import InvalidInput
from deft.examples import Example
from deft.specs import ProMethod
from deft.training.supervision import row_weights, training_rewards


def ranked(*scores: float | None, line: int = 1, count: int = 3) -> Example:
    own = tuple(score for score in scores if score is not None) or None
    return Example("why?", tuple("abcdefg"[: len(own) if own else count]), own, source_line=line)


def test_scores_become_gaps_above_the_last_and_ranks_gaps_of_1() -> None:
    rows = [ranked(5.0, 4.5, 2.0), ranked(-1.0, -1.5)]
    assert training_rewards(ProMethod(), rows) == ([[3.0, 2.5, 0.0], [0.5, 0.0]], "scores")
    assert training_rewards(ProMethod(rewards="scores"), rows)[1] == "scores"
    assert training_rewards(ProMethod(rewards="ranks"), rows) == ([[2.0, 1.0, 0.0], [1.0, 0.0]], "ranks")


def test_auto_takes_ranks_as_soon_as_one_row_has_no_scores() -> None:
    rows = [ranked(5.0, 4.5), ranked(None, count=4)]
    assert training_rewards(ProMethod(), rows) == ([[1.0, 0.0], [3.0, 2.0, 1.0, 0.0]], "ranks")


def test_scores_asked_for_and_missing_are_refused_with_their_lines() -> None:
    with pytest.raises(InvalidInput, match=r"2 of 3 rows without scores \(lines 7, 9\)") as caught:
        training_rewards(ProMethod(rewards="scores"), [ranked(2.0, 1.0), ranked(None, line=7), ranked(None, line=9)])
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.code) == ("/method/rewards", "no_scores")


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([ranked(1.0, 1.0), ranked(2.0, 2.0, 2.0)], "scores_tie"),
        ([ranked(1.0, 0.0), ranked(1e300, -1e300)], "scores_too_far_apart"),
        ([ranked(1e308, -1e308)], "scores_too_far_apart"),
    ],
)
def test_scores_without_a_gap_or_too_far_apart_are_refused(rows: list[Example], code: str) -> None:
    with pytest.raises(InvalidInput, match="ranks") as caught:
        training_rewards(ProMethod(), rows)
    assert caught.value.error_code == code


def test_a_row_without_a_weight_has_1_and_without_any_there_are_none() -> None:
    rows = [Example("a", ("b", "c"), weight=0.5), Example("d", ("e", "f"))]
    assert row_weights(rows, are_used=True) == [0.5, 1.0]
    assert row_weights(rows, are_used=False) is None
    assert row_weights(rows[1:], are_used=True) is None
