"""The smallest detectable difference of a plan is about what the evaluation then reports."""

import numpy as np
import pytest

from deft.evaluation.intervals import estimate, ratio, resample, smallest_detectable_difference
from deft.planning.power import detectable, share_standard_error


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
