"""The table of objectives over lists of any length: layouts, micro-batches, naive passes, row weights."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from deft.losses import with_reward_term
from deft.packing import separate, shared
from deft.reports import Silent
from deft.reward import direction_of, head_of
from deft.specs import DpoMethod, Lora, ProMethod, SftMethod
from deft.tokens import TokenizedExample
from deft.training.batches import with_responses
from deft.training.methods import criterion_of
from deft.training.objective import Objective, StepSize
from deft.training.omega import measure_omega
from deft.training.policy import attach_lora
from tests.models import tiny_llama

END = 2
PRO = ProMethod(sft_weight=0.01)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ids(generator: torch.Generator, length: int) -> list[int]:
    return torch.randint(2, 259, (length,), generator=generator).tolist()


def made(shapes: list[tuple[int, list[int]]]) -> list[TokenizedExample]:
    """Examples of (prompt tokens, tokens of each response); the last response of every other one is cut."""
    generator = torch.Generator().manual_seed(5)
    return [
        TokenizedExample(
            ids(generator, prompt),
            [ids(generator, length) for length in lengths],
            [False] * (len(lengths) - 1) + [number % 2 == 1],
        )
        for number, (prompt, lengths) in enumerate(shapes)
    ]


SHAPES = [(7, [4, 6]), (3, [1, 2, 5]), (12, [9, 1, 1, 3]), (1, [3, 3]), (5, [2, 8, 4, 4, 1]), (9, [5, 5, 2])]


@pytest.fixture(scope="module")
def examples() -> list[TokenizedExample]:
    return made(SHAPES)


@pytest.fixture(scope="module")
def q_diff() -> Any:
    values = np.random.default_rng(0).normal(size=259) / 100
    return values - values.mean()


@pytest.fixture(scope="module")
def model() -> Any:
    policy = attach_lora(tiny_llama(1), Lora(r=4), seed=3)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:  # an adapter that does something
                parameter.normal_(0, 0.1, generator=generator)
    return policy


def objective_of(model: Any, examples: list[TokenizedExample], q_diff: Any, method: Any = PRO, **fields: Any) -> Any:
    picked = [with_responses(e, criterion_of(method).picks(method, len(e.response_ids))) for e in examples]
    head = head_of(model)
    options = {"shares_prompts": True, "micro_batch_size": 1, **fields}
    made = Objective(method, picked, END, head=head, direction=direction_of(head, q_diff), **options)
    made.reference = torch.linspace(-30, -10, 2 * len(examples)).view(-1, 2)
    made.rewards = [[float(n - k) ** 1.5 for k in range(n)] for n in (len(e.response_ids) for e in picked)]
    return made


def gradients(model: Any, objective: Objective, step: list[int], omega: float) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    size, total = objective.size_of(step), 0.0
    for indices in objective.micro_batches(step):
        parts = objective.parts(model, indices, size)
        loss = with_reward_term(parts.base, parts.r_d, omega, examples_in_step=size.examples, weights=parts.weights)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    difference, size = (
        sum((one[name] - sign * other[name]).double().square().sum().item() for name in one) for sign in (1, 0)
    )
    return float((difference / size) ** 0.5)


def naive_logp(model: Any, example: TokenizedExample, response: int) -> tuple[Tensor, int]:
    """Sum of log-probabilities of one response and its end token, alone in a plain forward pass, and its positions."""
    tokens = example.prompt_ids + example.response_ids[response] + [END] * (not example.is_cut[response])
    logps = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
    positions = range(len(example.prompt_ids), len(tokens))
    return torch.stack([logps[at - 1, tokens[at]] for at in positions]).sum(), len(positions)


def naive_pro(model: Any, example: TokenizedExample, rewards: list[float], w: float) -> Tensor:
    """M8 with a plain forward pass a response."""
    found = [naive_logp(model, example, k) for k in range(len(rewards))]
    s = [logp / positions for logp, positions in found]
    total = -w * (len(s) - 1) ** 2 * found[0][0]
    for k in range(len(s) - 1):
        gaps = [rewards[k] - r for r in rewards[k + 1 :]]
        own = torch.exp(s[k] * max(gaps))
        others = sum(torch.exp(other * gap) for other, gap in zip(s[k + 1 :], gaps, strict=True))
        total = total - torch.log(own / (own + others))
    return total


def naive_r_d(model: Any, example: TokenizedExample, q_diff: Any) -> Tensor:
    own = example.response_ids[0]
    logps = model(input_ids=torch.tensor([example.prompt_ids + own])).logits[0].log_softmax(-1)
    at = slice(len(example.prompt_ids) - 1, len(example.prompt_ids) - 1 + len(own))
    return logps[at].mean(0) @ torch.from_numpy(q_diff).float()


def test_pro_with_the_term_equals_naive_passes_in_value_and_gradient(
    model: Any, examples: list[TokenizedExample], q_diff: Any
) -> None:
    objective = objective_of(model, examples, q_diff, micro_batch_size=3)
    loss, found = gradients(model, objective, list(range(6)), 0.7)
    model.zero_grad()
    naive = [
        naive_pro(model, e, r, PRO.sft_weight) - 0.7 * naive_r_d(model, e, q_diff)
        for e, r in zip(examples, objective.rewards, strict=True)
    ]
    expected = torch.stack(naive).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert distance({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, found) < 1e-5


@pytest.mark.parametrize("method", [PRO, DpoMethod(), SftMethod()])
@pytest.mark.parametrize("weights", [None, [1.0, 0.25, 3.0, 1.0, 0.5, 2.0]])
def test_micro_batches_and_layouts_do_not_change_the_gradient_of_a_step(
    model: Any, examples: list[TokenizedExample], q_diff: Any, method: Any, weights: Any
) -> None:
    step, runs = [4, 1, 0, 2, 3, 5], []
    for shares, size in ((True, 1), (True, 4), (True, None), (False, 1), (False, 6)):
        objective = objective_of(
            model, examples, q_diff, method, shares_prompts=shares, micro_batch_size=size, weights=weights
        )
        runs.append(gradients(model, objective, step, 2.0))
    (loss, first), *others = runs
    for other, grads in others:
        assert other == pytest.approx(loss, rel=1e-5)
        assert distance(first, grads) < 2e-5  # float32 rounding


@pytest.mark.parametrize("method", [PRO, DpoMethod(), SftMethod()])
def test_a_row_of_weight_2_counts_as_the_row_twice(
    model: Any, examples: list[TokenizedExample], q_diff: Any, method: Any
) -> None:
    weighted = objective_of(model, examples, q_diff, method, weights=[1.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    plain = objective_of(model, examples, q_diff, method)
    loss, grads = gradients(model, weighted, [0, 1, 2], 2.0)
    twice, both = gradients(model, plain, [0, 1, 1, 2], 2.0)
    assert loss == pytest.approx(twice, rel=1e-6)
    assert distance(both, grads) < 1e-5


def test_omega_is_measured_with_the_weights(model: Any, examples: list[TokenizedExample], q_diff: Any) -> None:
    weighted = objective_of(model, examples, q_diff, weights=[1.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    plain = objective_of(model, examples, q_diff)
    found = measure_omega(model, weighted, [[0, 1, 2], [3, 4]], report=Silent())
    twice = measure_omega(model, plain, [[0, 1, 1, 2], [3, 4]], report=Silent())
    without = measure_omega(model, plain, [[0, 1, 2], [3, 4]], report=Silent())
    assert found.omega == pytest.approx(twice.omega, rel=1e-5)
    assert found.term_gradient_norm == pytest.approx(twice.term_gradient_norm, rel=1e-5)
    assert abs(without.omega / found.omega - 1) > 1e-3


def test_weights_of_one_give_the_bits_of_no_weights(model: Any, examples: list[TokenizedExample], q_diff: Any) -> None:
    for method in (PRO, DpoMethod(), SftMethod()):
        plain = gradients(model, objective_of(model, examples, q_diff, method), [0, 2, 4], 2.0)
        ones = gradients(model, objective_of(model, examples, q_diff, method, weights=[1.0] * 6), [0, 2, 4], 2.0)
        assert ones[0] == plain[0]
        assert all(torch.equal(ones[1][name], plain[1][name]) for name in plain[1]), method.type


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 7), min_size=2, max_size=6)), min_size=1, max_size=4)
)
def test_lists_of_any_shape_give_the_same_losses_with_their_prompt_shared_and_apart(
    model: Any, q_diff: Any, shapes: list[tuple[int, list[int]]]
) -> None:
    examples = made(shapes)
    weight = next(model.parameters())
    with torch.no_grad():
        together = shared(examples, weight.dtype, weight.device, end_id=END)
        apart = separate(examples, weight.device, end_id=END)
        torch.testing.assert_close(together.hidden(model), apart.hidden(model), atol=1e-5, rtol=1e-5)
        facts = []
        for shares in (True, False):
            objective = objective_of(model, examples, q_diff, shares_prompts=shares)
            facts.append(objective.parts(model, range(len(examples)), StepSize(len(examples), 1)).facts)
    for name, values in facts[0].items():
        torch.testing.assert_close(values, facts[1][name], atol=1e-4, rtol=1e-5, msg=name)


def test_the_metrics_of_pro_are_those_of_its_scores(model: Any, examples: list[TokenizedExample], q_diff: Any) -> None:
    objective = objective_of(model, examples, q_diff)
    with torch.no_grad():
        facts = objective.parts(model, [4], StepSize(1, 1)).facts
        logps, positions = zip(*(naive_logp(model, examples[4], k) for k in range(5)), strict=True)
    s = [logp.item() / n for logp, n in zip(logps, positions, strict=True)]
    right = [s[k] > s[i] for k in range(5) for i in range(k + 1, 5)]
    assert facts["rewards/chosen"].item() == pytest.approx(s[0], abs=1e-4)
    assert facts["rewards/rejected"].item() == pytest.approx(sum(s[1:]) / 4, abs=1e-4)
    assert facts["rewards/margins"].item() == pytest.approx(s[0] - sum(s[1:]) / 4, abs=1e-4)
    assert facts["rewards/accuracies"].item() == pytest.approx(sum(right) / 10)
    assert facts["logps/rejected"].item() == pytest.approx(sum(x.item() for x in logps[1:]) / 4, abs=1e-3)
    assert facts["deft/sft_loss"].item() == pytest.approx(-0.01 * 16 * logps[0].item(), rel=1e-5)


def test_dpo_sets_the_best_against_the_last_or_the_second() -> None:
    assert [criterion_of(DpoMethod()).picks(DpoMethod(), n) for n in (2, 5)] == [[0, 1], [0, 4]]
    second = DpoMethod(rejected="second")
    assert [criterion_of(second).picks(second, n) for n in (2, 5)] == [[0, 1], [0, 1]]
    assert criterion_of(SftMethod()).picks(SftMethod(), 3) == [0]
    assert criterion_of(PRO).picks(PRO, 3) == [0, 1, 2]
