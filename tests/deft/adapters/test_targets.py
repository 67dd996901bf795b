"""A training starts from an adapter only where suffixes tell its modules, and says so before it begins."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from deft.adapters.targets import require_listed_targets
from deft.errors import InvalidInput
from deft.models.loading import load_base
from deft.specs import Lora
from deft.training.policy import attach_lora
from tests.deft import small_runs

EVERY_LAYER = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)]


def make_adapter(folder: Path, model: Path, targets: list[str] | str) -> Path:
    torch.manual_seed(3)
    get_peft_model(load_base(model), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=targets)).save_pretrained(
        folder
    )
    return folder


def test_a_pattern_is_refused_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = small_runs.make_inputs(tmp_path / "inputs", rows=4)
    adapter = make_adapter(tmp_path / "adapter", inputs["model"], r".*\.q_proj")
    monkeypatch.setattr("deft.training.preparation.load_base", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InvalidInput) as error:
        small_runs.train(small_runs.spec_of(adapter="ad_1"), {**inputs, "adapter": adapter}, tmp_path / "out")
    (finding,) = error.value.findings
    assert (finding.code, finding.pointer) == ("adapter_not_portable", "/adapter")
    assert "the pattern" in finding.found
    assert "suffixes" in finding.expected
    assert "merge" in finding.fix


@pytest.mark.parametrize("names", [EVERY_LAYER[:1], [*EVERY_LAYER, "model.layers.1.mlp.up_proj"]])
def test_full_names_that_differ_by_layer_are_refused(names: list[str], tiny_model_folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path, tiny_model_folder, names)
    with pytest.raises(InvalidInput, match="alike in every layer") as error:
        attach_lora(load_base(tiny_model_folder), Lora(), seed=0, start=adapter)
    (finding,) = error.value.findings
    assert (finding.code, finding.pointer) == ("adapter_not_portable", "/adapter")
    assert finding.found.startswith(f"{len(names)} of {len(names) + 1} modules")


@pytest.mark.parametrize("targets", [EVERY_LAYER, ["q_proj", "up_proj"], "all-linear"])
def test_names_that_come_to_suffixes_are_taken(
    targets: list[str] | str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path, tiny_model_folder, targets)
    require_listed_targets(adapter)
    policy = attach_lora(load_base(tiny_model_folder), Lora(), seed=0, start=adapter)
    assert policy.peft_config["default"].r == 2


def test_layers_to_transform_stay_in_the_settings_and_are_taken(tiny_model_folder: Path, tmp_path: Path) -> None:
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], layers_to_transform=[1])
    get_peft_model(load_base(tiny_model_folder), config).save_pretrained(tmp_path)
    attach_lora(load_base(tiny_model_folder), Lora(), seed=0, start=tmp_path)


def test_settings_without_targets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"target_modules": None}))
    with pytest.raises(InvalidInput, match="found no target_modules"):
        require_listed_targets(tmp_path)
