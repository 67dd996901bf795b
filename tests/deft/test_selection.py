import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InvalidInput
from deft.selection import ScoredRow, allotted, kept_count, resolve_keep, select
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
    for chosen, rejected, by in ((math.nan, None, "chosen"), (math.inf, 1.0, "margin"), (1.0, math.nan, "margin")):
        with pytest.raises(InvalidInput, match="finite"):
            select([ScoredRow(0, chosen, rejected, 1)], Selection(by=by))
    with pytest.raises(InvalidInput, match="Nothing was scored"):
        select([], Selection())


def test_length_adjusted_takes_out_what_a_line_over_length_explains() -> None:
    """R_d = 2 - 0.5 * tokens + a residual that is orthogonal to length: 0.1, -0.2, 0.1 at 1, 2, 3 tokens."""
    rows = [ScoredRow(row, 2 - 0.5 * t + e, 0.0, t) for row, (t, e) in enumerate([(1, 0.1), (2, -0.2), (3, 0.1)])]
    chosen = select(rows, Selection(by="length_adjusted", count=1))
    assert chosen.kept == [False, True, False]
    assert chosen.length_slope == pytest.approx(-0.5)
    assert chosen.cut_value == pytest.approx(-0.2)
    assert select(rows, Selection(by="chosen", count=1)).kept == [False, False, True]


@given(scored(), st.floats(-10, 10))
def test_length_adjusted_does_not_see_what_is_added_a_token(rows, slope) -> None:  # type: ignore[no-untyped-def]
    rows = [ScoredRow(r.row, max(min(r.chosen, 1e3), -1e3), r.rejected, r.chosen_tokens) for r in rows]
    steeper = [ScoredRow(r.row, r.chosen + slope * r.chosen_tokens, r.rejected, r.chosen_tokens) for r in rows]
    one, other = (select(each, Selection(by="length_adjusted", count=1)) for each in (rows, steeper))
    assert one.cut_value == pytest.approx(other.cut_value, abs=1e-6)


def test_equal_lengths_leave_r_d_as_it_is_but_for_its_mean() -> None:
    chosen = select(rows_of(3.0, 1.0, 2.0), Selection(by="length_adjusted", count=2))
    assert (chosen.ranks, chosen.length_slope, chosen.cut_value) == ([3, 1, 2], 0.0, 0.0)


SOURCES = ["a"] * 6 + ["b"] * 3 + [None]


def sourced(values: list[float]) -> list[ScoredRow]:
    return [
        ScoredRow(row, value, 0.0, 1, source) for row, (value, source) in enumerate(zip(values, SOURCES, strict=True))
    ]


@pytest.mark.parametrize(
    ("quota", "size", "expected"),
    [
        ("proportional", 5, {"a": 3, "b": 1, "": 1}),  # 3, 1.5, 0.5: of level remainders the first name wins
        ("proportional", 10, {"a": 6, "b": 3, "": 1}),
        ("equal", 3, {"a": 1, "b": 1, "": 1}),
        ("equal", 6, {"a": 3, "b": 2, "": 1}),  # 2 each, but there is only one without a source; then 2.5 and 2.5
        ("equal", 9, {"a": 5, "b": 3, "": 1}),
        ({"b": 0.9, "": 0.1}, 2, {"a": 0, "b": 2, "": 0}),
        ({"b": 0.5, "a": 0.5}, 8, {"a": 5, "b": 3, "": 0}),
        ({"b": 1.0}, 8, {"a": 0, "b": 3, "": 0}),  # nothing else was asked for
        ({"a": 0.29, "b": 0.71}, 100, {"a": 6, "b": 3, "": 0}),
    ],
)
def test_places_are_shared_out_by_source(quota, size, expected) -> None:  # type: ignore[no-untyped-def]
    assert allotted(size, quota, {"a": 6, "b": 3, "": 1}) == expected


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1),
    st.sampled_from(["equal", "proportional"]),
    st.data(),
)
def test_all_places_are_given_and_none_twice(available, quota, data) -> None:  # type: ignore[no-untyped-def]
    size = data.draw(st.integers(1, sum(available.values())))
    found = allotted(size, quota, available)
    assert sum(found.values()) == size
    assert all(0 <= found[name] <= available[name] for name in available)
    if quota == "proportional":
        total = sum(available.values())
        assert all(abs(found[name] - size * available[name] / total) < 1 for name in available)
    else:
        poor = {name for name in available if found[name] == available[name]}
        rest = [found[name] for name in available if name not in poor]
        assert max(rest, default=0) - min(rest, default=0) <= 1


def test_a_quota_keeps_the_first_of_each_source_and_says_how_many() -> None:
    rows = sourced([9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    plain = select(rows, Selection(count=3))
    assert [row.row for row, kept in zip(rows, plain.kept, strict=True) if kept] == [7, 8, 9]
    chosen = select(rows, Selection(count=3, quota="equal"))
    assert [row.row for row, kept in zip(rows, chosen.kept, strict=True) if kept] == [5, 8, 9]
    assert chosen.ranks == plain.ranks
    assert (chosen.count, chosen.cut_value) == (3, 4.0)
    assert chosen.reason.endswith("by source: (no source) 1, a 1, b 1")


@pytest.mark.parametrize("end", ["random", "length", "highest"])
def test_controls_have_the_same_quota(end: str) -> None:
    rows = sourced([float(n) for n in range(10)])
    chosen = select(rows, Selection(end=end, count=4, quota={"b": 0.5, "a": 0.5}))  # type: ignore[arg-type]
    kept = [row.source for row, is_kept in zip(rows, chosen.kept, strict=True) if is_kept]
    assert sorted(kept) == ["a", "a", "b", "b"]


def test_a_quota_for_a_source_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="source") as error:
        select(sourced([0.0] * 10), Selection(count=3, quota={"c": 1.0}))
    finding = error.value.findings[0]
    assert (finding.pointer, finding.found) == ("/selection/quota", "c")


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        Selection(quota={"a": 0.5, "b": 0.6})
