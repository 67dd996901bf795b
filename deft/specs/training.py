"""Specs of training: the method, the reward term, LoRA, the optimiser and the drift budget.

Formula numbers M7..M10 are those of `docs/method.md`. Knows no job and no data.
"""

from typing import Annotated, Literal

from pydantic import Field

from deft.specs.base import Id, Quantisation, Seed, Spec

Tracker = Literal["clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb"]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class SftMethod(Spec):
    """Supervised fine-tuning on the chosen response: the sum over response tokens / their number in the step."""

    type: Literal["sft"] = "sft"


class DpoMethod(Spec):
    """M7: direct preference optimisation (arXiv 2305.18290, eq. 7)."""

    type: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, le=100)
    rejected: Literal["last", "second"] = Field(
        "last", description="Which response of a longer list stands against the best; of a pair both are the same."
    )


class ProMethod(Spec):
    """M8: preference ranking optimisation over all responses (arXiv 2306.17492). It needs no reference model."""

    type: Literal["pro"] = "pro"
    sft_weight: float = Field(0.05, ge=0, le=1000, description="w of the term w * (N-1)^2 * NLL(y_1).")
    rewards: Literal["auto", "scores", "ranks"] = Field(
        "auto",
        description="Where r_k comes from. scores: the rows' own; ranks: gaps of 1; auto: scores where every row has "
        "them, else ranks.",
    )


Method = Annotated[SftMethod | DpoMethod | ProMethod, Field(discriminator="type")]


class RewardTerm(Spec):
    """M9 and M10: the distribution reward in the loss, L = L_base - omega * R_d(x, y+)."""

    omega: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = "auto"
    omega_from: Id | None = Field(
        None, description="A calibration (or the job that makes it) that `auto` takes its value from: arms share it."
    )


class Lora(Spec):
    """Settings of the LoRA adapter (arXiv 2106.09685)."""

    r: int = Field(16, ge=1, le=256)
    alpha: float = Field(32.0, gt=0, le=4096)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1)] = Field(
        "all-linear", description="Suffixes of module names, for example q_proj; all-linear leaves out the head."
    )


LoraOrNull = Annotated[
    Lora | None,
    Field(
        description="null: no adapter, all weights are tuned. Then the output is a whole model (`tuned_model`), the "
        "reference is the model before the first step, and the weights are held in float32."
    ),
]


class Optimisation(Spec):
    """The optimiser and its schedule. A step is one optimiser update over `batch_size` examples."""

    learning_rate: float = Field(1e-4, gt=0, le=1)
    epochs: int = Field(1, ge=1, le=1000)
    batch_size: int = Field(8, ge=1, le=65536, description="Examples of one optimiser step.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Examples of one forward pass; null: decided by memory."
    )
    max_grad_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(0.0, ge=0, le=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    seed: Seed = 0
    checkpoint_steps: int = Field(20, ge=1, description="A resume checkpoint every this many optimiser steps.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    quantisation: Quantisation = "none"
    attention: Literal["auto", "sdpa", "flex", "flash"] = Field(
        "auto",
        description="What computes attention; auto: the model's own, scaled dot product where it has it. flex and "
        "flash need a GPU and are tried against it before the first step; flash gives every response a row of its own.",
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Layers keep their input alone and are computed again in the backward pass: less memory, about a "
        "third more time, the same losses. auto: on a GPU where one example does not fit without it.",
    )
    row_weights: bool = Field(
        True,
        description="Weigh every row by its `weight` (1 where it has none): the loss of a step is the weighted mean.",
    )


Limit = Annotated[float, Field(gt=0)] | None


class Drift(Spec):
    """The drift budget: how far from its start a policy may move on a few fixed examples before its job pauses."""

    every: int = Field(10, ge=1, description="Optimiser steps between two looks; the last step is always looked at.")
    examples: int = Field(8, ge=1, le=1024, description="Examples of the training data, drawn with the run's seed.")
    max_kl: Limit | Literal["auto"] = Field(
        "auto",
        description="KL to the reference, nats a token; auto: 1 for DPO, 3 for SFT and PRO, whose likelihood term is "
        "meant to move the policy; null: no limit, here and below.",
    )
    max_entropy_change: Limit = Field(0.5, description="Of the next token's entropy, as a share of that at the start.")
    max_length_change: Limit = Field(0.5, description="Of the expected length, as a share of that at the start.")
    max_r_d_change: Limit = Field(None, description="Of R_d; the reward term is meant to raise it, so none by default.")


class SftStage(Spec):
    """A supervised fine-tuning on the best responses, before anything is scored: what the arms then start from."""

    optimisation: Optimisation | None = Field(
        None, description="Of this stage; null: as the arms'. Precision and quantisation are always the arms'."
    )
    sample: int | None = Field(
        None, ge=1, description="Train on a seeded sample of the train split; null: on all of it."
    )
    drift: Drift | None = Field(Drift(), description="Of this stage; null: drift is not looked at.")
