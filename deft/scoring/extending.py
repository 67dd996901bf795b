"""Whether an earlier scoring can be extended: it has states, and was made with equal settings. Torch-free.

The same is asked when a job is posted, of the settings that are known then, before the model is loaded, and once it is.
It reads scoring.json and the header of distribution.safetensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.errors import ArtifactCorrupt, Finding, InvalidInput

HIDDEN = "hidden.npy"


def require_extendable(folder: Path, settings: Mapping[str, str | None]) -> None:
    """Check that the scoring in *folder* has states, and that each of *settings* is its own as well.

    Raises:
        InvalidInput: a setting differs, or the scoring has no states since its head is soft-capped.
        ArtifactCorrupt: its files cannot be read.
    """
    earlier = settings_of(folder)
    if not (folder / HIDDEN).is_file():
        raise _refusal("a scoring without hidden states: its model's head is soft-capped", "one with them")
    for name, wanted in settings.items():
        if earlier.get(name) != wanted:
            was, now = (str(value)[:60] for value in (earlier.get(name), wanted))
            raise _refusal(f"a scoring whose {name} is {was}", f"{now}, as this scoring has it")


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what is on record of how the scoring in *folder* was made: its summary and the facts of its counting.

    Raises:
        ArtifactCorrupt: its files cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        summary = json.loads((folder / "scoring.json").read_text(encoding="utf-8"))
        with safe_open(str(folder / "distribution.safetensors"), framework="numpy") as file:
            return {**(file.metadata() or {}), **summary}
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ArtifactCorrupt(f"the earlier scoring cannot be read: {error}") from error


def _refusal(found: str, expected: str) -> InvalidInput:
    fix = "leave extends out to score every row, or extend a scoring made with the same model, adapter and settings"
    finding = Finding(code="cannot_extend", pointer="/extends", found=found, expected=expected, fix=fix)
    return InvalidInput(f"That scoring cannot be extended: found {found}.", code="cannot_extend", findings=[finding])
