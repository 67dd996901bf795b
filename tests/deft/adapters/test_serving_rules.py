"""vLLM's loader rules on made-up adapters: each broken alone, and the rank that its server must allow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from deft.adapters.serving_rules import RANKS, Serving, vllm_rules

PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", "init_lora_weights": True}
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def verdict(tmp_path: Path, *, architecture: str = "LlamaForCausalLM", names: Any = None, **config: Any) -> Serving:
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    adapter.mkdir()
    base.mkdir()
    settings = {**PLAIN, **config}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (base / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    rank = config.get("r", 4)
    shapes = names or {f"{Q}.lora_A.weight": (rank, 16), f"{Q}.lora_B.weight": (16, rank)}
    save_file(
        {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()},
        adapter / "adapter_model.safetensors",
    )
    return vllm_rules(adapter, base)


def test_a_plain_adapter_of_a_known_family_loads(tmp_path: Path) -> None:
    found = verdict(tmp_path)
    assert found == Serving(True, [], 8)
    assert found.in_words == "yes"


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (12, 16), (16, 16), (256, 256), (257, 320)])
def test_the_rank_to_allow_is_the_next_that_the_server_takes(rank: int, allowed: int, tmp_path: Path) -> None:
    assert verdict(tmp_path, r=rank).max_lora_rank == allowed
    assert allowed in RANKS


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"bias": "all"}, "it trains biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "LoRA bias"),
        ({"init_lora_weights": "pissa"}, "initialisation pissa"),
        ({"layer_replication": [[0, 2]]}, "replicates layers"),
        ({"r": 1024}, "rank 1024 is above 512"),
    ],
)
def test_what_it_refuses_is_named(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = verdict(tmp_path, **config)
    assert found.loads is False
    assert words in found.in_words
    assert found.in_words.startswith("no, because ")


@pytest.mark.parametrize("config", [{"use_rslora": True}, {"init_lora_weights": "gaussian"}, {"modules_to_save": None}])
def test_what_it_takes_is_not_refused(config: dict[str, Any], tmp_path: Path) -> None:
    assert verdict(tmp_path, **config).loads is True


def test_modules_and_tensors_that_it_does_not_know_are_named(tmp_path: Path) -> None:
    head = {"base_model.model.lm_head.lora_A.weight": (4, 16), "base_model.model.lm_head.lora_B.weight": (16, 4)}
    assert "lm_head take no adapter" in verdict(tmp_path / "1", names=head).in_words
    strange = {f"{Q}.lora_A.weight": (4, 16), f"{Q}.lora_magnitude_vector": (16,)}
    assert "lora_magnitude_vector" in verdict(tmp_path / "2", names=strange).in_words


def test_a_tensor_of_a_higher_rank_than_the_settings_say_is_named(tmp_path: Path) -> None:
    names = {f"{Q}.lora_A.weight": (32, 16), f"{Q}.lora_B.weight": (16, 32)}
    assert (
        verdict(tmp_path / "1", names=names).in_words == "no, because a tensor has rank 32, adapter_config.json says 4"
    )
    assert verdict(tmp_path / "2", names=names, rank_pattern={"q_proj": 32}) == Serving(True, [], 32)


def test_families_without_adapters_and_unknown_ones_are_told_apart(tmp_path: Path) -> None:
    assert "serves GPT2LMHeadModel without adapters" in verdict(tmp_path / "1", architecture="GPT2LMHeadModel").in_words
    unknown = verdict(tmp_path / "2", architecture="NewForCausalLM")
    assert unknown.loads is None
    assert unknown.in_words.startswith("not known, because NewForCausalLM")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
