"""What a model starts from: its base alone, or the base with an adapter. Torch-free; reads records, loads no model.

Hidden states, R_d and a ranking by it belong to the start that they were made under; Q_diff to the tokenizer alone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from deft.errors import ArtifactCorrupt, Finding, InvalidInput
from deft.folders import sha256_of

RANKING_ENDS = ("lowest", "highest")
"""Ends of a selection that go by R_d: a draw and a length do not depend on a model."""


@dataclass(frozen=True, slots=True)
class Start:
    """The base's weights, and the adapter on them (None: none), by their hashes."""

    base_weights_hash: str
    adapter_hash: str | None = None

    def words(self) -> str:
        """Return it in words, with the beginning of each hash."""
        base = f"the base {self.base_weights_hash[:12]}"
        return base if self.adapter_hash is None else f"{base} with the adapter {self.adapter_hash[:12]}"


def adapter_hash(folder: Path) -> str:
    """Return the SHA-256 (hex) over names and contents of the adapter's settings and weights in *folder*."""
    files = [folder / "adapter_config.json", *folder.glob("adapter_model*.safetensors")]
    return adapter_hash_of({path.name: sha256_of(path) for path in files})


def adapter_hash_of(files: Mapping[str, str]) -> str:
    """Return the same of the SHA-256 (hex) of an adapter's *files* by their names, of which others do not count."""
    weights = [name for name in files if fnmatch(name, "adapter_model*.safetensors")]
    own = sorted(["adapter_config.json", *weights])
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in own).encode()).hexdigest()


def start_of(base_hash: str, adapter: Path | None) -> Start:
    """Return the start of the base with *base_hash*, with the adapter in the folder *adapter* if there is one.

    Raises:
        InvalidInput: the adapter was trained on another base.
    """
    if adapter is None:
        return Start(base_hash)
    require_same_base(adapter, base_hash)
    return Start(base_hash, adapter_hash(adapter))


def require_same_base(adapter: Path, base_hash: str) -> None:
    """Check that the adapter in the folder *adapter*, where its training is on record, was trained on that base.

    Raises:
        InvalidInput: it was trained on another.
    """
    record = adapter / "training.json"
    recorded = json.loads(record.read_text(encoding="utf-8"))["base"]["weights_hash"] if record.is_file() else base_hash
    if recorded == base_hash:
        return
    found, expected = (f"an adapter of the base {each[:12]}" for each in (recorded, base_hash))
    fix = "start from an adapter that was trained on this model"
    finding = Finding("adapter_of_another_base", found, expected, fix, pointer="/adapter")
    message = f"expected {expected}, found {found}: {fix}"
    raise InvalidInput(message, code=finding.code, findings=[finding])


def scored_under(scoring: Path) -> dict[str, Any] | None:
    """Return the start under which the scoring in *scoring* was made, as JSON; None where that is not on record.

    Raises:
        ArtifactCorrupt: scoring.json cannot be read.
    """
    path = scoring / "scoring.json"
    if not path.is_file():
        return None
    told = _document(path)
    return asdict(Start(told["base_weights_hash"], told.get("adapter_hash")))


def ranked_under(data: Path) -> dict[str, Any] | None:
    """Return the start under which the subset in *data* was ranked, as JSON; None: no subset, or not on record."""
    found = _subset(data).get("scored_under")
    return found if isinstance(found, dict) else None


def warnings_of(data: Path, start: Start) -> list[str]:
    """Return what to know of training on *data* from *start*: that a subset was ranked under another start."""
    ranked = ranked_under(data)
    if ranked is None or Start(**ranked) == start or _subset(data).get("end") not in RANKING_ENDS:
        return []
    return [
        f"the subset was ranked under {Start(**ranked).words()}, and this training starts from {start.words()}: its "
        "rows are not those that the model that is trained would rank first"
    ]


def _subset(data: Path) -> Mapping[str, Any]:
    path = data / "subset.json"
    return _document(path) if path.is_file() else {}


def _document(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{path.name} cannot be read: {error}") from error
    return found
