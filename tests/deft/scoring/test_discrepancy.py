"""M11 against a naive implementation, and on data whose answer is known. All draws are seeded."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deft.distribution import count_responses, difference
from deft.scoring.discrepancy import (
    Part,
    Stability,
    discrepancy,
    half_correlations,
    leading_tokens,
    null_norms,
    stability,
    warnings_of,
)
from deft.scoring.token_table import TokenTable, token_table

Responses = list[list[list[int]]]

rankings = st.lists(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=2, max_size=4), min_size=1, max_size=12
)


def made_up(rng: np.random.Generator, examples: int, shift: float = 0.0, vocabulary: int = 40) -> Responses:
    """Pairs of 5 to 15 tokens each; *shift* of the chosen ones' tokens are drawn from the first ten alone."""

    def draw(low: float) -> list[int]:
        size = int(rng.integers(5, 16))
        is_low = rng.random(size) < low
        return np.where(is_low, rng.integers(0, 10, size), rng.integers(0, vocabulary, size)).tolist()

    return [[draw(shift), draw(0.0)] for _ in range(examples)]


def whole(responses: Responses) -> list[Part]:
    return [Part(1.0, token_table(responses))]


def naive_q_diff(chosen: list[list[int]], rejected: list[list[int]], vocabulary: int = 10) -> np.ndarray:
    sides = [Counter(token for response in side for token in response) for side in (chosen, rejected)]
    return np.array([sides[0][v] / sides[0].total() - sides[1][v] / sides[1].total() for v in range(vocabulary)])


@given(rankings, st.sets(st.integers(0, 9), max_size=2))
def test_the_table_counts_what_the_distribution_counts(responses: Responses, specials: set[int]) -> None:
    table = token_table(responses, specials)
    counts = count_responses(responses, 10, specials)
    found = table.totals(np.stack([table.is_chosen, ~table.is_chosen], axis=1))
    dense = np.zeros((10, 2))
    dense[table.tokens] = found
    np.testing.assert_array_equal(dense, np.stack([counts.chosen, counts.rejected], axis=1))
    assert table.examples == counts.rows == len(responses)


@given(rankings, st.data())
def test_a_part_of_a_table_is_the_table_of_the_part(responses: Responses, data: Any) -> None:
    rows = data.draw(st.lists(st.integers(0, len(responses) - 1), min_size=1, max_size=8))
    part, own = token_table(responses).take(np.array(rows)), token_table([responses[row] for row in rows])
    assert part.starts.tolist() == own.starts.tolist()
    dense = part.counts.toarray()
    np.testing.assert_array_equal(dense[:, np.isin(part.tokens, own.tokens)], own.counts.toarray())
    assert dense.sum() == own.counts.sum()


@settings(max_examples=30)
@given(rankings)
def test_the_null_is_that_of_a_naive_shuffling_with_the_same_draws(responses: Responses) -> None:
    rng = np.random.default_rng([5, 0])
    expected = []
    sizes = np.array([len(each) for each in responses])
    for picked in (rng.random((len(responses), 7)) * sizes[:, None]).astype(int).T:
        chosen = [each[pick] for each, pick in zip(responses, picked, strict=True)]
        rejected = [r for each, pick in zip(responses, picked, strict=True) for at, r in enumerate(each) if at != pick]
        expected.append(np.abs(naive_q_diff(chosen, rejected)).sum())
    np.testing.assert_allclose(null_norms(whole(responses), 7, 5), expected, rtol=0, atol=1e-12)


def test_the_null_of_one_pair_is_its_own_norm() -> None:
    """Swapping the labels of one pair turns the sign of Q_diff and leaves its norm."""
    table = whole([[[1, 1, 2], [2, 3]]])
    np.testing.assert_allclose(null_norms(table, 30, 0), 4 / 3, rtol=0, atol=1e-15)  # 2/3 + |1/3 - 1/2| + 1/2
    found = stability(table, permutations=30, halves=0, seed=0)
    assert (found.l1, found.p, found.ratio) == (pytest.approx(4 / 3), 1.0, pytest.approx(1.0))


