from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from deft.evaluation import confidence, intervals
from deft.evaluation.intervals import Estimate, Luck, Resampled, cluster_sums, estimate, holm, luck_of, ratio, resample
from deft.evaluation.resampling import luck_deviates


def _sums(values: object, clusters: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """[S, n] values -> [S, C, 2] sums and counts."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    clusters = np.arange(values.shape[1]) if clusters is None else clusters
    return np.stack([cluster_sums(np.column_stack([row, np.ones_like(row)]), clusters) for row in values])


def _share_covered(
    draw: Callable[[np.random.Generator], np.ndarray],
    truth: float,
    runs: int = 300,
    plus: Sequence[int] = (0,),
    minus: Sequence[int] = (),
    bounds: tuple[float, float] | None = None,
) -> float:
    """Share of *runs* data sets, resampled side by side, whose interval holds *truth*."""
    generator = np.random.default_rng(5)
    sums = [draw(generator) for _ in range(runs)]
    found = resample(np.concatenate(sums), ratio, resamples=500, seed=5)
    hits = 0
    for run in range(runs):
        first = run * len(sums[0])
        arms = [first + i for i in plus], [first + i for i in minus]
        interval = estimate(found, *arms, bounds=bounds, is_share=bounds is not None, seed=run)
        hits += interval.low <= truth <= interval.high
    return hits / runs


def test_rows_of_one_prompt_are_summed_together() -> None:
    sums = cluster_sums(np.array([[1.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[2.0, 1.0], [5.0, 2.0]]


def test_value_is_the_plain_mean_whatever_the_clusters() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0])
    found = estimate(resample(_sums(values, [0, 0, 1, 1]), ratio, resamples=500, seed=1), [0])
    assert found.value == pytest.approx(4.0)
    assert found.low < 4.0 < found.high


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    sums = _sums(np.random.default_rng(0).normal(size=40))
    first, again, other = (estimate(resample(sums, ratio, resamples=500, seed=s), [0]) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_resampling_in_pieces_is_resampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = _sums(np.random.default_rng(0).normal(size=(2, 30)))
    whole = resample(sums, ratio, resamples=100, seed=3)
    monkeypatch.setattr(confidence, "WEIGHTS_AT_ONCE", 30 * 7)
    pieces = resample(sums, ratio, resamples=100, seed=3)
    np.testing.assert_allclose(whole.resamples, pieces.resamples, rtol=0, atol=1e-12)


def test_standard_error_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=200)
    found = estimate(resample(_sums(values), ratio, resamples=4000, seed=1), [0])
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(200), rel=0.05)


@pytest.mark.parametrize("n", [50, 100])
def test_intervals_of_a_mean_cover_the_truth(n: int) -> None:
    assert 0.92 <= _share_covered(lambda g: _sums(g.normal(size=n)), 0.0) <= 0.975


@pytest.mark.parametrize("n", [50, 100])
def test_intervals_of_a_share_cover_the_truth(n: int) -> None:
    covered = _share_covered(lambda g: _sums(g.random(n) < 0.6), 0.6, bounds=(0.0, 1.0))
    assert 0.92 <= covered <= 0.975


def test_shares_that_hardly_differ_are_covered_with_few_prompts() -> None:
    def draw(generator: np.random.Generator) -> np.ndarray:
        before = generator.random(30) < 0.5
        return _sums([np.where(generator.random(30) < 0.4, generator.random(30) < 0.5, before), before])

    assert _share_covered(draw, 0.0, plus=[0], minus=[1], bounds=(-1.0, 1.0)) >= 0.93


def test_a_share_of_right_and_wrong_has_about_jeffreys_interval() -> None:
    found = estimate(
        resample(_sums([1.0] * 18 + [0.0] * 2), ratio, resamples=8000, seed=0), [0], bounds=(0.0, 1.0), is_share=True
    )
    assert (found.low, found.high) == pytest.approx(stats.beta(18.6, 2.6).interval(0.95), abs=0.01)
    assert found.standard_error == pytest.approx(stats.beta(18.6, 2.6).std(), rel=0.05)


def test_what_was_not_seen_reaches_as_far_out_as_what_was() -> None:
    ones, rows = np.ones(4), np.array([3.0, 1.0, 1.0, 1.0])
    assert confidence.reach(np.array([0.0, 1.0, 0.5, 1.0]), ones, (0.0, 1.0)) == (0.0, 1.0)
    assert confidence.reach(np.array([-1.0, 0.5, 0.0, 0.0]), ones, (-1.0, 1.0)) == pytest.approx(
        (-1.25 / 1.5, 1.25 / 1.5)
    )
    assert confidence.reach(np.array([0.5, 1.0, 0.5, 0.5]), rows, (-1.0, 1.0))[1] == pytest.approx(2.25 / 3.5)
    assert confidence.reach(np.full(4, 0.5), ones, (0.0, 1.0)) == (0.0, 1.0)


def test_a_difference_of_prompts_with_several_rows_has_no_longer_interval_than_it_must() -> None:
    def draw(generator: np.random.Generator) -> np.ndarray:
        rows = np.tile(generator.integers(1, 7, 8), (2, 1))
        return np.stack([generator.binomial(rows, generator.beta(1.5, 1.5, 8)), rows], axis=-1).astype(float)

    assert 0.92 <= _share_covered(draw, 0.0, plus=[0], minus=[1], bounds=(-1.0, 1.0)) <= 0.975


def test_a_share_in_between_is_studentised_the_less_prompts_stand_at_an_end() -> None:
    between = np.linspace(0.4, 0.6, 20)
    shares, plain = (
        estimate(resample(_sums(between), ratio, resamples=2000, seed=0), [0], bounds=(0.0, 1.0), is_share=is_share)
        for is_share in (True, False)
    )
    assert (shares.low, shares.high) == (plain.low, plain.high)


def test_clustered_rows_are_covered_where_single_rows_would_not_be() -> None:
    def draw(generator: np.random.Generator, cluster: bool = True) -> np.ndarray:
        effects = np.repeat(generator.normal(size=50), 4)
        clusters = np.repeat(np.arange(50), 4) if cluster else None
        return _sums(effects + 0.3 * generator.normal(size=200), clusters)

    assert 0.92 <= _share_covered(draw, 0.0) <= 0.975
    assert _share_covered(lambda g: draw(g, cluster=False), 0.0) < 0.8


def test_paired_differences_cover_the_truth() -> None:
    def draw(generator: np.random.Generator) -> np.ndarray:
        shared = generator.normal(size=60)
        return _sums([shared + 0.5 * generator.normal(size=60) + 0.2, shared + 0.5 * generator.normal(size=60)])

    assert 0.92 <= _share_covered(draw, 0.2, plus=[0], minus=[1]) <= 0.975


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_intervals_over_draws_cover_the_truth_whether_or_not_draws_differ(spread: float) -> None:
    def draw(generator: np.random.Generator) -> np.ndarray:
        luck = spread * generator.normal(size=(3, 1))
        return _sums(generator.normal(size=60) + 0.5 * generator.normal(size=(3, 60)) + luck)

    assert 0.92 <= _share_covered(draw, 0.0, plus=[0, 1, 2]) <= 0.99


def test_pairing_makes_the_interval_of_a_difference_narrow() -> None:
    generator = np.random.default_rng(0)
    shared = generator.normal(size=80)
    found = resample(_sums([shared + 0.1, shared + 0.01 * generator.normal(size=80)]), ratio, resamples=500, seed=0)
    difference, alone = estimate(found, [0], [1]), estimate(found, [0])
    assert difference.high - difference.low < 0.05 * (alone.high - alone.low)


def test_draws_that_differ_widen_the_interval() -> None:
    base = np.random.default_rng(0).normal(size=80)
    same, apart = _sums([base, base, base]), _sums([base - 1, base, base + 1])
    widths = []
    for sums in (same, apart):
        found = estimate(resample(sums, ratio, resamples=2000, seed=0), [0, 1, 2])
        widths.append(found.high - found.low)
    assert widths[1] > 3 * widths[0]


def test_luck_that_is_given_widens_the_interval_of_a_single_run() -> None:
    found = resample(_sums(np.random.default_rng(0).normal(size=(2, 80))), ratio, resamples=2000, seed=0)
    alone, lucky = (estimate(found, [0], [1], luck=luck) for luck in (None, Luck(1.0, 4)))
    assert alone.high - alone.low < 1.0
    assert lucky.high - lucky.low == pytest.approx(2 * 2.78, rel=0.15)
    assert lucky.standard_error == pytest.approx(np.sqrt(alone.standard_error**2 + 1))


def test_a_clear_effect_has_a_small_p_and_none_a_large_one() -> None:
    generator = np.random.default_rng(0)
    found = resample(_sums([generator.normal(size=80) + 1, generator.normal(size=80)]), ratio, resamples=2000, seed=0)
    assert estimate(found, [0], [1]).p < 0.01
    assert estimate(found, [1]).p > 0.1


def test_p_and_interval_mostly_agree_about_zero() -> None:
    generator = np.random.default_rng(3)
    found = [
        estimate(resample(_sums(generator.normal(size=30) + 0.36), ratio, resamples=1000, seed=0), [0])
        for _ in range(60)
    ]
    assert np.mean([(each.low > 0) == (each.p < 0.05) for each in found]) > 0.9


def test_the_effect_size_is_that_of_the_textbook_and_prompts_are_counted() -> None:
    one, other = np.array([1.0, 2.0, 4.0, 4.0]), np.array([0.0, 2.0, 1.0, 5.0])
    found = estimate(resample(_sums([one, other]), ratio, resamples=200, seed=0), [0], [1])
    gaps = one - other
    assert found.effect_size == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert (found.better, found.worse) == (0.5, 0.25)


def test_pseudo_values_of_a_ratio_with_unequal_prompts_have_its_linear_standard_error() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(1, 9, 400).astype(float)
    sums = np.stack([rows * generator.exponential(size=400), rows], axis=-1)[None]
    found = estimate(resample(sums, ratio, resamples=500, seed=0), [0])
    residual = (sums[0, :, 0] - found.value * rows) / rows.mean()
    assert found.standard_error == pytest.approx(residual.std(ddof=1) / 20, rel=0.02)


def test_resamples_alone_give_percentiles() -> None:
    generator = np.random.default_rng(0)
    found = estimate(Resampled(np.array([0.6]), 0.6 + 0.05 * generator.normal(size=(4000, 1)), 100), [0])
    assert (found.low, found.high) == pytest.approx((0.6 - 0.0998, 0.6 + 0.0998), abs=0.006)
    assert found.p < 0.001


def test_one_prompt_says_nothing_about_an_unbounded_value_and_little_about_a_share() -> None:
    found = resample(_sums([3.0]), ratio, resamples=100, seed=0)
    assert estimate(found, [0]) == Estimate(3.0, None, None, None, 1.0, None, 1.0, 0.0)
    share = estimate(resample(_sums([1.0]), ratio, resamples=100, seed=0), [0], bounds=(0.0, 1.0))
    assert share.low == pytest.approx(0.025)
    assert share.high == 1.0


def test_a_share_that_never_varied_has_the_exact_limits() -> None:
    found = estimate(resample(_sums(np.ones(48)), ratio, resamples=100, seed=0), [0], bounds=(0.0, 1.0))
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / 48)), 1.0)


def test_a_share_at_its_end_has_the_limit_of_the_shares_beside_it() -> None:
    all_right, all_but_one = (
        estimate(
            resample(_sums([1.0] * (48 - wrong) + [0.0] * wrong), ratio, resamples=4000, seed=0),
            [0],
            bounds=(0.0, 1.0),
            is_share=True,
        )
        for wrong in (0, 1)
    )
    assert (all_right.low, all_right.high) == (pytest.approx(stats.beta.ppf(0.025, 48.6, 0.6)), 1.0)
    assert all_but_one.low == pytest.approx(stats.beta.ppf(0.025, 47.6, 1.6), abs=0.01)


def test_two_systems_that_never_differed_may_still_differ_a_little() -> None:
    found = resample(_sums([np.ones(48), np.ones(48)]), ratio, resamples=100, seed=0)
    difference = estimate(found, [0], [1], bounds=(-1.0, 1.0))
    unseen = 1 - 0.025 ** (1 / 48)
    assert (difference.value, difference.p) == (0.0, 1.0)
    assert (difference.low, difference.high) == (pytest.approx(-unseen), pytest.approx(unseen))
    assert intervals.smallest_detectable_difference(difference) == pytest.approx(unseen)


def test_a_difference_that_is_the_same_everywhere_is_significant_when_prompts_are_many() -> None:
    many, few = (
        estimate(resample(_sums([np.ones(n), np.zeros(n)]), ratio, resamples=100, seed=0), [0], [1], bounds=(-1.0, 1.0))
        for n in (40, 3)
    )
    assert many.p < 0.001
    assert few.p == pytest.approx(2 * 0.5**3)


def test_equal_unbounded_values_have_a_point_for_an_interval() -> None:
    found = estimate(resample(_sums(np.full(20, 0.1)), ratio, resamples=100, seed=0), [0])
    assert found.low == found.high == pytest.approx(0.1)


def test_a_mean_over_nothing_is_zero() -> None:
    assert ratio(np.zeros((3, 2))).tolist() == [0.0, 0.0, 0.0]


def test_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(1)
    error = 1 / np.sqrt(60)
    truth = intervals.smallest_detectable_difference(Estimate(0.0, -1.0, 1.0, error, 1.0, critical=1.95996 * error))
    assert truth == pytest.approx(2.8016 * error, rel=1e-4)
    found = resample(_sums(generator.normal(size=(600, 60)) + truth), ratio, resamples=1000, seed=0)
    assert 0.75 <= np.mean([estimate(found, [run]).low > 0 for run in range(600)]) <= 0.85


@pytest.mark.parametrize("signs", [[1.0], [0.5, 0.5, -1.0]])
def test_errors_of_perplexities_are_those_of_each_resample_by_itself(signs: list[float]) -> None:
    generator, found = np.random.default_rng(0), []
    tokens = generator.integers(1, 300, 40).astype(float)
    sums = np.stack([np.column_stack([tokens * generator.gamma(4.0, 0.8, 40), tokens]) for _ in signs])
    for drawn in confidence.weights(40, 50, 7):
        for row in drawn:
            own = np.repeat(sums, row, axis=1)
            ratios = own.sum(axis=1)[:, 0] / own.sum(axis=1)[:, 1]
            slopes = np.array(signs) * np.exp(ratios) / own[:, :, 1].mean(axis=1)
            residuals = (slopes[:, None] * (own[:, :, 0] - ratios[:, None] * own[:, :, 1])).sum(axis=0)
            found.append(residuals.std() / np.sqrt(39))
    assert confidence.exp_ratio_errors(sums, np.array(signs), 50, 7) == pytest.approx(found, rel=1e-9)


def test_a_resample_without_a_token_makes_no_interval_unknown() -> None:
    tokens = np.array([5.0, 3.0, 0.0, 0.0, 0.0, 0.0, 9.0, 2.0])
    sums = np.column_stack([tokens * np.arange(8), tokens])[None]
    found = estimate(resample(sums, intervals.exp_ratio, resamples=3000, seed=0), [0])
    assert found.low is not None and found.high is not None
    assert np.isfinite([found.low, found.high]).all()


def test_the_mean_of_equal_draws_has_the_interval_of_one_of_them() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, 40).astype(float)
    losses = [tokens * generator.gamma(4.0, 0.8, 40) for _ in range(2)]
    sums = np.stack([np.column_stack([own, tokens]) for own in (losses[0], losses[0], losses[0], losses[1])])
    resampled = resample(sums, intervals.exp_ratio, resamples=1000, seed=0)
    several, one = estimate(resampled, [0, 1, 2], [3], luck=Luck(0.0, 1)), estimate(resampled, [0], [3])
    assert (several.low, several.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_the_upper_end_of_a_difference_of_perplexities_is_seldom_too_low() -> None:
    above, below = 0, 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        tokens = np.minimum(1 + generator.geometric(1 / 200, 64), 512).astype(float)
        losses = generator.gamma(4.0, 0.8, 64)
        worse = losses + 0.1 + 0.05 * generator.normal(size=64)
        sums = np.stack([np.column_stack([tokens * each, tokens]) for each in (worse, losses)])
        found = estimate(resample(sums, intervals.exp_ratio, resamples=500, seed=seed), [0], [1])
        assert found.low is not None and found.high is not None
        above += found.high < np.exp(3.3) - np.exp(3.2)
        below += found.low > np.exp(3.3) - np.exp(3.2)
    assert above + below <= 21
    assert above <= 16


@pytest.mark.parametrize(("size", "spread"), [(1000, 0.5), (1000, 0.02), (20, 0.5)])
def test_without_luck_a_difference_of_280_standard_errors_can_be_seen(size: int, spread: float) -> None:
    values = np.random.default_rng(0).normal(scale=spread, size=size)
    found = estimate(resample(_sums([values - values.mean()]), ratio, resamples=4000, seed=0), [0])
    assert found.standard_error is not None
    assert intervals.smallest_detectable_difference(found) == pytest.approx(2.80 * found.standard_error, rel=0.12)


@pytest.mark.parametrize("effect", [0.0, 0.5, 3.0])
def test_the_smallest_difference_does_not_grow_with_the_one_that_was_seen(effect: float) -> None:
    values = np.random.default_rng(0).normal(size=200) + effect
    found = estimate(resample(_sums([values]), ratio, resamples=2000, seed=0), [0])
    assert found.standard_error is not None
    assert intervals.smallest_detectable_difference(found) == pytest.approx(2.80 * found.standard_error, rel=0.06)


@pytest.mark.parametrize("runs", [(1, 2), (1, 3), (3, 3)])
def test_with_luck_no_smaller_difference_can_be_seen_than_test_and_interval_tell(runs: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(sum(runs), 60)) + generator.normal(scale=0.3, size=(sum(runs), 1))
    plus, minus = range(runs[0]), range(runs[0], sum(runs))
    for shift in (0.0, 1.0):
        values[: runs[0]] += shift
        found = estimate(resample(_sums(values), ratio, resamples=2000, seed=0), plus, minus)
        smallest = intervals.smallest_detectable_difference(found)
        assert found.critical is not None and found.low is not None and found.high is not None
        assert smallest == pytest.approx(1.4294 * found.critical, rel=1e-4)
        assert found.critical >= (found.high - found.low) / 2
        assert (found.p < 0.05) == (abs(found.value) > found.critical) or abs(found.p - 0.05) < 0.02


def test_with_three_runs_of_each_what_can_be_seen_is_seen_four_times_in_five() -> None:
    generator, truth, smallest, hits = np.random.default_rng(1), 0.72, [], []
    for seed in range(150):
        values = generator.normal(size=(6, 60)) + generator.normal(scale=0.2, size=(6, 1))
        values[:3] += truth
        found = estimate(resample(_sums(values), ratio, resamples=500, seed=seed), [0, 1, 2], [3, 4, 5])
        smallest.append(intervals.smallest_detectable_difference(found))
        hits.append(found.p < 0.05 and found.low is not None and found.low > 0)
    assert np.median(smallest) == pytest.approx(truth, rel=0.15)
    assert 0.7 <= np.mean(hits) <= 0.95


def test_luck_beside_the_prompts_own_noise_counts_with_more_degrees_of_freedom() -> None:
    alone, beside = (luck_deviates(Luck(4.0, 2), of_prompts, 200_000, 0) for of_prompts in (0.0, 40.0))
    assert np.quantile(alone, 0.975) == pytest.approx(2 * stats.t.ppf(0.975, 2), rel=0.03)
    assert np.quantile(beside, 0.975) == pytest.approx(2 * stats.t.ppf(0.975, 2 * (1 + 0.2 * 10)), rel=0.03)
    assert luck_deviates(Luck(0.0, 2), 1.0, 10, 0) is None


def test_luck_is_the_variance_between_draws_that_the_prompts_do_not_explain() -> None:
    observed, noise = np.array([0.0, 2.0, 7.0]), np.zeros((10, 3))
    assert luck_of(Resampled(observed, noise, 5), [[0, 1], [2]]) == Luck(pytest.approx(2.0), 1)
    noisy = np.random.default_rng(0).normal(scale=5.0, size=(500, 3))
    hidden = luck_of(Resampled(observed, noisy, 5), [[0, 1]])
    assert (hidden.between, hidden.variance) == (pytest.approx(2.0), 0.0)
    assert hidden.noise == pytest.approx(25.0 / 5, rel=0.1)
    assert luck_of(Resampled(observed, noise, 5), [[0], [2]]) is None


def test_luck_is_pooled_over_arms_before_it_is_kept_from_being_negative() -> None:
    observed, noise = np.array([0.0, 2.0, 5.0, 5.0]), np.zeros((10, 4))
    assert luck_of(Resampled(observed, noise, 5), [[0, 1], [2, 3]]) == Luck(pytest.approx(1.0), 2)


def test_the_fewer_degrees_of_freedom_the_less_is_taken_off_for_the_prompts() -> None:
    generator = np.random.default_rng(0)
    observed, noise = np.array([0.0, 2.0, 4.0, 0.0, 2.0, 4.0]), generator.normal(scale=3.0, size=(4000, 6))
    few, more = (luck_of(Resampled(observed, noise, 5), arms) for arms in ([[0, 1, 2]], [[0, 1, 2], [3, 4, 5]]))
    assert (few.degrees, few.between, few.noise) == (2, pytest.approx(4.0), pytest.approx(9.0 * 2 / 6, rel=0.05))
    assert (more.degrees, more.between, more.noise) == (4, pytest.approx(4.0), pytest.approx(9.0 * 4 / 8, rel=0.05))
    assert few.times(2.0) == Luck(2 * few.between, 2, 2 * few.noise)
    assert (few.variance, more.variance) == (pytest.approx(1.0, abs=0.15), 0.0)


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons_and_stays_in_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
