"""What a judge's spec names, and what it never holds."""

import pytest
from pydantic import ValidationError

from deft.specs import JudgeSpec, PipelineSpec, endpoint_named, job_spec, output_kind, references, spec_json

JUDGE = {"endpoint": "judge", "model": "some-model"}


def test_a_judge_job_names_an_evaluation_and_a_labelled_dataset() -> None:
    spec = job_spec.validate_python({"kind": "judge", "evaluation": "ev_1", "judge": JUDGE, "labels": "ds_1"})
    assert [(one.name, one.kinds) for one in references(spec)] == [
        ("labels", ("dataset",)),
        ("evaluation", ("evaluation",)),
    ]
    assert output_kind("judge", spec_json(spec)) == "judging"


def test_a_judge_of_safety_names_labelled_answers() -> None:
    spec = JudgeSpec.model_validate({"evaluation": "ev_1", "judge": JUDGE, "mode": "safety", "labels": "ds_1"})
    assert next(references(spec)).kinds == ("prompt_set",)


def test_sets_of_a_judge_are_its_evaluations_and_no_inputs() -> None:
    spec = JudgeSpec.model_validate({"evaluation": "ev_1", "judge": JUDGE, "prompt_sets": ["held_out", "ds_1"]})
    assert [one.name for one in references(spec)] == ["evaluation"]


def test_the_endpoint_of_a_job_is_told_by_its_spec() -> None:
    assert endpoint_named(spec_json(JudgeSpec.model_validate({"evaluation": "ev_1", "judge": JUDGE}))) == "judge"
    assert endpoint_named({"options": {"server": {"endpoint": "vllm"}}}) == "vllm"
    assert endpoint_named({"options": {"server": None}}) is None
    assert endpoint_named({"kind": "select"}) is None


@pytest.mark.parametrize("field", ["key", "api_key", "url", "base_url"])
def test_a_spec_holds_no_address_and_no_key(field: str) -> None:
    with pytest.raises(ValidationError):
        JudgeSpec.model_validate({"evaluation": "ev_1", "judge": {**JUDGE, field: "x"}})


def test_a_comparison_needs_another_system() -> None:
    with pytest.raises(ValidationError, match="beside `against`"):
        JudgeSpec.model_validate({"evaluation": "ev_1", "judge": JUDGE, "systems": ["base"]})


def test_a_pipeline_has_no_server_generate() -> None:
    evaluation = {"server": {"endpoint": "vllm", "models": {"base": "b"}}}
    with pytest.raises(ValidationError, match="about to train"):
        PipelineSpec.model_validate({"dataset": "ds_1", "model": "m", "evaluation": evaluation})
