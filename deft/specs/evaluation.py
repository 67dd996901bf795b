"""Specs of an evaluation: what is measured, which adapters stand in it, and which rows are left out.

Knows nothing of how a metric is counted.
"""

from typing import Annotated, Literal

from pydantic import Field

from deft.specs.base import Id, Seed, Spec
from deft.specs.data import Rows

Metric = Literal[
    "preference_accuracy", "margin", "ranking_accuracy", "r_d_accuracy", "kl", "chosen_logp_change", "length", "bleu"
]
ALL_METRICS: list[Metric] = [
    "preference_accuracy",
    "margin",
    "ranking_accuracy",
    "r_d_accuracy",
    "kl",
    "chosen_logp_change",
    "length",
    "bleu",
]


class EvaluationOptions(Spec):
    """What is measured, and on how much."""

    metrics: list[Metric] = Field(default_factory=lambda: list(ALL_METRICS), min_length=1)
    pairs: int | None = Field(
        None, ge=1, description="Held-out rows judged by likelihood, each with all its responses; null means all."
    )
    prompts: int = Field(64, ge=0, description="Held-out prompts that are answered; 0 switches generation off.")
    max_new_tokens: int = Field(128, ge=1, le=8192)
    beta: float = Field(0.1, gt=0, le=100, description="Of the implicit reward margin.")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of every interval.")
    seed: Seed = 0


class System(Spec):
    """One adapter, or one tuned model, in an evaluation. Systems that share `arm` are draws of one arm."""

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    arm: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9_\-]+$")]
    adapter: Id = Field(description="An adapter, or a tuned model, that was made from `model`.")


class ApartFrom(Spec):
    """Rows that were trained on: a held-out row with the same normalised first user turn is left out, and counted."""

    dataset: Id
    rows: Rows = Rows()
