"""R_d of a scoring's responses under another Q_diff, from their stored mean hidden states. Torch-free, loads no model.

R_d is linear in the mean hidden state unless the head is soft-capped: a dot product does it (see
`deft.scoring.projections`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deft import distribution as distributions
from deft.distribution import Distribution
from deft.errors import ArtifactCorrupt, Finding, InvalidInput
from deft.scoring import projections
from deft.scoring.extending import HIDDEN as HIDDEN
from deft.scoring.rescorable import Counted, require_same_tokenizer, require_states


@dataclass(frozen=True, slots=True)
class Rescored:
    """R_d, float64 [S], of a scoring's responses in their order, and the distribution that gave it."""

    r_d: NDArray[np.float64]
    distribution: Distribution


def rescore(scoring: Path, source: Path, weights: Mapping[str, float] | None) -> Rescored:
    """Score the responses of *scoring* by the Q_diff of the folder *source*, a scoring under the same head (or itself).

    *weights* mix the aspects of *source* anew (M12); None takes its Q_diff as it is.

    Raises:
        InvalidInput: the head is soft-capped, the two have another tokenizer or head, or *weights* do not fit.
        ArtifactCorrupt: a file is not what was written.
    """
    own, other = (distributions.load(folder / "distribution.safetensors") for folder in (scoring, source))
    require_states(scoring, "/scoring")
    require_states(source, "/distribution", needs_hidden=False)
    require_same_tokenizer(_counted(own), _counted(other))
    here, there = projections.load(scoring), projections.load(source)
    if not projections.are_of_one_head(here, there):
        raise _refusal(
            "another_head", "/distribution", "a Q_diff seen through another head", "a scoring under the same head",
            "score that dataset with this scoring's model",
        )  # fmt: skip
    if weights is None:
        q_diff, u, facts = other.q_diff, there.u, other.facts
    else:
        q_diff = distributions.mixture(other.aspects, weights)
        u = np.sum([weight * there.aspects[name] for name, weight in weights.items() if weight], axis=0)
        facts = {**other.facts, "aspect_weights": json.dumps(dict(weights))}
    hidden = np.load(scoring / HIDDEN, mmap_mode="r")
    if hidden.ndim != 2 or hidden.shape[1] != len(u):
        raise ArtifactCorrupt(f"{HIDDEN} does not have {len(u)} columns")
    r_d = here.rewards(hidden, u, q_diff)
    return Rescored(r_d, Distribution(other.counts, q_diff, facts, other.aspects))


def _counted(distribution: Distribution) -> Counted:
    return Counted(distribution.facts.get("tokenizer_sha256", ""), len(distribution.q_diff))


def _refusal(code: str, pointer: str, found: str, expected: str, fix: str) -> InvalidInput:
    finding = Finding(code=code, pointer=pointer, found=found, expected=expected, fix=fix)
    return InvalidInput(f"The scoring cannot be used with this Q_diff: found {found}.", code=code, findings=[finding])
