"""How others call a base model, and what its licence asks of what is made from it. Torch-free.

Knows files of a model's folder and licences; it must not know adapters or training.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

RECORD = "deft-model.json"
"""Name, revision and licence of the model in its folder, where it was brought here by us."""

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_LLAMA_3 = re.compile(r"llama[-_ ]?3(?:\.(\d+))?(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """How others call the base model: never by a path of this machine."""

    name: str
    revision: str | None
    licence: str | None


@dataclass(frozen=True, slots=True)
class Duties:
    """What a licence asks: a *prefix* of the derived model's name, a sentence to show, the text of a NOTICE file."""

    prefix: str
    built_with: str
    notice: str


def is_whole_model(folder: Path) -> bool:
    """Whether *folder*, the output of a training, is a model by itself and no adapter."""
    return not (folder / "adapter_config.json").is_file() and (folder / "config.json").is_file()


def base_model(folder: Path) -> BaseModel:
    """Return what is on record of the model in *folder*: by `deft-model.json`, its config and its model card."""
    record = _json(folder / RECORD)
    config = _json(folder / "config.json")
    name = record.get("name") or Path(config.get("_name_or_path") or folder.resolve()).name
    return BaseModel(name, record.get("revision"), record.get("license") or card_licence(folder / "README.md"))


def card_licence(card: Path) -> str | None:
    """Return the licence in the front matter of a model card, by its own name where it is called `other`."""
    if not card.is_file():
        return None
    found = _FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
    fields = dict(re.findall(r"^(license|license_name):[ \t]*[\"']?([^\s\"']+)", found.group(1) if found else "", re.M))
    own = fields.get("license")
    return fields.get("license_name", own) if own == "other" else own


def duties_of(base: BaseModel) -> Duties | None:
    """Return what the licence of Llama 3 (by its name, or where that is unknown by the model's) asks; None: of others.

    Source: Meta Llama 3 Community License, 1.b.i and iii; from 3.1 on the words differ.
    """
    found = _LLAMA_3.search(base.licence or base.name)
    if found is None:
        return None
    if found.group(1) in (None, "0"):
        return Duties("Llama 3 ", "Built with Meta Llama 3.", _notice("Meta Llama 3"))
    return Duties("Llama ", "Built with Llama.", _notice(f"Llama 3.{found.group(1)}"))


def _notice(name: str) -> str:
    copyright_of = "Copyright © Meta Platforms, Inc. All Rights Reserved."
    return f"{name} is licensed under the {name} Community License, {copyright_of}\n"


def _json(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    document: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return document
