"""Continuous batching answers as sorted batches do: by family, under adapters, cut at turn marks, in a small cache."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deft.errors import Interrupted
from deft.evaluation import continuous, generation
from deft.evaluation.continuous import CONTINUOUS_FAMILIES, EngineFailed, continuous_ids, generate_continuously
from deft.evaluation.conversations import in_memory
from deft.evaluation.engines import Engines
from deft.evaluation.generation import Decoding, Questions, end_ids, generate, greedy_ids
from deft.models.loading import load_base, load_policy
from deft.specs import Sampling
from deft.tokens import end_token_id
from tests.families import FAMILIES, V, tiny
from tests.models import byte_tokenizer, save_tiny_llama, tiny_llama

DECODING = Decoding(12, frozenset([0]))
SIZES = (5, 17, 3, 30, 31, 8, 9, 22)
TESTED = [name for name, (model_type, _, _) in FAMILIES.items() if model_type in CONTINUOUS_FAMILIES]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if "_run_generation_loop" in thread.name]


def prompts_of(vocabulary: int, first: int = 1) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(first, vocabulary, (size,), generator=generator).tolist() for size in SIZES]


def test_every_family_that_may_be_run_so_is_tested() -> None:
    assert {FAMILIES[name][0] for name in TESTED} == CONTINUOUS_FAMILIES


@pytest.mark.parametrize("family", TESTED)
def test_answers_are_those_of_each_prompt_alone(family: str) -> None:
    """Within and beyond the families' windows of 16, answers that end and answers that do not."""
    model, prompts = tiny(family), prompts_of(V)
    attention = model.config._attn_implementation
    alone = [greedy_ids(model, [prompt], DECODING)[0] for prompt in prompts]
    assert continuous_ids(model, prompts, DECODING) == alone
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["gptj", "bloom", "llama4"])
def test_a_family_that_is_not_tested_is_answered_by_sorted_batches(family: str) -> None:
    engines = Engines("continuous_batching")
    why = engines.why_sorted(tiny(family), is_sampled=False)
    assert why is not None
    assert FAMILIES[family][0] in why


def test_more_answers_than_the_cache_holds_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "PAGE_TOKENS", 16)
    model, prompts = tiny("llama"), prompts_of(V) * 4
    decoding = Decoding(12, frozenset([0]), token_budget=64)
    told: list[int] = []
    found = continuous_ids(model, prompts, decoding, on_progress=told.append)
    assert found == [greedy_ids(model, [prompt], decoding)[0] for prompt in prompts]
    assert max(told) == len(prompts)


