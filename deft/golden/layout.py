"""How the golden vectors are laid out: sections, digits and lines. Knows nothing of their numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
FLOAT64 = 1e-9
"""Largest difference that an implementation in float64 should show, absolute."""


def section(formula: str, says: str, shapes: Mapping[str, str], float32: float, values: Json) -> Json:
    """Return a section: *formula* it shows, in words what it *says*, *shapes*, and what *float32* may differ by."""
    tolerance = {"float32": float32, "float64": min(FLOAT64, float32)}
    return {"formula": formula, "says": says, "shapes": dict(shapes), "tolerance": tolerance, "values": values}


def rounded(value: Any) -> Any:  # noqa: ANN401 -- any JSON
    """Return *value* with 12 significant digits of every float in it."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def as_text(document: dict[str, Any]) -> str:
    """Return *document* as JSON with each list of numbers on one line."""
    text = json.dumps(document, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", _on_one_line, text) + "\n"


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r",\s+", ", ", found[1]) + "]"