def test_the_norm_is_that_of_q_diff_and_p_counts_the_labels_themselves() -> None:
    responses = made_up(np.random.default_rng(0), 50, shift=0.2)
    table = whole(responses)
    found = stability(table, permutations=99, halves=0, seed=3)
    null = null_norms(table, 99, 3)
    assert found.l1 == pytest.approx(np.abs(difference(count_responses(responses, 40, []))).sum(), abs=1e-12)
    assert found.p == (1 + (null >= found.l1).sum()) / 100
    assert found.null_mean == pytest.approx(null.mean())
    assert found.z == pytest.approx((found.l1 - null.mean()) / null.std(ddof=1))


def test_halves_are_correlated_as_by_numpy() -> None:
    responses = made_up(np.random.default_rng(1), 31, shift=0.3, vocabulary=10)
    rng = np.random.default_rng([2, 1])
    expected = []
    for _ in range(4):
        is_first = rng.permutation(31) < 15
        sides = [
            naive_q_diff([r[0] for r in half], [r[1] for r in half])
            for half in (
                [r for r, first in zip(responses, is_first, strict=True) if first],
                [r for r, first in zip(responses, is_first, strict=True) if not first],
            )
        ]
        expected.append(np.corrcoef(*sides)[0, 1])
    np.testing.assert_allclose(half_correlations(whole(responses), 4, 2), expected, rtol=0, atol=1e-12)


def test_p_is_uniform_when_the_labels_say_nothing() -> None:
    """80 made-up data sets without a difference; a wrong null would put p near 0 or 1 in most of them."""
    p_values = [
        stability(whole(made_up(np.random.default_rng(seed), 60)), permutations=99, halves=0, seed=seed).p
        for seed in range(80)
    ]
    assert stats.kstest([p for p in p_values if p is not None], "uniform").pvalue > 0.01


def test_a_strong_difference_is_told_from_noise_and_comes_again() -> None:
    report = discrepancy(whole(made_up(np.random.default_rng(0), 800, shift=0.4)), permutations=200)
    assert report.whole.p == 1 / 201
    assert report.whole.r is not None
    assert report.whole.r > 0.95
    assert report.whole.ratio is not None
    assert report.whole.ratio > 3
    assert warnings_of(report.as_dict()) == []
    # More data, less noise: the norm falls towards its true value, the halves agree better.
    assert [each.examples for each in report.growth] == [50, 100, 200, 400, 800]
    r = [each.r or 0 for each in report.growth]
    assert r == sorted(r)


def test_leading_tokens_have_intervals_that_hold_the_truth() -> None:
    """Tokens 0..9 are drawn 0.4 / 10 more often in chosen responses than in rejected ones: the truth is 0.03."""
    table = whole(made_up(np.random.default_rng(0), 2000, shift=0.4))
    found = leading_tokens(table, 10, resamples=200, seed=0)
    assert {each.token for each in found} == set(range(10))
    assert all(each.low < each.q_diff < each.high for each in found)
    assert sum(each.low < 0.03 < each.high for each in found) >= 8
    assert [abs(each.q_diff) for each in found] == sorted((abs(each.q_diff) for each in found), reverse=True)
    width = np.mean([each.high - each.low for each in found])
    # Tokens are nearly independent here: the interval is that of a difference of two shares.
    n = sum(each.count_chosen for each in found) / 10 / 0.055
    expected = 2 * 1.96 * np.sqrt(0.055 * 0.945 / n + 0.025 * 0.975 / n)
    assert width == pytest.approx(expected, rel=0.2)


def test_the_same_seed_gives_the_same_report_and_another_another() -> None:
    table = whole(made_up(np.random.default_rng(0), 60, shift=0.1))
    assert discrepancy(table, seed=1) == discrepancy(table, seed=1) != discrepancy(table, seed=2)


