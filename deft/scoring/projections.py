"""Q_diff seen through a model's head: the D-vectors that turn mean hidden states into R_d. Torch-free, loads no model.

    u = W^T Q_diff        R_d = scale * (u . mean h + Q_diff . b)

A scoring keeps u of its own Q_diff and of each aspect's, so that its states can be scored again with any of them, and
with those of another scoring under the same head. Whether two heads are the same is told by a probe: W^T r for one
fixed vector r of signs. Shape letters: S responses, V vocabulary, D hidden width.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft.errors import ArtifactCorrupt
from deft.scoring.rescorable import PROJECTION

SAME_HEAD = 4e-3
"""Largest relative distance of two probes of one head: W rounded to bfloat16 is 1e-3 from W."""

_RESPONSES_PER_BLOCK = 8192

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """*u* [D] is W^T Q_diff, *aspects* the same of each aspect's Q_diff (M12), *probe* [D] W^T r; all float64.

    *bias* float32 [V] and *scale* are the head's own.
    """

    u: Floats
    aspects: Mapping[str, Floats]
    probe: Floats
    bias: NDArray[np.float32] | None = None
    scale: float = 1.0

    def rewards(self, hidden: NDArray[np.float32], u: Floats, q_diff: Floats) -> Floats:
        """M5 from mean hidden states [S, D]: R_d [S], float64, of *q_diff* [V] whose projection is *u*.

        u is rounded to float32 first, as everywhere where R_d is computed.
        """
        offset = 0.0 if self.bias is None else float(q_diff @ self.bias.astype(np.float64))
        direction = u.astype(np.float32).astype(np.float64)
        found = np.empty(len(hidden))
        for start in range(0, len(hidden), _RESPONSES_PER_BLOCK):
            block = slice(start, start + _RESPONSES_PER_BLOCK)
            found[block] = hidden[block].astype(np.float64) @ direction
        return self.scale * (found + offset)


def probe_vector(vocabulary_size: int) -> Floats:
    """Return the fixed vector r of signs, float64 [V]: the same in every version and on every machine."""
    digest = hashlib.shake_256(b"deft: which head is this").digest((vocabulary_size + 7) // 8)
    bits = np.unpackbits(np.frombuffer(digest, np.uint8))[:vocabulary_size]
    return bits.astype(np.float64) * 2 - 1


def are_of_one_head(one: Projection, other: Projection) -> bool:
    """Return whether two projections went through the same matrix W, up to the rounding of a 16-bit type."""
    if one.probe.shape != other.probe.shape:
        return False
    return bool(np.linalg.norm(one.probe - other.probe) <= SAME_HEAD * np.linalg.norm(one.probe))


def save(folder: Path, projection: Projection) -> None:
    """Write *projection* to *folder*."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[Any]] = {"u": projection.u, "probe": projection.probe}
    if projection.aspects:
        tensors["aspects"] = np.stack(list(projection.aspects.values()))
    if projection.bias is not None:
        tensors["bias"] = projection.bias
    facts = {"aspects": json.dumps(list(projection.aspects)), "scale": repr(projection.scale)}
    save_file(tensors, str(folder / PROJECTION), metadata=facts)


def load(folder: Path) -> Projection:
    """Read what `save` wrote to *folder*.

    Raises:
        ArtifactCorrupt: the file is not such a projection.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(folder / PROJECTION), framework="numpy") as file:
            facts = file.metadata()
            names: list[str] = json.loads(facts["aspects"])
            rows = file.get_tensor("aspects") if names else []
            bias = file.get_tensor("bias") if "bias" in set(file.keys()) else None
            aspects = dict(zip(names, rows, strict=True))
            return Projection(file.get_tensor("u"), aspects, file.get_tensor("probe"), bias, float(facts["scale"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ArtifactCorrupt(f"{PROJECTION} is not a projection: {error}") from error
