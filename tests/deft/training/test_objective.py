"""One forward pass against naive ones: layouts, micro-batches, end tokens, the reward and the reference."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deft.losses import with_reward_term
from deft.reward import direction_of, head_of
from deft.specs import DpoMethod, Lora, SftMethod
from deft.tokens import TokenizedExample
from deft.training.batches import with_responses
from deft.training.methods import StepSize
from deft.training.objective import Objective, reference_logps
from deft.training.policy import attach_lora
from tests.models import tiny_llama

END = 2
BETA = 0.3


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ids(generator: torch.Generator, length: int) -> list[int]:
    return torch.randint(3, 259, (length,), generator=generator).tolist()


@pytest.fixture(scope="module")
def examples() -> list[TokenizedExample]:
    generator = torch.Generator().manual_seed(5)
    lengths = [(7, 4, 6), (3, 1, 2), (12, 9, 1), (1, 3, 3), (5, 2, 8), (9, 5, 5), (2, 7, 4), (6, 1, 1)]
    made = []
    for prompt, chosen, rejected in lengths:
        # ids equal to pad and end stand inside the responses too: masks must not come from ids
        responses = [[END, *ids(generator, chosen - 1)], ids(generator, rejected)]
        made.append(TokenizedExample(ids(generator, prompt), responses, [False, prompt == 9]))
    return made


@pytest.fixture(scope="module")
def q_diff() -> Any:
    values = np.random.default_rng(0).normal(size=259) / 100
    return values - values.mean()


@pytest.fixture
def model() -> Any:
    policy = attach_lora(tiny_llama(1), Lora(r=4), seed=3)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:  # an adapter that does something
                parameter.normal_(0, 0.1, generator=generator)
    return policy


def objective_for(
    model: Any,
    examples: list[TokenizedExample],
    q_diff: Any,
    *,
    shares: bool = True,
    size: int | None = 1,
    method: Any = None,
) -> Objective:
    head = head_of(model)
    made = Objective(method or DpoMethod(beta=BETA), examples, END, shares, size, head, direction_of(head, q_diff))
    with model.disable_adapter():
        made.reference = torch.tensor([[naive_logp(model, e, k) for k in (0, 1)] for e in examples])
    return made


@torch.no_grad()
def naive_logp(model: Any, example: TokenizedExample, response: int) -> float:
    """Sum of log-probabilities of one response, alone in a plain forward pass with all logits."""
    tokens = example.prompt_ids + example.response_ids[response] + [END] * (not example.is_cut[response])
    logps = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return sum(logps[at - 1, tokens[at]].item() for at in range(len(example.prompt_ids), len(tokens)))


@torch.no_grad()
def naive_r_d(model: Any, example: TokenizedExample, q_diff: Any) -> float:
    """M5 over the chosen response's own tokens, by all logits."""
    own = example.response_ids[0]
    logps = model(input_ids=torch.tensor([example.prompt_ids + own])).logits[0].double().log_softmax(-1)
    at = slice(len(example.prompt_ids) - 1, len(example.prompt_ids) - 1 + len(own))
    return float(logps[at].mean(0) @ torch.from_numpy(q_diff))


def gradients(model: Any, objective: Objective, step: list[int], omega: float) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    size, total = objective.size_of(step), 0.0
    for indices in objective.micro_batches(step):
        parts = objective.parts(model, indices, size)
        loss = with_reward_term(parts.base, parts.r_d, omega, examples_in_step=size.examples)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_dpo_and_the_term_equal_naive_passes(
    model: Any, examples: list[TokenizedExample], q_diff: Any, shares: bool, size: int
) -> None:
    objective = objective_for(model, examples, q_diff, shares=shares, size=size)
    step = list(range(8))
    found: dict[str, float] = {}
    for indices in objective.micro_batches(step):
        facts = objective.parts(model, indices, StepSize(8, 1)).facts
        for name, values in facts.items():
            assert values.shape == (len(indices),)
            found |= {f"{name}/{index}": value.item() for index, value in zip(indices, values, strict=True)}
    for index, example in enumerate(examples):
        chosen, rejected = (naive_logp(model, example, k) for k in (0, 1))
        before = objective.reference[index]  # type: ignore[index]
        margin = BETA * ((chosen - before[0].item()) - (rejected - before[1].item()))
        assert found[f"logps/chosen/{index}"] == pytest.approx(chosen, abs=2e-4)
        assert found[f"logps/rejected/{index}"] == pytest.approx(rejected, abs=2e-4)
        assert found[f"rewards/margins/{index}"] == pytest.approx(margin, abs=2e-4)
        assert found[f"deft/r_d/{index}"] == pytest.approx(naive_r_d(model, example, q_diff), abs=1e-6)


