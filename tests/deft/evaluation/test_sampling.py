import pytest
import torch

from deft.evaluation.sampling import in_nucleus, sampled, seed_of
from deft.specs import Sampling

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def test_draws_follow_the_probabilities() -> None:
    choose = sampled(Sampling(), range(4000))
    drawn = torch.bincount(choose(LOGITS.expand(4000, -1)), minlength=4) / 4000
    torch.testing.assert_close(drawn, LOGITS.exp(), atol=0.03, rtol=0)


def test_a_temperature_sharpens() -> None:
    drawn = sampled(Sampling(temperature=0.5), range(4000))(LOGITS.expand(4000, -1))
    expected = LOGITS.exp() ** 2 / (LOGITS.exp() ** 2).sum()
    torch.testing.assert_close(torch.bincount(drawn, minlength=4) / 4000, expected, atol=0.03, rtol=0)


def test_the_nucleus_keeps_the_likeliest_that_hold_the_share() -> None:
    kept = in_nucleus(LOGITS.expand(2, -1), 0.6).isfinite()
    assert kept.tolist() == [[True, True, False, False]] * 2
    assert in_nucleus(LOGITS[None], 0.01).isfinite().tolist() == [[True, False, False, False]]
    assert set(sampled(Sampling(top_p=0.6), range(200))(LOGITS.expand(200, -1)).tolist()) == {0, 1}


def test_a_rows_draws_depend_on_its_seed_alone() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together, alone = sampled(Sampling(), [4, 5, 6]), sampled(Sampling(), [5])
    for _ in range(5):
        assert together(logits)[1] == alone(logits[1:2])[0]


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "set", 1, 0, 0) == seed_of(0, "set", 1, 0, 0)
    assert seed_of(0, "set", 1, 0, 0) != seed_of(0, "set", 1, 1, 0)
    assert 0 <= seed_of("x") < 2**63


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_temperature_is_above_0(value: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        Sampling(temperature=value)
