"""How often a reward model is right about held-out pairs, beside the length baseline, and whether that makes it valid.

Numpy only; knows rewards, lengths and prompts, but no model, no file and no job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deft.evaluation.intervals import Array, cluster_sums, estimate, ratio, resample


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval over prompts; None: the data say nothing about that end."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of pairs whose better response has the higher reward, a row counting once by its mean over pairs.

    The length baseline is the better of two rules, to prefer the shorter and to prefer the longer response: a reward
    model *is_valid* where the lower end of its accuracy lies above that.
    """

    accuracy: Share
    baseline: float
    baseline_prefers: Literal["shorter", "longer"]
    pairs: int
    rows: int
    prompts: int

    @property
    def is_valid(self) -> bool:
        """Whether the reward model was shown to know more than lengths."""
        return self.accuracy.low is not None and self.accuracy.low > self.baseline

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "value": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "length_baseline": self.baseline,
            "length_baseline_prefers": self.baseline_prefers,
            "is_valid": self.is_valid,
            "pairs": self.pairs,
            "rows": self.rows,
            "prompts": self.prompts,
        }

    def in_words(self) -> str:
        """Return the numbers in words."""
        share = self.accuracy
        ends = "no interval" if share.low is None else f"95 % interval {share.low:.3f} to {share.high:.3f}"
        words = f"right in {share.value:.3f} of {self.pairs} held-out pairs of {self.prompts} prompts ({ends}), "
        return words + f"preferring the {self.baseline_prefers} response in {self.baseline:.3f}"


def accuracy_of(
    rewards: Sequence[Array], tokens: Sequence[Array], prompts: Sequence[Any], *, bootstrap: int, seed: int
) -> Accuracy:
    """Return the accuracy of *rewards* over n rows of ranked responses, best first.

    Args:
        rewards: of each row, one number a response.
        tokens: of each row, the lengths of its responses.
        prompts: what the rows cluster by.
        bootstrap: resamples of the interval.
        seed: of the resampling.
    """
    right = np.array([share_in_order(row) for row in rewards])
    shorter = np.array([share_in_order(-row) for row in tokens])
    prefers: Literal["shorter", "longer"] = "shorter" if shorter.mean() >= 0.5 else "longer"
    sums = cluster_sums(np.column_stack([right, np.ones_like(right)]), prompts)
    found = estimate(
        resample(sums[None], ratio, resamples=bootstrap, seed=seed), [0], bounds=(0.0, 1.0), is_share=True, seed=seed
    )
    return Accuracy(
        accuracy=Share(found.value, found.low, found.high),
        baseline=float(max(shorter.mean(), 1 - shorter.mean())),
        baseline_prefers=prefers,
        pairs=sum(len(row) * (len(row) - 1) // 2 for row in rewards),
        rows=len(rewards),
        prompts=len(set(prompts)),
    )


def share_in_order(values: Array) -> float:
    """Return the share of all pairs of a list, best first, whose values fall; a tie counts one half."""
    better, worse = np.triu_indices(len(values), k=1)
    return float(((np.sign(values[better] - values[worse]) + 1) / 2).mean())


def by_source(
    rewards: Sequence[Array],
    tokens: Sequence[Array],
    prompts: Sequence[Any],
    sources: Sequence[str | None],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, Accuracy]:
    """Return the accuracy for the rows of each source; empty where all rows have the same."""
    names = sorted({source or "" for source in sources})
    places = {name: [i for i, source in enumerate(sources) if (source or "") == name] for name in names}
    return {
        name: accuracy_of(
            [rewards[i] for i in own],
            [tokens[i] for i in own],
            [prompts[i] for i in own],
            bootstrap=bootstrap,
            seed=seed,
        )
        for name, own in places.items()
        if len(names) > 1
    }