def test_what_cannot_be_said_of_one_example_is_null() -> None:
    report = discrepancy(whole([[[1, 2], [3]]])).as_dict()
    assert (report["r"], report["halves"], report["z"]) == (None, 0, None)
    assert len(warnings_of(report)) == 2  # p is 1, and one example is few


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"p": 0.06}, ["noise"]),
        ({"r": 0.49}, ["come again"]),
        ({"examples": 399}, ["399 examples"]),
        ({"p": None, "r": None}, []),
        ({"p": 0.5, "r": 0.0, "examples": 2}, ["noise", "come again", "2 examples"]),
    ],
)
def test_the_gate_warns_of_noise_in_words(changes: dict[str, Any], words: list[str]) -> None:
    good = Stability(400, 0.3, 0.2, 0.01, 1.5, 10.0, 0.05, 200, 0.5, 20)
    report = {field: getattr(good, field) for field in Stability.__slots__} | changes
    warnings = warnings_of(report)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def test_large_totals_are_counted_exactly() -> None:
    """Beyond 2^24 float32 would lose single tokens."""
    table = token_table([[[0] * 3, [1]], [[0], [1]]])
    huge = TokenTable(table.counts * np.int32(2**24 + 1), table.tokens, table.starts)
    members = huge.is_chosen[:, None]
    assert huge.totals(members)[:, 0].tolist() == [4 * (2**24 + 1), 0]


def test_a_table_of_many_batches_is_that_of_one_and_takes_eight_bytes_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    responses = made_up(np.random.default_rng(0), 50)
    one = token_table(responses, [3])
    monkeypatch.setattr("deft.scoring.token_table._EXAMPLES_PER_BATCH", 7)
    monkeypatch.setattr("deft.scoring.token_table._RESPONSES_PER_BLOCK", 9)
    many = token_table(responses, [3])
    assert (many.counts != one.counts).nnz == 0
    assert many.counts.data.itemsize + many.counts.indices.itemsize == 8
    assert many.totals(many.is_chosen[:, None]).tolist() == (one.counts[one.is_chosen].sum(axis=0)[:, None]).tolist()
    assert many.sums.tolist() == one.counts.sum(axis=0).tolist()


def test_aspects_are_mixed_by_their_weights() -> None:
    """M12: Q_diff = 2 Q_a - the parts' norms do not add up, the vectors do."""
    rng = np.random.default_rng(4)
    responses = [*made_up(rng, 30, shift=0.5, vocabulary=10), *made_up(rng, 20, vocabulary=10)]
    table = token_table(responses)
    parts = [Part(2.0, table.take(np.arange(30))), Part(0.5, table.take(np.arange(30, 50)))]
    aspects = [naive_q_diff([r[0] for r in own], [r[1] for r in own]) for own in (responses[:30], responses[30:])]
    q_diff = 2 * aspects[0] + 0.5 * aspects[1]
    report = discrepancy(parts, permutations=50, leading=3)
    assert report.whole.l1 == pytest.approx(np.abs(q_diff).sum(), abs=1e-12)
    top = np.argsort(-np.abs(q_diff))[:3]
    assert [each.token for each in report.leading_tokens] == top.tolist()
    assert [each.q_diff for each in report.leading_tokens] == pytest.approx(q_diff[top].tolist(), abs=1e-12)
    assert all(each.low < each.q_diff < each.high for each in report.leading_tokens)
    assert report.whole.examples == 50


def test_two_parts_that_are_one_data_set_twice_are_that_data_set() -> None:
    """Q_diff of a half weight each is Q_diff of the whole, and so are all its halves' correlations with themselves."""
    table = token_table(made_up(np.random.default_rng(4), 40, shift=0.3))
    twice = stability([Part(0.5, table), Part(0.5, table)], permutations=20, halves=4, seed=0)
    assert twice.l1 == pytest.approx(stability([Part(1.0, table)], permutations=0, halves=0, seed=0).l1)
