"""Specs of data: how an example becomes tokens, which rows an operation works on, and which of them are kept.

Formula numbers M1..M12 are those of `docs/method.md`. Knows no job and no optimiser.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from deft.specs.base import Fraction, Seed, Spec

SplitName = Literal["train", "reward_model", "evaluation"]
End = Literal["lowest", "highest", "random", "length"]
Gate = Annotated[
    Literal["warn", "pause", "off"],
    Field(
        description="M11: where Q_diff may be noise (p > 0.05, split-half correlation below 0.5, fewer than 400 "
        "examples), warn says so in the scoring and in the verdict's first lines; pause also pauses the scoring, "
        "before the model is loaded, until it is resumed; off says nothing."
    ),
]
AspectWeights = Annotated[
    dict[Annotated[str, Field(max_length=200)], Annotated[float, Field(ge=0, le=100)]],
    Field(
        min_length=1,
        max_length=32,
        description="M12: Q_diff = sum_a w_a Q_diff_a, each counted on the rows of that aspect alone (the empty name: "
        "rows without one); an aspect that is not named has weight 0.",
    ),
]


class TokenOptions(Spec):
    """How an example becomes token ids."""

    max_prompt_tokens: int = Field(384, ge=1, le=1_000_000, description="The prompt is cut on the left to this.")
    max_total_tokens: int = Field(
        512, ge=2, le=1_000_000, description="Prompt and response are cut on the right to this."
    )
    template: Literal["auto", "hh", "chat", "plain"] = Field(
        "auto",
        description="hh: the prompt ends in `Assistant:`, the response gets one leading space; chat: the tokenizer's "
        "chat template; plain: texts as they are; auto: hh or plain for text by its end, chat for messages.",
    )

    @model_validator(mode="after")
    def _leaves_room_for_a_response(self) -> "TokenOptions":
        if self.max_prompt_tokens >= self.max_total_tokens:
            raise ValueError("max_prompt_tokens must be smaller than max_total_tokens, or no response token is left")
        return self


class SplitFractions(Spec):
    """Shares of the splits, by hash of the normalised first user turn; they sum to 1."""

    train: float = Field(0.8, ge=0, le=1)
    reward_model: float = Field(0.1, ge=0, le=1)
    evaluation: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SplitFractions":
        if abs(self.train + self.reward_model + self.evaluation - 1) > 1e-9:
            raise ValueError("train, reward_model and evaluation must sum to 1")
        return self


class Rows(Spec):
    """Which rows of a dataset an operation works on: one split or all, then a seeded sample."""

    split: SplitName | Literal["all"] = "all"
    fractions: SplitFractions = SplitFractions()
    sample: int | None = Field(None, ge=1, description="At most this many rows, drawn with `seed`; null means all.")
    seed: Seed = 0


Quota = (
    Literal["none", "proportional", "equal"]
    | Annotated[dict[Annotated[str, Field(max_length=200)], Fraction], Field(min_length=1, max_length=256)]
)


class Selection(Spec):
    """M6: which of the scored examples are kept."""

    keep: Fraction | Literal["auto"] = Field(
        "auto", description="A fraction, or auto: the largest of 5 %, 1,000 examples and what 100 optimiser steps need."
    )
    count: int | None = Field(None, ge=1, description="What `auto` came to; takes precedence over `keep` when given.")
    end: End = Field("lowest", description="Which end of R_d is kept; random and length (longest chosen) are controls.")
    by: Literal["chosen", "rejected", "margin", "length_adjusted"] = Field(
        "chosen",
        description="Whose R_d ranks the examples; margin: chosen less rejected; length_adjusted: of the chosen "
        "response, less what a straight line over its number of tokens explains.",
    )
    quota: Quota = Field(
        "none",
        description="How many of the kept examples each source gives: none looks at all together, proportional keeps "
        "the sources' shares, equal gives all the same, or shares by source that sum to 1 (the empty name: rows "
        "without a source). A source with too few rows gives all it has, the others share the rest.",
    )
    seed: Seed = Field(0, description="Of the random end.")

    @field_validator("quota")
    @classmethod
    def _shares_sum_to_one(cls, value: Quota) -> Quota:
        if isinstance(value, dict) and abs(sum(value.values()) - 1) > 1e-9:
            raise ValueError(f"shares that sum to 1, not to {sum(value.values()):g}")
        return value
