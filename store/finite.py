"""Numbers that JSON and every database can hold: NaN and the infinities become null."""

import math
from typing import Any


def finite(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """Return *value* (JSON) with each number that is not finite replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
