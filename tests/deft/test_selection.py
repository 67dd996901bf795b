import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InvalidInput
from deft.selection import ScoredRow, kept_count, resolve_keep, select
from deft.specs import Selection

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
ENDS = st.sampled_from(["lowest", "highest", "random", "length"])
RANDOM_RANKS_OF_SEED_0 = [5, 7, 8, 2, 1, 4, 6, 3]
SIDES = st.sampled_from(["chosen", "rejected", "margin"])


@st.composite
def scored(draw: st.DrawFn) -> list[ScoredRow]:
    values = draw(st.lists(st.tuples(FINITE, FINITE, st.integers(1, 50)), min_size=1, max_size=30))
    return [ScoredRow(3 * row, chosen, rejected, tokens) for row, (chosen, rejected, tokens) in enumerate(values)]


def rows_of(*chosen: float) -> list[ScoredRow]:
    return [ScoredRow(row, value, 0.0, 1) for row, value in enumerate(chosen)]


def kept_rows(rows: list[ScoredRow], selection: Selection) -> list[int]:
    return [row.row for row, is_kept in zip(rows, select(rows, selection).kept, strict=True) if is_kept]


@pytest.mark.parametrize(
    ("fraction", "examples", "count"),
    [
        (0.07, 100, 7),  # 0.07 * 100 is 7.000000000000001 in doubles, of which the ceiling is 8
        (0.05, 20, 1),
        (0.05, 21, 2),
        (0.29, 100, 29),
        (0.55, 100, 55),
        (1.0, 7, 7),
        (1e-9, 5, 1),
        (0.1, 30, 3),
        (1 / 3, 3, 1),
    ],
)
def test_k_is_the_ceiling_by_the_decimal_text_of_the_fraction(fraction: float, examples: int, count: int) -> None:
    assert kept_count(fraction, examples) == count


