"""Weights that a model's settings leave out: refused where they are the decoder's, and only there."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from deft.errors import ModelNotUsable
from deft.models.files import check_model_folder
from deft.models.loading import load_base
from deft.models.surplus import check_layers, check_unused
from tests.models import save_tiny_llama

OWN = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight")


@pytest.mark.parametrize("look", [check_model_folder, load_base])
def test_a_config_with_too_few_layers_is_refused(look: Callable[[Path], Any], tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path)
    look(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(ModelNotUsable, match="says 1 layers, the weights hold 2") as caught:
        look(folder)
    assert caught.value.findings[0].code == "layers_left_out"


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        ("model.layers.0.self_attn.q_proj.bias", True),
        ("lm_head.bias", True),
        ("language_model.model.layers.0.mlp.up_proj.weight", True),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", False),
        ("transformer.h.0.attn.masked_bias", False),
        ("vision_tower.layers.0.weight", False),
        ("model.multi_modal_projector.weight", False),
        ("mtp.layers.0.weight", False),
        ("v_head.summary.weight", False),
    ],
)
def test_only_weights_of_the_decoder_are_missed(name: str, is_refused: bool) -> None:
    with pytest.raises(ModelNotUsable, match="1 of the model's weights") if is_refused else nullcontext():
        check_unused([name], OWN)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"num_hidden_layers": 61, "num_nextn_predict_layers": 1}, ["model.layers.61.mlp.gate.weight"]),
        ({"text_config": {"num_hidden_layers": 2}}, ["vision_tower.encoder.layers.26.mlp.weight"]),
        ({"n_layer": 1}, ["transformer.h.0.attn.c_attn.weight"]),
        ({}, ["model.layers.3.mlp.weight"]),
    ],
)
def test_layers_of_other_parts_are_not_counted(config: dict[str, Any], names: list[str]) -> None:
    check_layers(config, names)
