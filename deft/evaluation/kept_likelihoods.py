"""Likelihoods that an earlier evaluation on this machine computed, taken again for the very same rows and system.

One file holds all rows of one system: its context is everything that the numbers depend on to the last bit, the number
of threads included, since rows of similar length share forward passes. It knows scores and files, no model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from deft import cache
from deft.evaluation.metrics import PairScores
from deft.tokens import TokenizedExample

_FOLDER = "likelihoods"

_WAY = 1
"""Another number whenever what computes likelihoods changes in its last digits."""


@dataclass(frozen=True, slots=True)
class KeptLikelihoods:
    """Scores by what they are of, below *root* (None: nowhere); *facts* are what all of a run depend on."""

    root: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def context(self, system: str, examples: Sequence[TokenizedExample], direction: str) -> dict[str, str]:
        """Return all that the scores of *examples* under *system* depend on.

        *system* is the hash of its files, empty of the base; *direction* that of what R_d is computed by, or empty.
        """
        ids = json.dumps([[each.prompt_ids, each.response_ids, each.is_cut] for each in examples])
        rows = hashlib.sha256(ids.encode()).hexdigest()
        return {**self.facts, "system": system, "rows": rows, "direction": direction, "way": str(_WAY)}

    def take(self, context: Mapping[str, str]) -> PairScores | None:
        """Return the scores of *context*, None where there are none."""
        if self.root is None:
            return None
        found = [_read(content, context) for content in cache.contents(cache.folder_of(self._all, context))]
        return next((scores for scores in found if scores is not None), None)

    def put(self, context: Mapping[str, str], scores: PairScores) -> None:
        """Keep *scores* under *context*, and let go of those used longest ago where there are too many.

        Raises:
            OSError: they cannot be written.
        """
        if self.root is None:
            return
        columns = {each.name: getattr(scores, each.name) for each in fields(PairScores)}
        arrays = {name: np.ascontiguousarray(column) for name, column in columns.items() if column is not None}
        cache.put(cache.folder_of(self._all, context), save({**arrays, "context": _digest(context)}))
        cache.forget_oldest(self._all)

    @property
    def _all(self) -> Path:
        if self.root is None:
            raise AssertionError("nothing is kept nowhere")
        return self.root / _FOLDER


def _digest(context: Mapping[str, str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(cache.name_of(context)), dtype=np.uint8)


def _read(content: bytes, context: Mapping[str, str]) -> PairScores | None:
    """Return the scores in *content*; None where they are not of *context*, or no scores."""
    try:
        found: dict[str, Any] = load(content)
        is_of_it = np.array_equal(found.pop("context"), _digest(context))
        return PairScores(**found) if is_of_it else None
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
