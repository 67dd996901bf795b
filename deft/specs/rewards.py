"""Spec of a reward model: the data that it learns from, what it starts from, and how it is trained.

Knows nothing of who will ask the reward model.
"""

from typing import Literal

from pydantic import Field

from deft.specs.base import Fraction, Id, Seed, Spec
from deft.specs.data import Rows, TokenOptions
from deft.specs.training import Lora


class RewardOptimisation(Spec):
    """The optimiser (AdamW) of a reward model. A step is one update over `batch_size` rows."""

    learning_rate: float = Field(5e-5, gt=0, le=1)
    epochs: int = Field(2, ge=1, le=1000)
    batch_size: int = Field(16, ge=1, le=65536, description="Rows of one optimiser step, each with all its responses.")
    max_grad_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.01, ge=0, le=1)
    schedule: Literal["constant", "linear"] = "linear"
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    seed: Seed = Field(0, description="Of the new head, the order of the rows, dropout, and what is held out.")
    checkpoint_steps: int = Field(50, ge=1, description="A resume checkpoint every this many optimiser steps.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the passes; weights are float32. auto: bf16 on a GPU that has it."
    )


class TrainRewardModelSpec(Spec):
    """Train a reward model on preference data (Bradley-Terry): a sequence classifier with one label.

    All pairs of a ranked list are learnt from, each row weighing one.
    """

    kind: Literal["train_reward_model"] = "train_reward_model"
    name: str | None = Field(None, max_length=200)
    dataset: Id
    rows: Rows = Rows(split="reward_model")
    held_out: Fraction = Field(
        0.2, le=0.9, description="Share of the prompts of these rows that is not trained on: its accuracy is printed."
    )
    model: Id = Field(description="An encoder or a decoder, which gets a new head, or a reward model to go on from.")
    lora: Lora | None = Field(
        None, description="null: all weights are tuned; else an adapter, merged into the weights that are handed out."
    )
    optimisation: RewardOptimisation = RewardOptimisation()
    tokens: TokenOptions = TokenOptions()
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of the accuracy's interval.")
