"""The shared layout gives what every response gives alone; without its guards transformers 5 corrupts it silently."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from deft.models.loading import decoder
from deft.packing import plan, separate, shared, shares_prompts
from deft.tokens import TokenizedExample
from tests.models import tiny_llama

CPU = torch.device("cpu")
EXAMPLES = [
    TokenizedExample([5, 6, 7, 8], [[9, 10, 11], [12, 13, 14, 15, 2]], [False, False]),
    TokenizedExample([2, 2], [[16], [17, 18], [19, 20, 21]], [False, True, False]),
]
"""Token 2 is pad and end token of the tiny models: nothing may be masked because of it."""


def naive(model: Any) -> list[torch.Tensor]:
    """Hidden states at the predicting positions, one response at a time, without padding or mask."""
    states = []
    for example in EXAMPLES:
        for ids in example.response_ids:
            out = decoder(model)(input_ids=torch.tensor([example.prompt_ids + ids])).last_hidden_state[0]
            first = len(example.prompt_ids) - 1
            states.append(out[first : first + len(ids)])
    return states


@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_both_layouts_give_the_states_of_one_by_one(layout: str) -> None:
    model = tiny_llama()
    pack = shared(EXAMPLES, torch.float32, CPU) if layout == "shared" else separate(EXAMPLES, CPU)
    with torch.no_grad():
        hidden, alone = pack.hidden(model), naive(model)
    assert pack.responses == 5
    assert pack.targets.tolist() == [t for example in EXAMPLES for ids in example.response_ids for t in ids]
    for number, states in enumerate(alone):
        torch.testing.assert_close(hidden[pack.sequence == number], states, atol=1e-5, rtol=1e-5)


def corrupted(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    if name == "no mask":
        return {key: value for key, value in inputs.items() if key != "attention_mask"} | {"use_cache": False}
    if name == "no mask, with cache":
        return {key: value for key, value in inputs.items() if key != "attention_mask"} | {"use_cache": True}
    return {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"]), "use_cache": False}


@pytest.mark.parametrize("trap", ["no mask", "no mask, with cache", "a 2-D mask of ones"])
def test_each_trap_of_packed_layouts_moves_the_states_and_the_guard_does_not(trap: str) -> None:
    model = tiny_llama()
    pack = shared(EXAMPLES[:1], torch.float32, CPU)
    with torch.no_grad():
        wrong = decoder(model)(**corrupted(trap, pack.inputs)).last_hidden_state.flatten(0, 1)[pack.predict]
        rejected, alone = pack.hidden(model)[pack.sequence == 1], naive(model)[1]
    assert (rejected - alone).abs().max() < 1e-5
    assert (wrong[pack.sequence == 1] - alone).abs().max() > 0.1


def test_every_pass_brings_its_own_mask_and_positions_and_asks_for_no_cache() -> None:
    """The guards themselves: a 4-D mask, the positions that each response has alone, no cache."""
    model, given = tiny_llama(), []
    decoder(model).register_forward_pre_hook(lambda _module, _given, named: given.append(named), with_kwargs=True)
    pack = shared(EXAMPLES, torch.float32, CPU)
    with torch.no_grad():
        pack.hidden(model)
    (named,) = given
    rows, length = named["input_ids"].shape
    assert named["use_cache"] is False
    assert named["attention_mask"].shape == (rows, 1, length, length)
    assert named["position_ids"].shape == (rows, length)
    allowed = named["attention_mask"][0, 0] == 0
    assert allowed[6:10, 4:6].sum() == 0, "the second response sees the first"
    assert allowed[:4, :4].equal(torch.ones(4, 4, dtype=torch.bool).tril())


def test_the_end_token_is_predicted_after_uncut_responses_only_and_is_not_their_own() -> None:
    for pack in (shared(EXAMPLES, torch.float32, CPU, end_id=3), separate(EXAMPLES, CPU, end_id=3)):
        assert pack.targets[pack.sequence == 0].tolist() == [9, 10, 11, 3]
        assert pack.is_own[pack.sequence == 0].tolist() == [True, True, True, False]
        assert pack.targets[pack.sequence == 3].tolist() == [17, 18]
        assert pack.is_own[pack.sequence == 3].tolist() == [True, True]


def test_layouts_with_the_end_token_agree() -> None:
    model = tiny_llama()
    with torch.no_grad():
        together = shared(EXAMPLES, torch.float32, CPU, end_id=3).hidden(model)
        apart = separate(EXAMPLES, CPU, end_id=3).hidden(model)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_a_model_that_can_share_is_recognised_and_one_that_cannot_is_not() -> None:
    assert shares_prompts(tiny_llama(), 100)
    config = AutoConfig.for_model("mamba", vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert not shares_prompts(AutoModelForCausalLM.from_config(config), 100)


def test_rows_beyond_a_sliding_window_are_not_shared() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("mistral", vocab_size=40, num_key_value_heads=2, sliding_window=32, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    assert shares_prompts(model, 32)
    assert not shares_prompts(model, 33)


def test_a_plan_covers_every_row_once_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 120, 9, 1]
    groups = plan(lengths, 60)
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert groups[0] == [4]
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 60 for group in groups)
    assert len(groups) == 3