@pytest.mark.parametrize("method", [DpoMethod(), SftMethod()])
@pytest.mark.parametrize("omega", [0.0, 2.0])
def test_gradients_do_not_depend_on_the_micro_batches(
    model: Any, examples: list[TokenizedExample], q_diff: Any, method: Any, omega: float
) -> None:
    if isinstance(method, SftMethod):
        examples = [with_responses(e, [0]) for e in examples]
    step = [4, 1, 7, 0, 2, 6, 3, 5]
    reference = torch.tensor([[naive_logp(model, e, k) + k for k in range(len(e.response_ids))] for e in examples])
    runs = []
    for size in (1, 2, 8, None):
        objective = Objective(method, examples, END, False, size, head_of(model), direction_of(head_of(model), q_diff))
        objective.reference = reference
        runs.append(gradients(model, objective, step, omega))
    (loss, first), *others = runs
    for other, grads in others:
        assert other == pytest.approx(loss, rel=1e-6)
        assert norm_of({name: grads[name] - first[name] for name in first}) <= 3e-6 * norm_of(first)  # float32 rounding


def norm_of(gradients: dict[str, Tensor]) -> float:
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients.values()))


def test_sft_is_the_sum_over_tokens_by_their_number_in_the_step(
    model: Any, examples: list[TokenizedExample], q_diff: Any
) -> None:
    single = [with_responses(e, [0]) for e in examples]
    objective = Objective(SftMethod(), single, END, False, 3, head_of(model), direction_of(head_of(model), q_diff))
    loss, _ = gradients(model, objective, [0, 1, 2, 3, 4], 0.0)
    tokens = sum(len(e.response_ids[0]) + 1 for e in single[:5])
    assert loss == pytest.approx(-sum(naive_logp(model, e, 0) for e in single[:5]) / tokens, abs=1e-5)


def test_at_step_zero_the_dpo_loss_is_ln_2_in_every_layout(examples: list[TokenizedExample], q_diff: Any) -> None:
    model = attach_lora(tiny_llama(1), Lora(r=4, dropout=0.3), seed=3).train()
    for shares, size in ((True, 1), (True, 4), (False, 3)):
        objective = Objective(DpoMethod(), examples, END, shares, size, head_of(model))
        steps = [[3, 1, 0, 2], [5, 4, 7, 6]]
        objective.reference = reference_logps(
            objective, model, steps, reference=model.disable_adapter, after_each=lambda _: None
        )
        model.train()
        for step in steps:
            for indices in objective.micro_batches(step):
                loss = objective.parts(model, indices, StepSize(len(indices), 1)).base
                assert loss.item() == pytest.approx(math.log(2), abs=1e-7)
                assert objective.parts(model, indices, StepSize(1, 1)).facts["rewards/margins"].abs().max() == 0


def test_the_end_token_is_trained_and_has_no_part_in_the_reward(
    model: Any, examples: list[TokenizedExample], q_diff: Any
) -> None:
    example = examples[0]
    without = TokenizedExample(example.prompt_ids, example.response_ids, [True, True])
    objective = objective_for(model, [example, without], q_diff)
    facts = [objective.parts(model, [index], StepSize(1, 1)).facts for index in (0, 1)]
    tokens = [*example.prompt_ids, *example.response_ids[0], END]
    with torch.no_grad():
        end = model(input_ids=torch.tensor([tokens])).logits[0, -2].log_softmax(-1)[END].item()
    difference = facts[0]["logps/chosen"] - facts[1]["logps/chosen"]
    assert difference.item() == pytest.approx(end, abs=1e-4)
    assert facts[0]["deft/r_d"].item() == pytest.approx(facts[1]["deft/r_d"].item(), abs=1e-6)


def test_the_gradient_of_the_term_is_that_of_a_full_computation(
    model: Any, examples: list[TokenizedExample], q_diff: Any
) -> None:
    objective = objective_for(model, examples, q_diff)
    _, plain = gradients(model, objective, [0], 0.0)
    _, both = gradients(model, objective, [0], 1.0)
    model.zero_grad()
    example = examples[0]
    own = example.response_ids[0]
    logps = model(input_ids=torch.tensor([example.prompt_ids + own])).logits[0].log_softmax(-1)
    at = slice(len(example.prompt_ids) - 1, len(example.prompt_ids) - 1 + len(own))
    (logps[at].mean(0) @ torch.from_numpy(q_diff).float()).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(plain[name] - both[name], parameter.grad, atol=1e-6), name
