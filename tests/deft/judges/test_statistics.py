import numpy as np
import pytest

from deft.judges.statistics import Sampling, agreement, first_place, mean_of, outcome

HOW = Sampling(400, 1)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [("A", "B", 1), ("B", "A", 0), ("A", "A", 0.5), ("B", "B", 0.5), ("tie", "B", 0.5), ("tie", "tie", 0.5)],
)
def test_only_orders_that_agree_make_a_win(first: str, second: str, value: float) -> None:
    assert outcome(first, second) == value  # type: ignore[arg-type]


def test_a_verdict_that_cannot_be_read_makes_no_outcome() -> None:
    assert outcome("A", None) is None
    assert outcome(None, "tie") is None


def test_a_judge_that_always_takes_the_first_has_a_first_place_of_one() -> None:
    found = first_place(["A"] * 40, [i // 2 for i in range(40)], HOW)
    assert found is not None
    assert found.value == 1
    assert found.low is not None
    assert found.low > 0.8
    assert first_place(["tie", None], [0, 1], HOW) is None


def test_a_win_rate_covers_what_it_was_drawn_from() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        values = generator.choice([0.0, 0.5, 1.0], size=60, p=[0.2, 0.2, 0.6])
        found = mean_of(values.tolist(), list(range(60)), Sampling(300, 0))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.7 <= found.high
    assert 181 <= hits <= 199


def test_a_judge_may_decide_once_it_agrees_with_enough_people() -> None:
    right = [1.0] * 45 + [0.0] * 15
    mixed = [10, -10] * 30
    assert agreement(right, mixed, list(range(60)), HOW).reasons == []
    few = agreement(right[:40], mixed[:40], list(range(40)), HOW)
    assert any("only 40" in reason for reason in few.reasons)


def test_a_judge_that_could_be_read_on_few_of_the_labelled_pairs_may_not_decide() -> None:
    read, mixed = [1.0] * 50, [10, -10] * 125
    assert agreement([*read, *[None] * 50], mixed[:100], list(range(100)), HOW).reasons == []
    just_less = agreement([*read, *[None] * 51], mixed[:101], list(range(101)), HOW)
    assert just_less.reasons == ["only 50 of the 101 labelled pairs that it was asked about could be read"]
    found = agreement([*read, *[None] * 200], mixed, list(range(250)), HOW)
    assert found.reasons == ["only 50 of the 250 labelled pairs that it was asked about could be read"]


def test_a_judge_that_only_measures_length_may_not_decide() -> None:
    """It agrees in 75 %, as does preferring the longer answer."""
    right, longer_by = [1.0] * 45 + [0.0] * 15, [10] * 45 + [-10] * 15
    found = agreement(right, longer_by, list(range(60)), HOW)
    assert found.longer == 0.75
    assert "length alone" in found.reasons[0]


def test_a_judge_that_only_measures_shortness_may_not_decide() -> None:
    """It agrees in 75 %, as does preferring the shorter answer."""
    right, longer_by = [1.0] * 45 + [0.0] * 15, [-10] * 45 + [10] * 15
    found = agreement(right, longer_by, list(range(60)), HOW)
    assert (found.longer, found.shorter) == (0.25, 0.75)
    assert "is not above 0.750" in found.reasons[0]
    assert "length alone" in found.reasons[0]


def test_a_judge_that_always_ties_agrees_by_half_and_may_not_decide() -> None:
    found = agreement([0.5] * 60, [1, -1] * 30, list(range(60)), HOW)
    assert found.rate is not None
    assert found.rate.value == 0.5
    assert found.ties == 60
    assert found.reasons
