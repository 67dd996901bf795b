"""Tokens and FLOPs of a plan against what the real code computes, counted by torch while it runs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deft.packing import row_length, separate, shared
from deft.planning import work
from deft.planning.lengths import Sample, Sizes, picks
from deft.planning.shapes import Shape, shape_of
from deft.planning.work import Counter
from deft.reward import head_of
from deft.specs import DpoMethod, Drift, EvaluateSpec, Lora, Optimisation, ProMethod, SftMethod
from deft.tokens import TokenizedExample
from deft.training.heads import trained_head
from deft.training.methods import criterion_of
from deft.training.objective import Objective, StepSize
from deft.training.policy import attach_lora, set_training_mode
from tests.models import tiny_llama

LORA = Lora(r=4)


def example(prompt: int, *responses: int, cut: tuple[bool, ...] | None = None) -> TokenizedExample:
    return TokenizedExample([5] * prompt, [[7] * size for size in responses], list(cut or [False] * len(responses)))


def sizes_of(example: TokenizedExample) -> Sizes:
    return Sizes(len(example.prompt_ids), tuple(map(len, example.response_ids)), tuple(example.is_cut), False)


def tiny_shape(model: Any) -> Shape:
    shape = shape_of(model.config.to_dict())
    assert shape is not None
    return shape


def countable_llama() -> Any:
    """A model whose attention is plain matrix products: torch counts no FLOPs of the CPU's fused kernel."""
    model = tiny_llama()
    model.set_attn_implementation("eager")
    return model


def flops_of(run: Any) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


EXAMPLES = [example(20, 11, 30), example(9, 4, 4, cut=(True, False)), example(30, 8, 6, 21)]


@pytest.mark.parametrize("one", EXAMPLES)
def test_tokens_are_those_that_a_pack_computes(one: TokenizedExample) -> None:
    cpu, sizes = torch.device("cpu"), sizes_of(one)
    for end in (None, 2):
        together, apart = shared([one], torch.float32, cpu, end_id=end), separate([one], cpu, end_id=end)
        has_end = end is not None
        assert sizes.row_tokens(is_shared=True, has_end=has_end) == together.tokens
        assert sizes.longest_row(is_shared=True, has_end=has_end) == together.tokens
        assert sizes.longest_row(is_shared=False, has_end=has_end) * len(one.response_ids) == apart.tokens
        assert sizes.positions(has_end=has_end) == len(together.targets)
    assert sizes.row_tokens(is_shared=True, has_end=False) == row_length(one)


@pytest.mark.parametrize("method", [SftMethod(), DpoMethod(), DpoMethod(rejected="second"), ProMethod()])
@pytest.mark.parametrize("responses", [2, 3, 5])
def test_the_responses_are_those_that_the_method_picks(method: Any, responses: int) -> None:
    assert picks(method, responses) == criterion_of(method).picks(method, responses)


def test_the_flops_of_a_scoring_are_those_that_torch_counts() -> None:
    model, one = countable_llama(), example(40, 20, 30)
    pack = shared([one], torch.float32, torch.device("cpu"))
    with torch.no_grad():
        real = flops_of(lambda: pack.hidden(model))
    counter = Counter(tiny_shape(model), 0, is_shared=True)
    planned = work.scoring(counter, Sample("counted", (sizes_of(one),)), 10)
    assert planned.forward_flops == pytest.approx(10 * real, rel=0.02)
    assert planned.work.forward_tokens == 10 * pack.tokens
    assert planned.training_flops == 0