@given(st.integers(1, 100), st.integers(1, 10_000))
def test_whole_percents_round_up_exactly(percent: int, examples: int) -> None:
    fraction = float(Decimal(percent) / 100)
    assert kept_count(fraction, examples) == -(-percent * examples // 100)


def test_lowest_keeps_the_lowest_and_highest_the_highest() -> None:
    rows = rows_of(0.3, -0.2, 0.1, 0.9)
    assert kept_rows(rows, Selection(keep=0.5)) == [1, 2]
    assert kept_rows(rows, Selection(keep=0.5, end="highest")) == [0, 3]
    assert select(rows, Selection(keep=0.5)).ranks == [3, 1, 2, 4]
    assert select(rows, Selection(keep=0.5)).cut_value == 0.1


def test_margin_is_chosen_minus_rejected() -> None:
    rows = [ScoredRow(0, 5.0, 1.0, 1), ScoredRow(1, 1.0, 0.0, 1), ScoredRow(2, 3.0, 9.0, 1)]
    assert select(rows, Selection(by="margin", count=1)).ranks == [3, 2, 1]
    assert select(rows, Selection(by="rejected", count=1)).ranks == [2, 1, 3]


def test_length_keeps_the_longest_chosen_responses() -> None:
    rows = [ScoredRow(0, 0.0, None, 5), ScoredRow(1, 0.0, None, 9), ScoredRow(2, 0.0, None, 9)]
    assert select(rows, Selection(end="length", count=2)).ranks == [3, 1, 2]


@pytest.mark.parametrize("end", ["lowest", "highest", "length"])
def test_ties_go_to_the_lower_row_at_either_end(end: str) -> None:
    assert select(rows_of(1.0, 1.0, 1.0), Selection.model_validate({"end": end, "count": 1})).ranks == [1, 2, 3]


@given(scored(), ENDS, SIDES, st.integers(1, 40), st.integers(0, 5))
def test_ranks_are_a_permutation_whose_first_k_are_kept(rows, end, by, count, seed) -> None:  # type: ignore[no-untyped-def]
    outcome = select(rows, Selection(end=end, by=by, count=count, seed=seed))
    assert sorted(outcome.ranks) == list(range(1, len(rows) + 1))
    assert outcome.count == min(count, len(rows)) == sum(outcome.kept)
    assert all(is_kept == (rank <= outcome.count) for rank, is_kept in zip(outcome.ranks, outcome.kept, strict=True))


@given(scored(), ENDS, SIDES, st.integers(1, 39))
def test_a_larger_subset_contains_the_smaller(rows, end, by, count) -> None:  # type: ignore[no-untyped-def]
    small, large = (set(kept_rows(rows, Selection(end=end, by=by, count=k))) for k in (count, count + 1))
    assert small <= large


@given(scored(), ENDS, SIDES, st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(rows, end, by, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(rows)
    random.shuffle(shuffled)
    selection = Selection(end=end, by=by, keep=0.3)
    assert set(kept_rows(rows, selection)) == set(kept_rows(shuffled, selection))


@given(scored(), SIDES)
def test_nothing_kept_ranks_behind_something_left_out(rows, by) -> None:  # type: ignore[no-untyped-def]
    value = {"chosen": lambda r: r.chosen, "rejected": lambda r: r.rejected, "margin": lambda r: r.chosen - r.rejected}[
        by
    ]
    kept = select(rows, Selection(by=by, keep=0.4)).kept
    inside = [value(row) for row, is_kept in zip(rows, kept, strict=True) if is_kept]
    outside = [value(row) for row, is_kept in zip(rows, kept, strict=True) if not is_kept]
    assert max(inside) <= min(outside, default=math.inf)


def test_random_draws_are_written_in_stone() -> None:
    rows = rows_of(*([0.0] * 8))
    assert select(rows, Selection(end="random", count=1, seed=0)).ranks == RANDOM_RANKS_OF_SEED_0
    assert select(rows, Selection(end="random", count=1, seed=1)).ranks != RANDOM_RANKS_OF_SEED_0


def test_random_draws_keep_every_row_about_equally_often() -> None:
    rows = rows_of(*([0.0] * 10))
    times = [0] * 10
    for seed in range(2000):
        for row in kept_rows(rows, Selection(end="random", count=3, seed=seed)):
            times[row] += 1
    # 2000 draws of 3 in 10: mean 600, standard deviation 20.5; 5 of those never happen by chance here.
    assert all(abs(count - 600) < 103 for count in times)


@pytest.mark.parametrize(
    ("keep", "examples", "batch_size", "epochs", "count", "word"),
    [
        ("auto", 100_000, 8, 1, 5_000, "5 %"),
        ("auto", 10_000, 8, 1, 1_000, "1,000 examples"),
        ("auto", 10_000, 16, 1, 1_600, "100 optimiser steps"),
        ("auto", 10_000, 31, 2, 1_550, "100 optimiser steps"),
        ("auto", 10_000, 31, 3, 1_034, "100 optimiser steps"),
        ("auto", 400, 8, 1, 400, "all 400"),
        (0.05, 100, 8, 1, 5, "0.05 of 100"),
        (0.05, 100_000, 64, 1, 5_000, "0.05 of"),
    ],
)
def test_keep_resolves_with_a_reason(keep, examples, batch_size, epochs, count, word) -> None:  # type: ignore[no-untyped-def]
    resolved, reason = resolve_keep(keep, examples, batch_size, epochs)
    assert resolved == count
    assert word in reason


def test_a_count_stands_before_keep() -> None:
    assert select(rows_of(*range(10)), Selection(keep=0.9, count=2)).count == 2
    assert select(rows_of(*range(10)), Selection(keep=0.9, count=2), count=3).count == 3


def test_what_was_not_scored_is_refused_with_the_fix() -> None:
    with pytest.raises(InvalidInput) as refusal:
        select([ScoredRow(0, 1.0, None, 1)], Selection(by="margin"))
    assert refusal.value.findings[0].pointer == "/selection/by"
    with pytest.raises(InvalidInput, match="finite"):
        select([ScoredRow(0, math.nan, None, 1)], Selection())
    with pytest.raises(InvalidInput, match="Nothing was scored"):
        select([], Selection())
