"""Which folders are reward models, by their settings alone."""

from pathlib import Path
from typing import Any

import pytest

from deft.errors import ModelNotUsable
from deft.reward_models.heads import label_count, require_encoder_decoder, require_reward_head
from tests.models import write_model_files

CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}


def _refused(folder: Path, config: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ModelNotUsable) as caught:
        require_reward_head(write_model_files(folder, config), "/reward_models/0")
    (finding,) = caught.value.findings
    assert finding.pointer == "/reward_models/0"
    return caught.value.error_code, finding.found


def test_a_classifier_with_one_label_is_one(tmp_path: Path) -> None:
    for name, labels in (("a", {"num_labels": 1}), ("b", {"id2label": {"0": "reward"}})):
        require_reward_head(write_model_files(tmp_path / name, CLASSIFIER | labels), "/reward_models/0")


def test_a_causal_model_is_none(tmp_path: Path) -> None:
    assert _refused(tmp_path, {}) == ("wrong_head", "LlamaForCausalLM without a score head")


def test_a_classifier_with_several_labels_is_none(tmp_path: Path) -> None:
    three = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    assert _refused(tmp_path / "a", CLASSIFIER | three) == ("wrong_head", "a classifier with 3 labels")
    assert _refused(tmp_path / "b", CLASSIFIER) == ("wrong_head", "a classifier with 2 labels"), "the default"


def test_labels_are_counted_as_transformers_does() -> None:
    from transformers import BertConfig

    for labels in (1, 2, 5):
        assert label_count(BertConfig(num_labels=labels).to_diff_dict()) == labels


def test_bartscore_needs_an_encoder_decoder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match="encoder-decoder"):
        require_encoder_decoder(write_model_files(tmp_path / "a"), "/bartscore_model")
    require_encoder_decoder(write_model_files(tmp_path / "b", {"is_encoder_decoder": True}), "/bartscore_model")
