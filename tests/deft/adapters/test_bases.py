"""What is on record of a base model, and what its licence asks."""

import json
from pathlib import Path

import pytest

from deft.adapters.bases import BaseModel, base_model, card_licence, duties_of


def test_the_record_comes_first_then_the_folders_name(tmp_path: Path) -> None:
    record = {"name": "meta-llama/Meta-Llama-3-8B", "revision": "abc"}
    (tmp_path / "deft-model.json").write_text(json.dumps(record))
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: llama3\n---\n# A model\nlicense: mit\n")
    assert base_model(tmp_path) == BaseModel("meta-llama/Meta-Llama-3-8B", "abc", "llama3")
    plain = tmp_path / "My-Model"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps({"_name_or_path": "/somewhere/here/Base"}))
    assert base_model(plain) == BaseModel("Base", None, None)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ('---\nlicense: "other"\nlicense_name: gemma-terms\n---\n', "gemma-terms"),
        ("# no front matter\nlicense: mit\n", None),
        ("---\ntitle: x\n---\nlicense: mit\n", None),
    ],
)
def test_the_licence_of_a_card_is_that_of_its_front_matter(card: str, licence: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert card_licence(tmp_path / "README.md") == licence


@pytest.mark.parametrize(
    ("licence", "name", "prefix", "built_with", "notice"),
    [
        ("llama3", "x", "Llama 3 ", "Built with Meta Llama 3.", "Meta Llama 3 is licensed under the Meta Llama 3 C"),
        ("llama3.1", "x", "Llama ", "Built with Llama.", "Llama 3.1 is licensed under the Llama 3.1 Community License"),
        (None, "Meta-Llama-3-8B", "Llama 3 ", "Built with Meta Llama 3.", "Meta Llama 3 is"),
        (None, "Llama-3.2-1B", "Llama ", "Built with Llama.", "Llama 3.2 is"),
    ],
)
def test_llama_3_asks_for_its_name_and_a_notice(
    licence: str | None, name: str, prefix: str, built_with: str, notice: str
) -> None:
    duties = duties_of(BaseModel(name, None, licence))
    assert duties is not None
    assert (duties.prefix, duties.built_with) == (prefix, built_with)
    assert duties.notice.startswith(notice)
    assert "Copyright © Meta Platforms, Inc. All Rights Reserved." in duties.notice


@pytest.mark.parametrize("base", [BaseModel("Qwen3-8B", None, "apache-2.0"), BaseModel("Llama-30B", None, None)])
def test_others_ask_for_nothing(base: BaseModel) -> None:
    assert duties_of(base) is None
