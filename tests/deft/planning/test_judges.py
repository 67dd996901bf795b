"""What a reward model computes, against the linear modules of real models, and in the plan of an evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from deft.planning.judges import reading_flops
from deft.planning.plan import Planner
from deft.specs import EvaluateSpec, PipelineSpec
from tests.deft.planning.test_plan import QUEUE, lists, model_folder, planned  # noqa: F401 - the fixtures
from tests.models import TINY_CONFIG

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50}
BERT = {"model_type": "bert", **SIZES}


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("bert", SIZES),
        ("roberta", SIZES),
        ("electra", {**SIZES, "embedding_size": 32}),
        ("modernbert", {**SIZES, "pad_token_id": 0}),
        ("distilbert", {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "vocab_size": 50}),
        ("llama", {**SIZES, "num_key_value_heads": 2}),
    ],
)
def test_twice_the_weights_of_the_layers_and_attention_over_the_text(model_type: str, sizes: dict[str, Any]) -> None:
    config = AutoConfig.for_model(model_type, num_labels=1, **sizes)
    model = AutoModelForSequenceClassification.from_config(config)
    weights = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ("layer." in name or "layers." in name)
    )
    found = reading_flops(config.to_dict(), 10)
    assert found == 10 * (2 * weights + 4 * 3 * 32 * 10)


@pytest.mark.parametrize("config", [{}, {"model_type": "bert"}, {**BERT, "hidden_size": -1}, {"model_type": "new"}])
def test_what_is_not_known_is_not_counted(config: dict[str, Any]) -> None:
    assert reading_flops(config, 10) is None


def evaluation(folder: Path, data: Path, configs: dict[str, Any], **fields: Any) -> Planner:
    options = {"prompts": 8, "max_new_tokens": 16, **fields.pop("options", {})}
    document = {"model": "tiny", "dataset": "ds_1", "rows": {"split": "all"}, "options": options, **fields}
    spec = EvaluateSpec.model_validate(document)
    return planned(folder, data, spec, configs)


def test_every_answer_of_every_system_is_read_by_every_reward_model(model_folder: Path, lists: Path) -> None:  # noqa: F811
    names = {"reward_models": ["rm_1", "rm_2"], "training_reward_models": ["tiny_2"]}
    configs = {"rm_1": BERT, "tiny_2": TINY_CONFIG}
    systems = [{"name": "deft", "arm": "deft", "adapter": "ad_1"}]
    without = evaluation(model_folder, lists, configs, systems=systems).costs[-1].work
    planner = evaluation(model_folder, lists, configs, systems=systems, **names)
    found = planner.costs[-1].work
    tokens = planner.facts.held_out.sample.mean(lambda sizes: sizes.prompt) + 16  # type: ignore[union-attr]
    each = [reading_flops(config, tokens) or 0 for config in configs.values()]
    assert found.flops - without.flops == pytest.approx(16 * sum(each))
    assert found.forward_tokens - without.forward_tokens == pytest.approx(2 * 16 * tokens, abs=2)
    assert planner.uncounted == ["rm_2"]
    thrice = {"systems": systems, "options": {"held_out_sampling": {"repeats": 3}}}
    repeated = [evaluation(model_folder, lists, configs, **thrice, **more).costs[-1].work for more in (names, {})]
    assert repeated[0].flops - repeated[1].flops == pytest.approx(3 * 16 * sum(each))
    unasked = evaluation(model_folder, lists, configs, systems=systems, **names, options={"metrics": ["length"]})
    assert unasked.uncounted == []


def test_the_plan_of_a_pipeline_says_what_is_left_out(model_folder: Path, lists: Path) -> None:  # noqa: F811
    from deft.planning.summary import plan_document

    spec = PipelineSpec(dataset="ds_1", model="tiny", arms=["deft"], reward_models=["rm_1", "rm_2"])
    planner = planned(model_folder, lists, spec, {"rm_1": BERT})
    document = plan_document(spec, planner, QUEUE)
    (remark,) = [remark for remark in document.remarks if remark.code == "reward_model_not_counted"]
    assert "rm_2" in remark.message
