"""M4-M5: by hand, against naive full-logit log-softmax on tiny models of every known head, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from deft.errors import ModelNotUsable
from deft.models.loading import decoder
from deft.reward import (
    Head,
    direction_of,
    distribution_reward,
    head_direction,
    head_of,
    response_rewards,
    reward_from_logits,
)
from tests.families import FAMILIES, tiny
from tests.models import tiny_llama

V = 40  # of tests.families


def q_diff(size: int = V, seed: int = 0) -> NDArray[np.float64]:
    vector = np.random.default_rng(seed).normal(size=size)
    vector = vector / np.abs(vector).sum()
    return vector - vector.mean()


def test_reward_by_hand() -> None:
    """W = [[1, 0], [0, 1], [0, 0]], Q_diff = [1/2, -1/4, -1/4]: u = W^T Q = [1/2, -1/4].

    Hidden states [2, 0] and [0, 4] have the mean [1, 2]: R_d = 1/2 * 1 - 1/4 * 2 = 0.
    With b = [1, 0, 0] R_d is 0 + 1/2, and with logits times 3 it is 3 * (0 + 1/2) = 1.5.
    """
    weight, q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([0.5, -0.25, -0.25])
    hidden = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    plain = direction_of(Head(weight), q)
    assert plain.u.tolist() == [0.5, -0.25]
    assert distribution_reward(hidden.mean(0), plain).item() == 0.0
    bias = direction_of(Head(weight, torch.tensor([1.0, 0.0, 0.0])), q)
    assert distribution_reward(hidden.mean(0), bias).item() == 0.5
    scaled = direction_of(Head(weight, torch.tensor([1.0, 0.0, 0.0]), scale=3.0), q)
    assert distribution_reward(hidden.mean(0), scaled).item() == 1.5


def test_reward_from_logits_by_hand() -> None:
    """Probabilities (1/2, 1/2) and (1/4, 3/4): lbar = (ln(1/8)/2, ln(3/8)/2); with Q = (1/2, -1/2) R_d = -ln(3)/4."""
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    assert reward_from_logits(logits, np.array([0.5, -0.5])).item() == pytest.approx(-math.log(3) / 4, abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_reward_without_softmax_is_that_of_the_models_own_full_logits(family: str) -> None:
    model, q = tiny(family), q_diff()
    ids = torch.randint(1, V, (1, 20))
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, 4:15]
        hidden = decoder(model)(input_ids=ids).last_hidden_state[0, 4:15]
    logp = torch.log_softmax(logits.float(), -1)
    naive = sum(float(q[v]) * float(logp[:, v].mean()) for v in range(V))
    direction = head_direction(model, q)
    ours = response_rewards(hidden, torch.zeros(11, dtype=torch.int64), 1, direction).item()
    assert head_of(model).kind == FAMILIES[family][2]
    assert ours == pytest.approx(naive, abs=1e-6 * max(1, float(logits.abs().max())))
    assert abs(naive) > 1e-3
    assert reward_from_logits(logits, q).item() == pytest.approx(naive, abs=1e-6)


def test_reward_of_several_responses_at_once() -> None:
    model, q = tiny_llama(vocabulary_size=V), q_diff()
    direction, hidden = head_direction(model, q), torch.randn(5, 32)
    both = response_rewards(hidden, torch.tensor([0, 1, 0, 1, 1]), 2, direction)
    assert both[0].item() == pytest.approx(distribution_reward(hidden[[0, 2]].mean(0), direction).item(), abs=1e-6)
    assert both[1].item() == pytest.approx(distribution_reward(hidden[[1, 3, 4]].mean(0), direction).item(), abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gradient_of_the_reward_is_its_finite_difference(family: str) -> None:
    model, q = tiny(family).double(), q_diff()
    head = head_of(model)
    direction = direction_of(head, q)
    sequence = torch.tensor([0, 0, 0])
    hidden = torch.randn(3, 32, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(response_rewards(hidden, sequence, 1, direction).sum(), hidden)
    step = torch.zeros_like(hidden)
    step[1, 7] = 1e-2
    with torch.no_grad():
        high, low = (reward_from_logits(head.logits(hidden + s), q).item() for s in (step, -step))
    assert gradient[1, 7].item() == pytest.approx((high - low) / 2e-2, abs=1e-4)
    assert abs(gradient[1, 7].item()) > 1e-3


def test_gradient_through_the_whole_model_is_the_finite_difference_of_full_logits() -> None:
    """Along a random direction of all LoRA weights: float32 and no logits against float64, logits and differences."""
    model = get_peft_model(
        tiny("llama"), LoraConfig(r=2, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False)
    )
    q, ids = q_diff(), torch.randint(1, V, (1, 20), generator=torch.Generator().manual_seed(1))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    hidden = decoder(model)(input_ids=ids).last_hidden_state[0, 4:-1]
    r_d = response_rewards(hidden, torch.zeros(15, dtype=torch.int64), 1, head_direction(model, q))
    gradients = torch.autograd.grad(r_d.sum(), weights)
    generator = torch.Generator().manual_seed(2)
    ways = [torch.randn(weight.shape, generator=generator) for weight in weights]
    ours = sum(float((gradient * way).sum()) for gradient, way in zip(gradients, ways, strict=True))
    model.double()

    def moved(step: float) -> float:
        with torch.no_grad():
            for weight, way in zip(weights, ways, strict=True):
                weight.add_(way, alpha=step)
            return reward_from_logits(model(input_ids=ids).logits[0, 4:-1], q).item()

    high, low = moved(1e-4), moved(-2e-4)
    assert ours == pytest.approx((high - low) / 2e-4, rel=1e-3)
    assert abs(ours) > 1e-3


def test_the_adapter_counts_when_it_is_not_on_the_head() -> None:
    model = get_peft_model(
        tiny_llama(vocabulary_size=V), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    assert head_of(model).kind == "plain"
    ids = torch.randint(V, (1, 9))
    with torch.no_grad():
        active = decoder(model)(input_ids=ids).last_hidden_state
        with model.disable_adapter():
            assert not torch.allclose(active, decoder(model)(input_ids=ids).last_hidden_state)


def test_an_adapter_on_the_head_is_refused() -> None:
    model = get_peft_model(tiny_llama(vocabulary_size=V), LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ModelNotUsable, match="adapter on its head"):
        head_of(model)


def test_a_head_that_does_something_unknown_is_refused() -> None:
    model = tiny_llama(vocabulary_size=V)
    inner = model.forward

    def forward(*args: Any, **options: Any) -> Any:
        out = inner(*args, **options)
        out.logits = out.logits * 1.01
        return out

    model.forward = forward
    with pytest.raises(ModelNotUsable, match="as known"):
        head_of(model)


def test_a_model_that_sees_later_tokens_is_refused_as_not_causal() -> None:
    settings = {"vocab_size": V, "d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 64}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("xlnet", **settings))
    with pytest.raises(ModelNotUsable, match="later tokens") as refused:
        head_of(model)
    assert refused.value.findings[0].code == "not_causal"


def test_another_vocabulary_size_is_refused() -> None:
    with pytest.raises(ModelNotUsable, match="41"):
        head_direction(tiny_llama(vocabulary_size=V), q_diff(V + 1))


def test_a_rounded_q_diff_is_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        head_direction(tiny_llama(vocabulary_size=V), q_diff().astype(np.float32))
