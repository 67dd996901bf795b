"""The arms of a pipeline differ in the fields they should, and in no other."""

from typing import Any

import pytest
from pydantic import ValidationError

from deft.arms import arms, submit_children
from deft.specs import (
    DEFAULT_ARMS,
    EvaluateSpec,
    MeasureOmegaSpec,
    OperationSpec,
    Optimisation,
    PipelineSpec,
    RewardTerm,
    ScoreSpec,
    Selection,
    SelectSpec,
    SftMethod,
    SftStage,
    TrainSpec,
    references,
)


def pipeline(**fields: Any) -> PipelineSpec:
    return PipelineSpec(dataset="ds_1", model="tiny", **fields)


def job_id(name: str) -> str:
    return "job_" + name.replace(":", ".")


def children(spec: PipelineSpec) -> dict[str, OperationSpec]:
    submitted: dict[str, OperationSpec] = {}

    def submit(name: str, child: OperationSpec) -> str:
        assert name not in submitted
        submitted[name] = child
        return job_id(name)

    submit_children(spec, submit)
    return submitted


def training(submitted: dict[str, OperationSpec], arm: str) -> TrainSpec:
    spec = submitted[f"train:{arm}"]
    assert isinstance(spec, TrainSpec)
    return spec


def different_fields(one: TrainSpec, other: TrainSpec) -> set[str]:
    return {name for name in TrainSpec.model_fields if getattr(one, name) != getattr(other, name)}


def resolved(submitted: dict[str, OperationSpec], arm: str) -> dict[str, Any]:
    """The training of *arm* with its subset's own selection written in, one flat mapping."""
    train = training(submitted, arm)
    flat = {f"train.{name}": value for name, value in train if name != "data"}
    select = {job_id(name): spec for name, spec in submitted.items()}[train.data]
    assert isinstance(select, SelectSpec)
    return flat | {f"selection.{name}": value for name, value in select.selection}


STARTS: list[dict[str, Any]] = [{}, {"adapter": "ad_1"}, {"sft": SftStage()}]


@pytest.mark.parametrize("start", STARTS, ids=["base", "adapter", "sft"])
@pytest.mark.parametrize(
    ("arm", "control", "field"),
    [
        ("no_reward_term", "deft", "train.deft"),
        ("random_with_term", "deft", "selection.end"),
        ("random", "no_reward_term", "selection.end"),
        ("opposite", "deft", "selection.end"),
        ("length", "deft", "selection.end"),
    ],
)
def test_each_arm_differs_in_one_field(arm: str, control: str, field: str, start: dict[str, Any]) -> None:
    submitted = children(pipeline(**start))
    one, other = resolved(submitted, arm), resolved(submitted, control)

    assert {name for name in one if one[name] != other[name]} == {field}


def test_random_equal_cost_differs_from_random_in_its_number_of_rows_alone() -> None:
    spec = pipeline(
        arms=["deft", "random", "random_equal_cost"], selection=Selection(count=10), equal_cost_count=37, random_draws=2
    )
    submitted = children(spec)
    one, other = resolved(submitted, "random_equal_cost"), resolved(submitted, "random")

    assert {name for name in one if one[name] != other[name]} == {"selection.count"}
    assert (one["selection.count"], one["selection.end"]) == (37, "random")
    assert "random_equal_cost-2" not in {arm.system for arm in arms(spec)}
    assert {"select:random_equal_cost", "select:random-0", "select:random-1"} <= submitted.keys()


def test_full_differs_from_no_reward_term_in_its_rows_alone() -> None:
    submitted = children(pipeline(score_sample=160))
    full = training(submitted, "full")

    assert different_fields(full, training(submitted, "no_reward_term")) == {"data", "rows"}
    assert full.data == "ds_1"
    assert full.rows.sample == 160
    assert full.rows.split == "train"


def test_arms_with_the_term_share_one_measured_omega() -> None:
    submitted = children(pipeline(random_draws=2))
    terms = [spec.deft for spec in submitted.values() if isinstance(spec, TrainSpec) and spec.deft is not None]
    calibration, deft = submitted["measure_omega"], training(submitted, "deft")

    assert isinstance(calibration, MeasureOmegaSpec)
    assert [RewardTerm(omega="auto", omega_from="job_measure_omega")] * 5 == terms
    assert calibration.data == deft.data
    assert calibration.optimisation == deft.optimisation


def test_a_fixed_omega_is_not_measured() -> None:
    submitted = children(pipeline(deft=RewardTerm(omega=2.5)))

    assert "measure_omega" not in submitted
    assert training(submitted, "deft").deft == RewardTerm(omega=2.5)


def test_random_draws_have_their_own_seeds_and_both_random_arms_share_subsets() -> None:
    submitted = children(pipeline(random_draws=3, selection=Selection(seed=7)))
    selections = [spec.selection for spec in submitted.values() if isinstance(spec, SelectSpec)]

    assert [s.seed for s in selections if s.end == "random"] == [7, 8, 9]
    for draw in ("", "-2", "-3"):
        one, other = training(submitted, f"random{draw}"), training(submitted, f"random_with_term{draw}")
        assert different_fields(one, other) == {"deft"}


