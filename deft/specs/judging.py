"""Specs of judging: which language model judges the answers of an evaluation, how it is asked, and by whose labels.

Knows nothing of how a question is worded or sent. A spec holds the name of an endpoint, never its address or key.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deft.specs.base import EachOnce, Id, Seed, Spec

JudgeMode = Annotated[
    Literal["pairwise", "single", "safety"],
    Field(
        description="pairwise: each system's answer beside that of `against`, asked in both orders, which must agree, "
        "or it is a tie; single: each answer alone, from 1 to 10. Of a conversation every turn is judged, with all "
        "that was said before it, as MT-Bench does. safety: what the first answer to each prompt labelled safe or "
        "unsafe does (comply, refuse, refuse in part), for rates of over-refusal and harmful compliance."
    ),
]


class Judge(Spec):
    """A language model behind an OpenAI-compatible endpoint, and how it may be asked."""

    endpoint: Id = Field(description="Name of an endpoint that the operator has set; its address and key stay there.")
    model: str = Field(min_length=1, max_length=200, description="The model's name at that endpoint.")
    temperature: float | None = Field(0.0, ge=0, le=2, description="null: not sent, for models that take none.")
    max_tokens: int = Field(1024, ge=1, le=32_768, description="Of one reply.")
    concurrency: int = Field(4, ge=1, le=64, description="Questions that are open at a time.")
    requests_per_minute: int | None = Field(None, ge=1, description="null: as fast as replies come.")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="Of one try.")
    retries: int = Field(5, ge=0, le=20, description="Of a question after 429, 5xx, a time-out or a lost connection.")


class JudgeSpec(Spec):
    """The answers of an evaluation as a language model judges them, with what is known of that judge."""

    kind: Literal["judge"] = "judge"
    name: str | None = Field(None, max_length=200)
    evaluation: Id = Field(description="An evaluation that has answers, or the job that makes it.")
    judge: Judge
    mode: JudgeMode = "pairwise"
    against: str = Field("base", max_length=80, description="The system that all others are compared with.")
    systems: Annotated[list[Annotated[str, Field(max_length=80)]] | None, EachOnce] = Field(
        None, min_length=1, description="Systems to judge; null: all."
    )
    prompt_sets: Annotated[list[Id] | None, EachOnce] = Field(
        None, min_length=1, description="`held_out`, or prompt sets of the evaluation; null: all."
    )
    prompts: int | None = Field(None, ge=1, description="At most so many prompts of each set, drawn with `seed`.")
    labels: Id | None = Field(
        None,
        description="A dataset of pairs that people ranked, or with mode `safety` a set of answers that people "
        "labelled (format `labelled_answers`): how often the judge agrees with them. Without at least 50 of them the "
        "judge may decide nothing.",
    )
    label_rows: int = Field(100, ge=1, le=10_000, description="At most so many rows of `labels`, drawn with `seed`.")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="Resamples of every interval.")
    seed: Seed = Field(0, description="Of the draws and resamples; replies given for another seed are asked again.")

    @model_validator(mode="after")
    def _has_something_to_compare(self) -> "JudgeSpec":
        if self.mode == "pairwise" and self.systems is not None and set(self.systems) == {self.against}:
            raise ValueError("systems must name one beside `against`")
        return self
