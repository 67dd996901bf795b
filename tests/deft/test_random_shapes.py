"""Over random shapes: layouts against one by one, R_d without logits against with them, losses against plain Python.

Numbers are drawn from a seeded generator; hypothesis chooses the shapes and the seed, so that a failure shrinks.
PRO's formula over random lists is in test_pro_loss.py.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.losses import dpo_loss, response_logps, sft_loss, with_reward_term
from deft.models.loading import decoder
from deft.packing import Pack, separate, shared
from deft.reward import Head, direction_of, response_rewards, reward_from_logits
from deft.scoring.scorer import score_examples
from deft.tokens import TokenizedExample
from tests.models import tiny_llama

CPU = torch.device("cpu")
END = 2
SIZE = 259
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama()


@st.composite
def batches(draw: Any, most: int = 4) -> list[TokenizedExample]:
    """Examples of 1 to 4 responses; ids equal to pad and end stand anywhere."""
    rng = np.random.default_rng(draw(seeds))

    def ids(longest: int) -> list[int]:
        return [
            int(token) for token in rng.integers(0, SIZE if rng.random() < 0.7 else 4, draw(st.integers(1, longest)))
        ]

    examples = []
    for _ in range(draw(st.integers(1, most))):
        count = draw(st.integers(1, 4))
        examples.append(
            TokenizedExample(ids(12), [ids(9) for _ in range(count)], [bool(rng.integers(2)) for _ in range(count)])
        )
    return examples


@st.composite
def heads(draw: Any) -> tuple[Head, Any, torch.Tensor, torch.Tensor]:
    """A head, a Q_diff, hidden states [P, D], and the response that each position belongs to."""
    size, width = draw(st.integers(2, 80)), draw(st.integers(1, 24))
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(draw(seeds))
    bias = torch.randn(size, generator=generator) if draw(st.booleans()) else None
    softcap = draw(st.sampled_from([None, 3.0, 30.0]))
    head = Head(torch.randn(size, width, generator=generator), bias, draw(st.sampled_from([1.0, 0.0625, 2.5])), softcap)
    q_diff = torch.randn(size, generator=generator, dtype=torch.float64).numpy() / size
    hidden = torch.randn(sum(lengths), width, generator=generator)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    order = torch.randperm(len(sequence), generator=generator)  # positions of one response need not be neighbours
    return head, q_diff - q_diff.mean(), hidden, sequence[order]


def alone(model: Any, example: TokenizedExample, index: int, end_id: int | None) -> torch.Tensor:
    """Hidden states at the positions that predict one response, in a plain pass of its own."""
    has_end = end_id is not None and not example.is_cut[index]
    targets = example.response_ids[index] + ([end_id] if has_end else [])
    states = decoder(model)(input_ids=torch.tensor([example.prompt_ids + targets]), use_cache=False).last_hidden_state[
        0
    ]
    return states[len(example.prompt_ids) - 1 : -1]


@settings(max_examples=25)
@given(batches(), st.sampled_from([None, END]))
@torch.no_grad()
def test_both_layouts_give_every_response_the_states_it_has_alone(
    model: Any, examples: list[TokenizedExample], end_id: int | None
) -> None:
    expected = [alone(model, each, k, end_id) for each in examples for k in range(len(each.response_ids))]
    packs: list[Pack] = [shared(examples, torch.float32, CPU, end_id=end_id), separate(examples, CPU, end_id=end_id)]
    for pack in packs:
        hidden = pack.hidden(model)
        assert pack.responses == len(expected)
        assert torch.bincount(pack.sequence, minlength=pack.responses).tolist() == [len(states) for states in expected]
        torch.testing.assert_close(hidden, torch.cat(expected), atol=1e-5, rtol=0)


@settings(max_examples=15)
@given(batches(6), st.integers(8, 120), st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_layout_budget_or_order(
    model: Any, examples: list[TokenizedExample], budget: int, random: Any
) -> None:
    rng = np.random.default_rng(0)
    q_diff = rng.normal(size=SIZE) / SIZE
    direction = direction_of(Head(model.lm_head.weight), q_diff - q_diff.mean())
    separately = [score_examples(model, [example], direction, share=False).r_d for example in examples]
    order = list(range(len(examples)))
    random.shuffle(order)
    for share in (True, False):
        found = score_examples(model, [examples[i] for i in order], direction, share=share, tokens_per_pass=budget)
        expected = np.concatenate([separately[i] for i in order])
        np.testing.assert_allclose(found.r_d, expected, rtol=0, atol=1e-5)


@settings(max_examples=60)
@given(heads())
def test_reward_without_logits_is_that_with_them(case: tuple[Head, Any, torch.Tensor, torch.Tensor]) -> None:
    head, q_diff, hidden, sequence = case
    count = int(sequence.max()) + 1
    ours = response_rewards(hidden, sequence, count, direction_of(head, q_diff))
    double = Head(head.weight.double(), None if head.bias is None else head.bias.double(), head.scale, head.softcap)
    for number in range(count):
        logits = double.weight @ hidden[sequence == number].double().T
        logits = (logits.T if double.bias is None else logits.T + double.bias) * double.scale
        logits = logits if double.softcap is None else double.softcap * torch.tanh(logits / double.softcap)
        theirs = reward_from_logits(logits, q_diff).item()
        assert ours[number].item() == pytest.approx(theirs, abs=1e-5 * max(1.0, float(logits.abs().max())))


@settings(max_examples=40)
@given(heads(), st.integers(1, 20), seeds)
def test_log_probabilities_in_chunks_and_their_gradient_are_the_plain_ones(
    case: tuple[Head, Any, torch.Tensor, torch.Tensor], chunk: int, seed: int
) -> None:
    head, _, hidden, _ = case
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(len(head.weight), (len(hidden),), generator=generator)
    weights = torch.randn(len(hidden), generator=generator)
    given_states = hidden.clone().requires_grad_()
    ours = response_logps(
        given_states, head.weight, targets, bias=head.bias, scale=head.scale, softcap=head.softcap,
        positions_per_chunk=chunk,
    )  # fmt: skip
    (by_ours,) = torch.autograd.grad(ours, given_states, weights)
    plain = torch.log_softmax(head.logits(given_states), -1)[torch.arange(len(hidden)), targets]
    (by_plain,) = torch.autograd.grad(plain, given_states, weights)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_ours, by_plain, atol=2e-5, rtol=1e-4)


values = st.floats(-80, 0, width=32)


@settings(max_examples=60)
@given(st.lists(st.tuples(values, values, values, values), min_size=1, max_size=9), st.floats(0.01, 2), st.data())
def test_dpo_of_any_cut_into_micro_batches_is_the_mean_of_the_formula(
    rows: list[tuple[float, ...]], beta: float, data: Any
) -> None:
    def formula(pc: float, pr: float, rc: float, rr: float) -> float:
        margin = beta * ((pc - rc) - (pr - rr))
        return math.log1p(math.exp(-margin)) if margin > 0 else math.log1p(math.exp(margin)) - margin

    columns = torch.tensor(rows).T
    at = data.draw(st.integers(0, len(rows)))
    parts = [part for part in (columns[:, :at], columns[:, at:]) if part.shape[1]]
    total = sum(dpo_loss(*part, beta=beta, examples_in_step=len(rows)).value.item() for part in parts)
    assert total == pytest.approx(sum(formula(*row) for row in rows) / len(rows), rel=1e-5, abs=1e-6)


@settings(max_examples=40)
@given(st.lists(st.lists(values, min_size=1, max_size=9), min_size=1, max_size=5), st.floats(0, 3), seeds)
def test_sft_with_the_term_is_the_formula(rows: list[list[float]], omega: float, seed: int) -> None:
    sequence = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(row) for row in rows]))
    logps = torch.tensor([value for row in rows for value in row])
    r_d = torch.randn(len(rows), generator=torch.Generator().manual_seed(seed))
    loss = with_reward_term(sft_loss(logps, sequence, len(rows)).value, r_d, omega)
    expected = -sum(map(sum, rows)) / sum(map(len, rows)) - omega * float(r_d.double().mean())
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