def test_the_evaluation_sees_every_system_and_only_held_out_rows() -> None:
    spec = pipeline(random_draws=2)
    evaluate = children(spec)["evaluate"]

    assert isinstance(evaluate, EvaluateSpec)
    assert [system.name for system in evaluate.systems] == [arm.system for arm in arms(spec)]
    assert evaluate.rows.split == "evaluation"
    assert evaluate.focus == "deft"


def test_a_dataset_of_its_own_is_evaluated_whole() -> None:
    evaluate = children(pipeline(evaluation_dataset="ds_2"))["evaluate"]

    assert isinstance(evaluate, EvaluateSpec)
    assert (evaluate.dataset, evaluate.rows.split) == ("ds_2", "all")


@pytest.mark.parametrize("start", STARTS, ids=["base", "adapter", "sft"])
def test_every_input_is_submitted_before_its_users(start: dict[str, Any]) -> None:
    seen: set[str] = set()
    for name, spec in children(pipeline(**start)).items():
        assert {ref.id for ref in references(spec) if ref.id.startswith("job_")} <= seen, name
        seen.add(job_id(name))
    assert job_id("evaluate") in seen


def test_the_default_arms_are_the_two_by_two_and_the_controls() -> None:
    assert [arm.system for arm in arms(pipeline(random_draws=1))] == DEFAULT_ARMS


def test_the_gate_of_a_pipeline_is_its_scorings() -> None:
    score = children(pipeline(gate="off"))["score"]
    assert isinstance(score, ScoreSpec)
    assert score.gate == "off"


@pytest.mark.parametrize(("start", "adapter"), [(STARTS[1], "ad_1"), (STARTS[2], "job_sft")])
def test_scoring_omega_and_arms_have_one_start_which_is_evaluated_beside_them(
    start: dict[str, Any], adapter: str
) -> None:
    plain, submitted = children(pipeline()), children(pipeline(**start))
    assert submitted.keys() - plain.keys() == ({"sft"} if "sft" in start else set())
    assert [name for name, spec in plain.items() if getattr(spec, "adapter", None) is not None] == []

    started = {name for name, spec in submitted.items() if getattr(spec, "adapter", None) == adapter}
    trainings = {name for name in submitted if name.startswith("train:")}
    assert started == {"score", "measure_omega"} | trainings
    assert training(submitted, "deft").lora == pipeline().lora

    evaluate = submitted["evaluate"]
    assert isinstance(evaluate, EvaluateSpec)
    names = [system.name for system in evaluate.systems]
    assert names == ["start", *(arm.system for arm in arms(pipeline()))]
    assert (evaluate.systems[0].arm, evaluate.systems[0].adapter) == ("start", adapter)


def test_the_sft_stage_trains_on_train_rows_alone_with_its_own_settings() -> None:
    stage = SftStage(optimisation=Optimisation(learning_rate=2e-5, epochs=2), sample=50, drift=None)
    sft = children(pipeline(sft=stage, seed=3))["sft"]

    assert isinstance(sft, TrainSpec)
    assert (sft.method, sft.deft, sft.adapter) == (SftMethod(), None, None)
    assert (sft.data, sft.rows.split, sft.rows.sample, sft.rows.seed) == ("ds_1", "train", 50, 3)
    assert (sft.optimisation.learning_rate, sft.drift) == (2e-5, None)
    plain = children(pipeline(sft=SftStage(), optimisation=Optimisation(epochs=4)))["sft"]
    assert isinstance(plain, TrainSpec)
    assert (plain.optimisation.epochs, plain.rows.sample) == (4, None)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("sft", {"adapter": "ad_1", "sft": SftStage()}),
        ("sft", {"sft": SftStage(optimisation=Optimisation(quantisation="nf4"))}),
        ("sft", {"sft": SftStage(optimisation=Optimisation(precision="bf16"))}),
        ("sft", {"sft": SftStage(), "lora": None}),
        ("lora", {"adapter": "ad_1", "lora": None}),
    ],
)
def test_two_starts_a_stage_in_other_numbers_and_a_start_of_whole_weights_are_refused(
    field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as error:
        pipeline(**fields)
    assert error.value.errors()[0]["loc"] == (field,)


def test_prompt_sets_of_a_pipeline_are_answered_by_its_evaluation_and_are_inputs_of_both() -> None:
    spec = pipeline(prompt_sets=["ds_questions"])
    evaluate = children(spec)["evaluate"]
    assert isinstance(evaluate, EvaluateSpec)
    assert evaluate.prompt_sets == ["ds_questions"]
    for each in (spec, evaluate):
        (reference,) = [one for one in references(each) if one.name == "prompt_set.0"]
        assert (reference.id, reference.pointer, reference.kinds) == ("ds_questions", "/prompt_sets/0", ("prompt_set",))