@pytest.mark.parametrize("method", [DpoMethod(), SftMethod(), ProMethod()])
def test_the_flops_of_a_training_step_are_those_that_torch_counts(method: Any) -> None:
    base, one = countable_llama(), example(40, 20, 30)
    base.requires_grad_(False)
    shape, head = tiny_shape(base), head_of(base)
    policy = attach_lora(base, LORA, seed=0)
    set_training_mode(policy)
    kept = len(picks(method, 2))
    own = replace(one, response_ids=one.response_ids[:kept], is_cut=one.is_cut[:kept])
    is_shared = method.type != "sft"
    objective = Objective(method, [own, own], 2, is_shared, None, head, rewards=[[1.0, 0.0]] * 2)

    def step() -> None:
        objective.parts(policy, [0, 1], StepSize(2, 104), at_start=True).base.backward()

    counter = Counter(shape, shape.lora_parameters(LORA), is_shared)
    planned = work.training(counter, Sample("counted", (sizes_of(one),)), 2, method, Optimisation(batch_size=2))
    assert planned.training_flops == pytest.approx(flops_of(step), rel=0.1)
    assert planned.work.trained_tokens == objective.pack([0, 1], policy).tokens
    assert planned.work.steps == 1


def test_the_flops_of_a_step_of_all_weights_are_those_that_torch_counts() -> None:
    model, one = countable_llama(), example(40, 20, 30)
    head, trained = head_of(model), trained_head(model, head_of(model), torch.float32, None)
    model.requires_grad_(True)
    objective = Objective(DpoMethod(), [one, one], 2, True, None, head, trained=trained)

    def step() -> None:
        objective.parts(model, [0, 1], StepSize(2, 104), at_start=True).base.backward()

    counter = Counter(tiny_shape(model), 0, is_shared=True, is_full=True)
    sample = Sample("counted", (sizes_of(one),))
    planned = work.training(counter, sample, 2, DpoMethod(), Optimisation(batch_size=2))
    assert planned.training_flops == pytest.approx(flops_of(step), rel=0.02)


def counter_of() -> tuple[Counter, Sample]:
    shape = tiny_shape(tiny_llama())
    return Counter(shape, shape.lora_parameters(LORA), is_shared=True), Sample("counted", (sizes_of(EXAMPLES[0]),))


def test_the_reference_is_computed_once_and_by_dpo_alone() -> None:
    counter, sample = counter_of()
    once = work.training(counter, sample, 100, DpoMethod(), Optimisation())
    twice = work.training(counter, sample, 100, DpoMethod(), Optimisation(epochs=2))
    assert twice.training_flops == 2 * once.training_flops
    assert twice.forward_flops == once.forward_flops > 0
    assert (once.work.steps, twice.work.steps) == (13, 26)
    assert work.training(counter, sample, 100, ProMethod(), Optimisation()).forward_flops == 0
    probed = work.training(counter, sample, 100, ProMethod(), Optimisation(), drift=Drift(every=5, examples=8))
    looks = (1 + 3) * 8
    one = sizes_of(EXAMPLES[0]).picked(SftMethod())
    assert probed.forward_flops == looks * (counter.forward(one, has_end=True) + 2 * counter.head(one))


def test_omega_is_measured_on_the_first_steps_only() -> None:
    counter, sample = counter_of()
    few, many = (work.calibration(counter, sample, rows, DpoMethod(), Optimisation()) for rows in (10, 10_000))
    assert (few.work.rows, many.work.rows) == (10, 64)


def test_an_evaluation_grows_with_pairs_prompts_and_systems() -> None:
    counter, sample = counter_of()
    wanted: tuple[dict[str, Any], ...] = ({}, {"metrics": ["preference_accuracy"]}, {"metrics": ["length"]})
    systems = [{"name": name, "arm": name, "adapter": name} for name in "abc"]
    common = {"model": "m", "dataset": "d", "systems": systems}
    specs = [EvaluateSpec.model_validate({**common, "options": {"max_new_tokens": 32, **own}}) for own in wanted]
    both, pairs, answers = (work.evaluation(counter, sample, 50, 20, spec) for spec in specs)
    assert pairs.work.generated_tokens == pairs.decode_steps == 0
    assert answers.work.generated_tokens == 4 * 20 * 32
    assert answers.decode_steps == 4 * 32  # all prompts of a system together
    compared = (3 + 4) * 20 * counter.generate(20, 32)  # KL: the base on their answers; entropy: all on their own
    assert both.forward_flops == pytest.approx(pairs.forward_flops + answers.forward_flops + compared)
    assert pairs.work.forward_tokens == 4 * 50 * sizes_of(EXAMPLES[0]).row_tokens(is_shared=True, has_end=True)
