"""Parameters and LoRA parameters by config.json alone, against transformers' and PEFT's own models of every family."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from deft.errors import InvalidInput, ModelNotUsable
from deft.models.heads import FIELDS
from deft.planning.families import FAMILIES
from deft.planning.shapes import Shape, check_architecture, shape_of
from deft.specs import Lora
from deft.training.policy import target_suffixes

SIZES: dict[str, Any] = {
    "vocab_size": 104,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"vocab_size": 104, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
WITH_HEAD_WIDTH = {"llama", "mistral", "ministral", "qwen3", "gemma", "gemma2", "gemma3_text", "cohere2"}
ONE_KEY_A_HEAD = {"phi", "gpt_neox"}
MODELS = sorted(set(FAMILIES) - {"gemma3"})  # gemma3 is the image model around gemma3_text


def config_of(family: str, **changes: Any) -> Any:
    sizes = dict(GPT2 if family == "gpt2" else SIZES)
    if family not in WITH_HEAD_WIDTH:
        sizes.pop("head_dim", None)
    if family in ONE_KEY_A_HEAD:
        sizes.pop("num_key_value_heads")
    return CONFIG_MAPPING[family](**{**sizes, **changes})


def saved(config: Any, folder: Path) -> dict[str, Any]:
    """What stands in config.json, which leaves out defaults."""
    config.save_pretrained(folder)
    document: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return document


def shape_and_model(config: Any, folder: Path) -> tuple[Shape, Any]:
    shape = shape_of(saved(config, folder))
    assert shape is not None
    with torch.device("meta"):
        return shape, AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("family", MODELS)
def test_parameters_are_those_of_the_real_model(family: str, tmp_path: Path) -> None:
    shape, model = shape_and_model(config_of(family), tmp_path)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.head_kind == ("softcap" if family == "gemma2" else "bias" if family == "phi" else shape.head_kind)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("picks", ["all-linear", "last two"])
def test_trainable_parameters_are_those_of_peft(family: str, picks: str, tmp_path: Path) -> None:
    shape, model = shape_and_model(config_of(family), tmp_path)
    names = sorted({linear.name for linear in shape.linears})
    assert names == target_suffixes(model, Lora())
    lora = Lora(r=5) if picks == "all-linear" else Lora(r=5, target_modules=names[-2:])
    policy = get_peft_model(model, LoraConfig(r=5, target_modules=target_suffixes(model, lora)))
    assert shape.lora_parameters(lora) == sum(p.numel() for p in policy.parameters() if p.requires_grad)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("qwen3", {"attention_bias": True}),
    ("stablelm", {"use_qkv_bias": True}),
    ("starcoder2", {"use_bias": False}),
    ("gpt_neox", {"attention_bias": False}),
    ("gpt2", {"n_inner": 40}),
    ("gpt2", {"tie_word_embeddings": False}),
    ("gemma2", {"tie_word_embeddings": False}),
]


@pytest.mark.parametrize(("family", "changes"), CHANGES)
def test_what_a_config_switches_is_counted(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    shape, model = shape_and_model(config_of(family, **changes), tmp_path)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_fields_that_published_configs_leave_out_have_the_defaults_of_transformers() -> None:
    for family, known in FAMILIES.items():
        defaults = CONFIG_MAPPING["gemma3_text" if family == "gemma3" else family]()
        for name, value in known.defaults.items():
            assert getattr(defaults, name) == value, (family, name)
        assert known.is_tied == defaults.tie_word_embeddings, family


def test_the_text_part_of_an_image_model_is_read() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    shape = shape_of({"model_type": "gemma3", "text_config": text})
    assert shape is not None
    assert (shape.vocabulary_size, shape.head_width, shape.heads, shape.is_tied) == (262_208, 256, 8, True)


@pytest.mark.parametrize("config", [{"model_type": "no_such"}, {"model_type": "llama"}, {"model_type": ["llama"]}])
def test_what_is_not_known_has_no_shape(config: dict[str, Any]) -> None:
    assert shape_of(config) is None
    assert shape_of({**SIZES, "model_type": "llama", "hidden_size": "32"}) is None


def test_unknown_target_modules_are_refused_with_those_that_there_are(tmp_path: Path) -> None:
    shape, _ = shape_and_model(config_of("llama"), tmp_path)
    with pytest.raises(InvalidInput) as caught:
        shape.lora_parameters(Lora(target_modules=["q_proj", "c_attn"]))
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.found) == ("/lora/target_modules", "c_attn")
    assert "gate_proj" in finding.expected


REFUSED = [
    ({"architectures": ["BertForMaskedLM"]}, "not_causal"),
    ({"architectures": ["LlamaForSequenceClassification"]}, "not_causal"),
    ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "not_causal"),
    ({"architectures": ["xLSTMForCausalLM"], "output_logit_soft_cap": 30.0}, "unknown_head"),
    ({"text_config": {"logits_mup_width_multiplier": 4}}, "unknown_head"),
    ({"hidden_size": 0}, "no_size"),
    ({"hidden_size": "32"}, "no_size"),
    ({"text_config": {"num_hidden_layers": -1}}, "no_size"),
    ({"model_type": "llama", "num_attention_heads": 0}, "no_size"),
    ({"model_type": "gpt2", "n_embd": 10**30}, "no_size"),
    ({"model_type": None}, "no_model_type"),
]


@pytest.mark.parametrize(("config", "code"), REFUSED)
def test_a_model_that_cannot_be_scored_is_refused_by_its_config(config: dict[str, Any], code: str) -> None:
    with pytest.raises(ModelNotUsable) as caught:
        check_architecture({"model_type": "x", **config})
    assert (caught.value.findings[0].code, caught.value.findings[0].pointer) == (code, "/model")


@pytest.mark.parametrize("family", MODELS)
def test_the_families_pass(family: str, tmp_path: Path) -> None:
    check_architecture(saved(config_of(family), tmp_path))
    check_architecture({**saved(config_of(family), tmp_path), **dict.fromkeys(FIELDS, 2.0), "logits_mup_x": None})
