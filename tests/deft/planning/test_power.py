"""The smallest detectable difference of a plan is about what the evaluation then reports."""

import numpy as np
import pytest

from deft.evaluation.intervals import estimate, ratio, resample, smallest_detectable_difference
from deft.planning.power import detectable, prompts_for, share_standard_error, unchanged_bound


@pytest.mark.parametrize("disagreement", [0.5, 0.1])
@pytest.mark.parametrize("prompts", [32, 200])
def test_it_is_what_intervals_find_where_two_arms_disagree_so_often(prompts: int, disagreement: float) -> None:
    found = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        one = generator.integers(0, 2, prompts).astype(float)
        differs = generator.permutation(prompts) < round(disagreement * prompts)
        other = np.where(differs, 1 - one, one)
        sums = np.stack([np.stack([one, np.ones(prompts)], 1), np.stack([other, np.ones(prompts)], 1)])
        resampled = resample(sums, ratio, resamples=1000, seed=seed)
        smallest = smallest_detectable_difference(estimate(resampled, [0], [1], bounds=(-1.0, 1.0), is_share=True))
        assert smallest is not None
        found.append(smallest)
    assert detectable(share_standard_error(disagreement, prompts)) == pytest.approx(np.mean(found), rel=0.12)


def test_more_prompts_see_smaller_differences() -> None:
    assert detectable(share_standard_error(0.5, 32)) == pytest.approx(0.35, abs=0.01)
    assert detectable(share_standard_error(0.5, 3200)) == pytest.approx(0.035, abs=0.001)


@pytest.mark.parametrize("prompts", [1, 5, 25, 72, 400])
def test_the_bound_of_no_change_is_that_of_the_interval(prompts: int) -> None:
    sums = np.stack([np.zeros(prompts), np.ones(prompts)], 1)
    resampled = resample(np.stack([sums, sums]), ratio, resamples=100, seed=0)
    found = estimate(resampled, [0], [1], bounds=(-1.0, 1.0), is_share=True)
    assert found.high == pytest.approx(unchanged_bound(prompts))


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.05, 0.072, 0.1, 0.138, 0.15, 0.2, 0.3, 0.975, 0.999])
def test_so_many_prompts_meet_a_limit_and_one_less_does_not(limit: float) -> None:
    prompts = prompts_for(limit)
    assert prompts is not None
    assert unchanged_bound(prompts) <= limit + 1e-9
    assert prompts == 1 or unchanged_bound(prompts - 1) > limit


def test_no_number_of_prompts_shows_that_nothing_can_have_changed() -> None:
    assert prompts_for(0.0) is None
    assert prompts_for(1.0) == 1
