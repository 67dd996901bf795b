"""What is left to measure of an evaluation, and what is refused instead of being left out unsaid."""

from contextlib import nullcontext

import pytest

from deft.errors import InvalidInput
from deft.models.fit import GENERATED_METRICS, RELATIVE_METRICS, check_measurable, chosen_metrics, require_lists
from deft.specs import ALL_METRICS, EvaluateSpec, Metric


def _spec(**fields: object) -> EvaluateSpec:
    return EvaluateSpec.model_validate({"dataset": "ds_1", "model": "tiny", **fields})


@pytest.mark.parametrize("prompt_sets", [[], ["ds_2"]])
def test_chosen_metrics_beside_references_need_answers_to_held_out_prompts(prompt_sets: list[str]) -> None:
    options = {"metrics": ["preference_accuracy", "bleu", "bleu_char_pro"], "prompts": 0}
    with pytest.raises(InvalidInput) as refused:
        check_measurable(_spec(options=options, prompt_sets=prompt_sets), pointer="/options/metrics")
    assert refused.value.error_code == "missing_references"
    assert [each.pointer for each in refused.value.findings] == ["/options/metrics/1", "/options/metrics/2"]


WITHOUT = {
    "r_d_accuracy": ({}, "without scoring"),
    "bartscore": ({}, "without bartscore_model"),
    "reward": ({}, "without reward_models or training_reward_models"),
    "reward_logit": ({}, "without reward_models or training_reward_models"),
    "perplexity": ({}, "without general_dataset"),
    **{name: ({"systems": []}, "without systems") for name in RELATIVE_METRICS},
}
EVERYTHING = {
    "systems": [{"name": "deft", "arm": "deft", "adapter": "ad_1"}],
    "scoring": "sc_1",
    "reward_models": ["rm_1"],
    "bartscore_model": "bart",
    "general_dataset": "ds_3",
}


@pytest.mark.parametrize("metric", sorted(GENERATED_METRICS))
def test_chosen_metrics_of_answers_need_answers(metric: Metric) -> None:
    """Of prompt sets lengths are measured too, and nothing else."""
    for prompt_sets in ([], ["ds_2"]):
        spec = _spec(**EVERYTHING, options={"metrics": ["margin", metric], "prompts": 0}, prompt_sets=prompt_sets)
        if prompt_sets and metric == "length":
            check_measurable(spec, pointer="/options/metrics")
            continue
        with pytest.raises(InvalidInput, match=f"nothing would be measured of {metric}$") as refused:
            check_measurable(spec, pointer="/options/metrics")
        (finding,) = refused.value.findings
        assert (finding.pointer, finding.found.split(",")[0]) == ("/options/metrics/1", f"{metric} with prompts 0")
        assert finding.fix == f"ask for prompts above 0, or leave {metric} out"
        assert ("prompt sets are measured by length" in finding.found) == bool(prompt_sets)


@pytest.mark.parametrize("metric", ALL_METRICS)
def test_a_chosen_metric_needs_what_it_is_measured_with(metric: Metric) -> None:
    options = {"metrics": [metric]}
    check_measurable(_spec(**EVERYTHING, options=options), pointer="/options/metrics")
    if metric in WITHOUT:
        more, found = WITHOUT[metric]
        given = {"systems": EVERYTHING["systems"], **more}
        with pytest.raises(InvalidInput) as refused:
            check_measurable(_spec(**given, options=options), pointer="/options/metrics")
        (finding,) = refused.value.findings
        assert (refused.value.error_code, finding.code) == ("nothing_to_measure", "nothing_to_measure")
        assert (finding.pointer, finding.found) == ("/options/metrics/0", f"{metric} {found}")
    else:
        check_measurable(_spec(options=options), pointer="/options/metrics")


def test_every_chosen_metric_that_nothing_measures_is_named_at_its_own_place() -> None:
    options = {"metrics": ["kl", "length", "bleu", "perplexity"], "prompts": 0}
    with pytest.raises(InvalidInput) as refused:
        check_measurable(_spec(options=options, prompt_sets=["ds_2"]), pointer="/options/metrics")
    assert refused.value.error_code == "nothing_to_measure"
    told = [(each.pointer, each.code) for each in refused.value.findings]
    places = ["nothing_to_measure", "missing_references", "nothing_to_measure"]
    assert told == [(f"/options/metrics/{at}", code) for at, code in zip((0, 2, 3), places, strict=True)]


@pytest.mark.parametrize("has_lists", [False, True])
@pytest.mark.parametrize("metrics", [None, ["margin", "ranking_accuracy"]])
def test_a_ranking_accuracy_that_is_chosen_needs_lists(*, has_lists: bool, metrics: list[str] | None) -> None:
    chosen = chosen_metrics(_spec(options={} if metrics is None else {"metrics": metrics}))
    assert chosen == (metrics or [])
    with nullcontext() if has_lists or metrics is None else pytest.raises(InvalidInput, match="ranking_accuracy") as e:
        require_lists(chosen, has_lists=has_lists, pointer="/options/metrics")
    if e is not None:
        assert e.value.findings[0].pointer == "/options/metrics/1"


def test_sets_alone_with_metrics_beside_references_are_refused() -> None:
    options = {"metrics": ["bleu"], "prompts": 0}
    with pytest.raises(InvalidInput, match="bleu"):
        check_measurable(_spec(options=options, prompt_sets=["ds_2"]), pointer="/options/metrics")


@pytest.mark.parametrize("prompt_sets", [[], ["ds_2"]])
@pytest.mark.parametrize(
    "options",
    [
        {"prompts": 0},
        {},
        {"prompts": 0, "metrics": ALL_METRICS[::-1]},
        {"prompts": 0, "metrics": [metric for metric in ALL_METRICS if metric != "silent"]},  # the default once
        {"prompts": 0, "metrics": [each for each in ALL_METRICS if each not in ("repeated", "silent")]},  # before that
    ],
)
def test_the_default_leaves_out_what_it_cannot_measure(options: dict[str, object], prompt_sets: list[str]) -> None:
    check_measurable(_spec(options=options, prompt_sets=prompt_sets), pointer="/options/metrics")
