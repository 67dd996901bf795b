"""Which attention is chosen, that flex attention sees what the dense mask says, and that a wrong one is found out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.attention.flex_attention as flex
import transformers.integrations.flex_attention as in_transformers
from transformers import AttentionInterface, AttentionMaskInterface, Gemma2Config, Gemma2ForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from deft.errors import InvalidInput
from deft.models.attention import FLASH, FLEX, Asked, Machine, attention_for, attention_of, set_attention
from deft.packing import Pack, shared
from tests.deft import small_runs
from tests.deft.test_packing import EXAMPLES, naive
from tests.models import tiny_llama

CPU = torch.device("cpu")
AMPERE = Machine("cuda", (8, 0), has_flash=True)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let flex attention run without a compiler, as it does on a CPU, forward only."""
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)

    def plain(*tensors: Any, training: bool = False, **options: Any) -> Any:
        del training
        return flex.flex_attention(*tensors, **options)

    monkeypatch.setattr(in_transformers, "compile_friendly_flex_attention", plain)


@pytest.mark.parametrize(
    ("asked", "machine", "expected"),
    [
        ("auto", AMPERE, "sdpa"),
        ("sdpa", AMPERE, "sdpa"),
        ("auto", Machine("cpu"), "sdpa"),
        ("flex", Machine("cuda", (7, 5)), FLEX),
        ("flash", AMPERE, FLASH),
    ],
)
def test_what_is_chosen(asked: Asked, machine: Machine, expected: str) -> None:
    assert attention_for(asked, "sdpa", torch.bfloat16, machine) == expected


@pytest.mark.parametrize(
    ("asked", "dtype", "machine", "found"),
    [
        ("flex", torch.bfloat16, Machine("cpu"), "kind cpu"),
        ("flash", torch.bfloat16, Machine("cpu", has_flash=True), "kind cpu"),
        ("flash", torch.bfloat16, Machine("cuda", (9, 0)), "not installed"),
        ("flash", torch.float16, Machine("cuda", (7, 5), has_flash=True), r"capability \(7, 5\)"),
        ("flash", torch.float32, AMPERE, "float32"),
    ],
)
def test_what_is_refused(asked: Asked, dtype: torch.dtype, machine: Machine, found: str) -> None:
    with pytest.raises(InvalidInput, match=found) as caught:
        attention_for(asked, "sdpa", dtype, machine)
    assert caught.value.findings[0].pointer == "/optimisation/attention"


def softcapped() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 16}
    config = Gemma2Config(
        vocab_size=64, num_hidden_layers=2, num_key_value_heads=1, sliding_window=64, pad_token_id=0, **sizes
    )
    return Gemma2ForCausalLM(config).eval()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("make", [tiny_llama, softcapped])
def test_flex_attention_gives_every_response_the_states_that_it_has_alone(make: Callable[[], Any]) -> None:
    model = make().requires_grad_(False)
    alone = torch.cat(naive(model))
    model.set_attn_implementation(FLEX)
    with torch.no_grad():
        hidden = shared(EXAMPLES, torch.float32, CPU, is_flex=True).hidden(model)
    torch.testing.assert_close(hidden, alone, atol=1e-5, rtol=1e-5)


def layout(is_flex: bool) -> Pack:
    return shared(EXAMPLES, torch.float32, CPU, is_flex=is_flex)


def unmasked(module: Any, query: Any, key: Any, value: Any, _: Any, **options: Any) -> Any:
    return sdpa_attention_forward(module, query, key, value, None, **options)


def one_way(module: Any, query: Any, *others: Any, **options: Any) -> Any:
    return sdpa_attention_forward(module, query.detach(), *others, **options)


@pytest.mark.parametrize(
    ("name", "function", "is_right"),
    [("deft_same", sdpa_attention_forward, True), ("deft_blind", unmasked, False), ("deft_one_way", one_way, False)],
)
def test_what_gives_other_states_or_gradients_is_not_used(name: str, function: Any, is_right: bool) -> None:
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
    model = tiny_llama().requires_grad_(False)
    reason = set_attention(model, name, layout)
    assert reason == (None if is_right else f"{name} gives other states than sdpa, which is used")
    assert attention_of(model) == (name if is_right else "sdpa")


@pytest.mark.usefixtures("uncompiled")
def test_what_fails_is_not_used() -> None:
    model = tiny_llama().requires_grad_(False)
    assert set_attention(model, FLEX, layout) == "flex_attention failed (NotImplementedError), so sdpa is used"
    assert attention_of(model) == "sdpa", "no backward pass on a CPU"


def test_a_training_says_what_it_used_and_is_refused_what_does_not_work_here(tmp_path: Path) -> None:
    inputs = small_runs.make_inputs(tmp_path / "in")
    with pytest.raises(InvalidInput, match="attention by flex does not work here: found a device of the kind cpu"):
        small_runs.train(small_runs.spec_of(optimisation={"attention": "flex"}), inputs, tmp_path / "flex")
    summary = small_runs.train(small_runs.spec_of(optimisation={"epochs": 1}), inputs, tmp_path / "out")
    assert summary["attention"] == "sdpa"