def test_adapters_on_one_base_are_swapped(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = save_tiny_llama(tmp_path / "model")
    torch.manual_seed(0)
    trained = get_peft_model(load_base(model), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    trained.save_pretrained(tmp_path / "adapter")
    base = load_base(model)
    prompts, decoding = prompts_of(259, 3), Decoding(12, end_ids(base, end_token_id(byte_tokenizer())))
    plain = greedy_ids(base, prompts, decoding)
    policy = load_policy(base, tmp_path / "adapter")
    tuned = greedy_ids(policy, prompts, decoding)
    assert tuned != plain
    assert continuous_ids(policy, prompts, decoding) == tuned
    with policy.disable_adapter():
        assert continuous_ids(policy, prompts, decoding) == plain
    assert greedy_ids(policy, prompts, decoding) == tuned


def test_answers_to_transcripts_are_cut_at_the_next_turn_and_stopped_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, prompts = tiny_llama(), byte_tokenizer(), prompts_of(259, 3)
    decoding, cut = Decoding(40, end_ids(model, end_token_id(tokenizer))), [True] * 7 + [False]
    texts = [answer.text for answer in generate(model, tokenizer, Questions(prompts, [False] * 8), decoding)]
    letters = sorted({letter for text in texts[:7] for letter in text[5:20] if letter.isascii() and letter.isalnum()})
    monkeypatch.setattr(generation, "TURN_MARK", re.compile(f"[{''.join(letters[:3])}]"))
    cancelled: list[str] = []
    started = continuous._started

    def watched(*given: Any) -> Any:
        manager, restore = started(*given)
        cancel = manager.cancel_request
        manager.cancel_request = lambda name: cancelled.append(name) or cancel(name)
        return manager, restore

    monkeypatch.setattr(continuous, "_started", watched)
    questions = Questions(prompts, cut)
    by_batches = generate(model, tokenizer, questions, decoding)
    assert generate_continuously(model, tokenizer, questions, decoding) == by_batches
    marked = [str(place) for place, answer in enumerate(by_batches) if answer.stop == "turn_mark"]
    assert marked
    assert sorted(cancelled) == marked


def test_flash_attention_is_used_while_it_lasts_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model's other attention in its place, since no CPU has it."""
    model, prompts, seen = tiny("llama"), prompts_of(V), set()
    monkeypatch.setattr(continuous, "flash_attention", lambda _model: "paged|eager")
    forward = type(model).forward

    def watched(self: Any, *given: Any, **named: Any) -> Any:
        seen.add(self.config._attn_implementation)
        return forward(self, *given, **named)

    alone = [greedy_ids(model, [prompt], DECODING)[0] for prompt in prompts]
    monkeypatch.setattr(type(model), "forward", watched)
    assert continuous_ids(model, prompts, DECODING) == alone
    assert seen == {"paged|eager"}
    assert model.config._attn_implementation == "sdpa"


class OnGpu:
    """What `flash_attention` and the choice of an engine look at."""

    device, config = torch.device("cuda"), type("Config", (), {"model_type": "llama"})

    def __init__(self, dtype: torch.dtype = torch.bfloat16, *, supports: bool = True) -> None:
        self.dtype, self._supports_flash_attn = dtype, supports


@pytest.mark.parametrize(
    ("packages", "model", "expected"),
    [
        ((True, True), OnGpu(), "flash_attention_3"),
        ((True, False), OnGpu(), "flash_attention_2"),
        ((False, False), OnGpu(), None),
        ((True, True), OnGpu(torch.float32), None),
        ((True, True), OnGpu(supports=False), None),
        ((True, True), tiny("llama"), None),
    ],
)
def test_on_a_gpu_continuous_batching_answers_where_flash_attention_is_there(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[bool, bool], model: Any, expected: str | None
) -> None:
    for name, is_there in zip(("is_flash_attn_2_available", "is_flash_attn_3_available"), packages, strict=True):
        monkeypatch.setattr(continuous, name, lambda is_there=is_there: is_there)
    assert continuous.flash_attention(model) == expected
    assert (Engines("auto").why_sorted(model, is_sampled=False) is None) == (expected is not None)
    assert Engines("continuous_batching").why_sorted(model, is_sampled=False) is None


def test_a_stop_that_is_asked_for_ends_it() -> None:
    def stop(_done: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        continuous_ids(tiny("llama"), prompts_of(V), DECODING, on_progress=stop)


def test_one_that_fails_says_why_and_sorted_batches_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = tiny("llama"), prompts_of(V)
    forward, calls = type(model).forward, []

    def failing(self: Any, *given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no such kernel")
        return forward(self, *given, **named)

    monkeypatch.setattr(type(model), "forward", failing)
    with pytest.raises(EngineFailed, match="no such kernel"):
        continuous_ids(model, prompts, DECODING)
    calls.clear()
    engines, tokenizer = Engines("continuous_batching"), byte_tokenizer()
    questions = Questions(prompts, [False] * 8)
    answers = in_memory(model, tokenizer, DECODING, None, engines, "deft")(questions, lambda _: None)
    assert answers == generate(model, tokenizer, questions, DECODING)
    (used,) = engines.used
    assert (used["system"], used["engine"]) == ("deft", "sorted_batches")
    assert "no such kernel" in str(used["because"])


def test_on_a_cpu_and_for_sampled_answers_sorted_batches_answer_and_it_is_said_why() -> None:
    model, tokenizer, prompts = tiny("llama"), byte_tokenizer(), prompts_of(V)
    engines = Engines("auto")
    in_memory(model, tokenizer, DECODING, None, engines)(Questions(prompts, [False] * 8), lambda _: None)
    sampled = Engines("continuous_batching")
    answering = in_memory(model, tokenizer, DECODING, Sampling(), sampled)
    answering(Questions(prompts, [False] * 8, list(range(8))), lambda _: None)
    told = [(used["system"], used["engine"], str(used["because"])) for used in [*engines.used, *sampled.used]]
    assert told[0] == ("base", "sorted_batches", "the model is on the cpu")
    assert told[1][:2] == ("base", "sorted_batches")
    assert "seed" in told[1][2]
