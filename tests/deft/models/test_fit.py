"""What is left to measure of an evaluation, and what is refused instead of being left out unsaid."""

import pytest

from deft.errors import InvalidInput
from deft.models.fit import check_measurable
from deft.specs import EvaluateSpec


def _spec(**fields: object) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"dataset": "ds_1", "model": "tiny", **fields})


@pytest.mark.parametrize("prompt_sets", [[], ["ds_2"]])
def test_chosen_metrics_beside_references_need_answers_to_held_out_prompts(prompt_sets: list[str]) -> None:
    options = {"metrics": ["margin", "bleu", "bleu_char_pro"], "prompts": 0}
    with pytest.raises(InvalidInput) as refused:
        check_measurable(_spec(options=options, prompt_sets=prompt_sets), pointer="/options/metrics")
    assert refused.value.error_code == "missing_references"
    assert [each.pointer for each in refused.value.findings] == ["/options/metrics/1", "/options/metrics/2"]


def test_sets_alone_with_metrics_beside_references_are_refused() -> None:
    options = {"metrics": ["bleu"], "prompts": 0}
    with pytest.raises(InvalidInput, match="bleu"):
        check_measurable(_spec(options=options, prompt_sets=["ds_2"]), pointer="/options/metrics")


@pytest.mark.parametrize("options", [{"prompts": 0}, {"prompts": 0, "metrics": ["length"]}, {"metrics": ["bleu"]}])
def test_the_default_leaves_out_what_it_cannot_measure(options: dict[str, object]) -> None:
    check_measurable(_spec(options=options, prompt_sets=["ds_2"]), pointer="/options/metrics")
