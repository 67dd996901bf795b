"""M8 against the formula written naively, hand-picked numbers, its two-response form, and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.losses import pro_loss

LISTS = st.lists(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(
            st.lists(st.floats(-12, -0.01), min_size=n, max_size=n),  # s
            st.lists(st.integers(1, 60), min_size=n, max_size=n),  # positions
            st.lists(st.floats(-4, 4), min_size=n, max_size=n).map(lambda r: sorted(r, reverse=True)),
        )
    ),
    min_size=1,
    max_size=4,
)


def padded(lists: list[list[float]], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    longest = max(map(len, lists))
    return torch.tensor([[*one, *[0] * (longest - len(one))] for one in lists], dtype=dtype)


def naive(s: list[float], rewards: list[float]) -> float:
    """Sum over k of M8's L_k, as it is written, in Python floats."""
    total = 0.0
    for k in range(len(s) - 1):
        gaps = [rewards[k] - rewards[i] for i in range(k + 1, len(s))]
        own = math.exp(s[k] * max(gaps))
        total -= math.log(own / (own + sum(math.exp(s[k + 1 + j] * gap) for j, gap in enumerate(gaps))))
    return total


def test_two_responses_are_the_hand_computed_number() -> None:
    """s = (-2/2, -9/3) = (-1, -3), gap 1.5 - 0.5 = 1: the ranking is log(1 + e^(-3 - -1)) = log(1 + e^-2) = 0.12692801.

    The SFT term is 0.05 * (2-1)^2 * 2 = 0.1.
    """
    loss = pro_loss(torch.tensor([[-2.0, -9.0]]), torch.tensor([[2, 3]]), torch.tensor([[1.5, 0.5]]))
    assert loss.value.item() == pytest.approx(0.22692801, abs=1e-7)
    facts = {name: value.item() for name, value in loss.per_example.items()}
    assert facts["ranking_loss"] == pytest.approx(0.12692801, abs=1e-7)
    assert facts["sft_loss"] == pytest.approx(0.1, abs=1e-7)
    assert (facts["reward_chosen"], facts["reward_rejected"], facts["margin"], facts["accuracy"]) == (-1, -3, 2, 1)


def test_three_responses_are_the_hand_computed_number() -> None:
    """s = (-1, -2, -3), rewards (3, 2, 0), so T_12 = 1, T_13 = 3 = T_11 and T_23 = 2 = T_22.

    L_1 = -log( e^(-1*3) / (e^(-1*3) + e^(-2*1) + e^(-3*3)) ) = log(1 + e^1 + e^-6) = 1.31392802
    L_2 = -log( e^(-2*2) / (e^(-2*2) + e^(-3*2)) ) = log(1 + e^-2) = 0.12692801
    SFT: 0.1 * (3-1)^2 * 4 = 1.6 with NLL(y_1) = 4 over its 4 positions.
    """
    logps, positions = torch.tensor([[-4.0, -2.0, -6.0]]), torch.tensor([[4, 1, 2]])
    loss = pro_loss(logps, positions, torch.tensor([[3.0, 2.0, 0.0]]), sft_weight=0.1)
    assert loss.per_example["ranking_loss"].item() == pytest.approx(1.31392802 + 0.12692801, abs=1e-6)
    assert loss.per_example["sft_loss"].item() == pytest.approx(1.6, abs=1e-6)
    assert loss.per_example["reward_rejected"].item() == -2.5


@settings(max_examples=60, deadline=None)
@given(LISTS, st.floats(0, 1))
def test_any_lists_together_give_the_naive_formula_of_each(lists: list[tuple[list[float], ...]], w: float) -> None:
    positions = [n for _, n, _ in lists]
    logps = [[a * b for a, b in zip(s, n, strict=True)] for s, n, _ in lists]
    rewards = padded([r for _, _, r in lists])
    loss = pro_loss(padded(logps), padded(positions, torch.int64), rewards, sft_weight=w)
    for at, (_, n, _) in enumerate(lists):
        own = padded(logps)[at].tolist()  # what float32 made of them
        expected = naive([a / b for a, b in zip(own, n, strict=False)], rewards[at].tolist()[: len(n)])
        assert loss.per_example["ranking_loss"][at].item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        sft = -w * (len(n) - 1) ** 2 * own[0]
        assert loss.per_example["sft_loss"][at].item() == pytest.approx(sft, rel=1e-6, abs=1e-6)
    mean = sum(loss.per_example["loss"].tolist()) / len(lists)
    assert loss.value.item() == pytest.approx(mean, rel=1e-6)


