"""On which base the adapter or tuned model of a system was trained, by the record in its folder. Torch-free."""

import json
from pathlib import Path
from typing import Any

from deft.adapters.bases import is_whole_model
from deft.errors import Finding, InvalidInput
from deft.specs import System


def record_of(folder: Path) -> dict[str, Any]:
    """Return training.json of *folder*; empty where it has none."""
    path = folder / "training.json"
    if not path.is_file():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def require_trained_on(index: int, system: System, folder: Path, base_hash: str) -> None:
    """Check that what is in *folder*, where its training is on record, was trained on the base with that hash.

    Raises:
        InvalidInput: it was trained on another; the finding points to the *index*-th system.
    """
    trained_on = record_of(folder).get("base_weights_hash", base_hash)
    if trained_on != base_hash:
        what = "a model" if is_whole_model(folder) else "an adapter"
        found = f"{what} trained on a base whose weights hash to {str(trained_on)[:12]}"
        raise refusal(index, system, found, f"one trained on {base_hash[:12]}", "adapter_of_another_base")


def refusal(index: int, system: System, found: str, expected: str, code: str) -> InvalidInput:
    """Return the error that the *index*-th system has what was *found* where something else was *expected*."""
    finding = Finding(
        code=code,
        pointer=f"/systems/{index}/adapter",
        found=found,
        expected=expected,
        fix="name an adapter that was trained on this model",
    )
    return InvalidInput(f"system `{system.name}`: found {found}, expected {expected}", code=code, findings=[finding])
