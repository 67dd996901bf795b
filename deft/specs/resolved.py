"""A resolved spec as JSON with every default written in, and its hash.

Knows no field but `name`, which is no part of what is asked for.
"""

import hashlib
from typing import Any

from deft.specs.base import Spec


def spec_json(spec: Spec) -> dict[str, Any]:
    """Return *spec* as JSON with every default written in."""
    return spec.model_dump(mode="json")


def spec_hash(spec: Spec) -> str:
    """Return the SHA-256 of the resolved spec, without its name, in hex."""
    document = spec.model_copy(update={"name": None}).model_dump_json()
    return hashlib.sha256(document.encode()).hexdigest()