def test_for_two_responses_it_is_the_softplus_form() -> None:
    torch.manual_seed(0)
    logps, positions = -torch.rand(50, 2) * 200, torch.randint(1, 80, (50, 2))
    rewards = torch.randn(50, 2).sort(dim=1, descending=True).values
    s = logps.double() / positions
    gap = rewards[:, 0].double() - rewards[:, 1].double()
    expected = torch.nn.functional.softplus(-gap * (s[:, 0] - s[:, 1])) - 0.05 * logps[:, 0].double()
    found = pro_loss(logps, positions, rewards).per_example["loss"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_tie_gives_log_2_and_no_gradient() -> None:
    logps = torch.tensor([[-3.0, -50.0]], requires_grad=True)
    loss = pro_loss(logps, torch.tensor([[3, 5]]), torch.tensor([[0.7, 0.7]]), sft_weight=0)
    (gradient,) = torch.autograd.grad(loss.value, logps)
    assert loss.value.item() == pytest.approx(math.log(2), abs=1e-7)
    assert gradient.tolist() == [[0, 0]]
    assert loss.per_example["accuracy"].item() == 0.5


def test_nothing_overflows_and_the_gradient_of_a_hopeless_order_is_the_gap() -> None:
    """s = (-9, -1), gap 1000: exp(-9000) is 0 in every format, yet L = 8000 and dL/ds = (-1000, +1000)."""
    logps = torch.tensor([[-9.0, -1.0], [-1.0, -9.0]], requires_grad=True)
    rewards = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    loss = pro_loss(logps, torch.ones(2, 2, dtype=torch.int64), rewards, sft_weight=0)
    (gradient,) = torch.autograd.grad(loss.value, logps)
    assert loss.per_example["ranking_loss"].tolist() == [8000, 0]
    assert gradient.tolist() == [[-500, 500], [0, 0]]  # halves: the mean of two examples


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(1)
    positions = torch.tensor([[3, 1, 7, 2], [5, 4, 0, 0], [1, 1, 1, 0]])
    logps = (-torch.rand(3, 4, dtype=torch.float64) * 8).requires_grad_()
    rewards = torch.randn(3, 4, dtype=torch.float64).sort(dim=1, descending=True).values
    assert torch.autograd.gradcheck(lambda x: pro_loss(x, positions, rewards, sft_weight=0.3).value, (logps,))
    (gradient,) = torch.autograd.grad(pro_loss(logps, positions, rewards).value, logps)
    assert gradient[positions == 0].tolist() == [0, 0, 0]
    assert (gradient[:, 0] < 0).all()


def test_a_single_response_is_no_list() -> None:
    with pytest.raises(ValueError, match="two responses"):
        pro_loss(torch.tensor([[-1.0]]), torch.tensor([[1]]), torch.tensor([[0.0]]))


def test_lists_of_several_lengths_do_not_know_of_each_other() -> None:
    torch.manual_seed(2)
    logps, rewards = -torch.rand(2, 5) * 9, torch.randn(2, 5).sort(dim=1, descending=True).values
    positions = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]])
    together = pro_loss(logps, positions, rewards)
    alone = pro_loss(logps[1:, :2], positions[1:, :2], rewards[1:, :2])
    for name, value in together.per_example.items():
        assert value[1].item() == pytest.approx(alone.per_example[name].item(), rel=1e-6), name


def test_accuracy_counts_pairs_of_the_list() -> None:
    """Rewards 3, 1, 1: the pair of equal ones counts 1/2; s = (-2, -1, -3) orders (1, 2) wrongly and (1, 3) rightly."""
    loss = pro_loss(torch.tensor([[-2.0, -1.0, -3.0]]), torch.ones(1, 3).long(), torch.tensor([[3.0, 1.0, 1.0]]))
    assert loss.per_example["accuracy"].item() == pytest.approx((0 + 1 + 0.5) / 3)


def test_micro_batches_and_row_weights_add_up_to_the_weighted_mean_of_the_step() -> None:
    torch.manual_seed(3)
    logps, positions = -torch.rand(5, 3) * 9, torch.randint(1, 9, (5, 3))
    rewards, weights = torch.randn(5, 3).sort(dim=1, descending=True).values, torch.tensor([1.0, 0.5, 4.0, 2.0, 1.0])
    each = pro_loss(logps, positions, rewards).per_example["loss"]
    expected = (each * weights).sum() / 8.5
    assert pro_loss(logps, positions, rewards, weights=weights).value.item() == pytest.approx(expected.item())
    parts = [
        pro_loss(logps[s], positions[s], rewards[s], examples_in_step=8.5, weights=weights[s]).value
        for s in (slice(0, 2), slice(2, 5))
    ]
    assert sum(parts).item() == pytest.approx(expected.item())
