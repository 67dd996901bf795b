import pytest

from deft.judges.verdicts import score_of, verdict_of


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Because.\nVerdict: A", "A"),
        ("**Verdict: B**", "B"),
        ("verdict: TIE.", "tie"),
        ("I prefer the second. [[B]]", "B"),
        ("[[C]]", "tie"),
        ("Verdict: A\nNo, wait.\nVerdict: B", None),
        ("Verdict: A or B", None),
        ("no idea Verdict: A\nVerdict: B", None),
        ("no idea Verdict: B\nVerdict: B", "B"),
        ("no idea Verdict: A", None),
        ("At first [[A]].\nVerdict: B", None),
        ("The verdict: a close call.\nVerdict: B", "B"),
        ("Answer A is better.", None),
        ("", None),
        ("Verdict: A\n\nVerdict: A", "A"),
    ],
)
def test_a_verdict_is_read_only_where_there_is_one(reply: str, verdict: str | None) -> None:
    assert verdict_of(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Fine.\nScore: 7", 7),
        ("**Score: 7/10**", 7),
        ("Rating: [[8.5]]", 8.5),
        ("Score: 0", None),
        ("Score: 11", None),
        ("Score: 3\nScore: 9", None),
        ("It is a 7.", None),
        ("[[B]]", None),
    ],
)
def test_a_score_is_read_only_from_one_to_ten(reply: str, score: float | None) -> None:
    assert score_of(reply) == score


MANY = 200_000


@pytest.mark.parametrize("padding", ["\n" * MANY, "*\n" * MANY, " " * MANY, "\r" * MANY, "\r\n" * MANY])
def test_lines_that_say_nothing_are_read_once_and_hide_nothing(padding: str) -> None:
    assert (verdict_of(padding), score_of(padding)) == (None, None)
    for before, after in ((padding, ""), ("", padding), (padding, padding)):
        assert verdict_of(f"{before}Verdict: B{after}") == "B"
        assert score_of(f"{before}**Score: 7/10**{after}") == 7
    assert verdict_of(f"Verdict:{padding}A") == "A"
    assert verdict_of(f"Verdict: A\n{padding}\nVerdict: B") is None
    assert verdict_of(f"Verdict: A{padding} or not") == ("A" if "\n" in padding else None)
