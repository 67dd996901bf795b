"""What a human study asks for: which two systems of an evaluation raters compare, on what, and by which rules.

Knows nothing of raters, rows or pages. The rules are settled when the study is made, before anything is judged.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from deft.specs.base import Id, Seed, Spec, is_blank

Verdict = Literal["1", "tie", "both_bad", "2"]
VERDICTS: tuple[Verdict, ...] = ("1", "tie", "both_bad", "2")
"""What a rater may say of the two responses, as they stand on the page."""

GivenVerdict = Literal["1", "tie", "both_bad", "2", "skip"]
"""A verdict, or that the rater would rather not judge this item."""

GUIDELINES = (
    "Read the prompt and both responses to the end. Choose the response that you would rather have received: correct, "
    "helpful and harmless first, well written second. Longer is not better. Choose 'tie' where both are equally good, "
    "and 'both bad' where neither should have been given. Some items check attention: do what they say."
)
MAX_TEXT = 20_000

SystemName = Annotated[str, Field(min_length=1, max_length=80)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class AttentionItem(Spec):
    """An item with a known answer: whoever reads it prefers *better*."""

    prompt: Text
    better: Text
    worse: Text


class StudySpec(Spec):
    """A blind comparison by people of two systems' stored answers to the same prompts."""

    name: str | None = Field(None, max_length=200)
    evaluation: Id = Field(description="The evaluation whose generations are compared.")
    systems: list[SystemName] = Field(
        min_length=2, max_length=2, description="Names of two of its systems; the win rate is that of the first."
    )
    prompt_set: Id | None = Field(
        None,
        description="A prompt set that the evaluation asked; null: its held-out rows. Of several samples the "
        "first is compared, with all its turns.",
    )
    items: int = Field(100, ge=1, le=2000, description="Prompts that are judged, drawn with the seed.")
    seed: Seed | None = Field(None, description="Draws prompts, sides and orders; null: drawn, and kept.")
    overlap: float = Field(0.3, ge=0, le=1, description="Share of the items that several raters judge.")
    raters_per_overlap: int = Field(2, ge=2, le=20, description="Raters of each of those; the others have one.")
    attention: int = Field(4, ge=0, le=100, description="Items that say themselves what is to be chosen.")
    attention_items: list[AttentionItem] = Field(
        default_factory=list, max_length=100, description="Items of your own with a known answer."
    )
    attention_failures_allowed: int = Field(
        1, ge=0, le=100, description="A rater who fails more attention items than this is left out of the results."
    )
    guidelines: str = Field(GUIDELINES, min_length=1, max_length=MAX_TEXT)
    content_warning: str | None = Field(
        None, min_length=1, max_length=2000, description="Said above items, which stay covered until the rater agrees."
    )
    warn_sources: list[Text] | None = Field(
        None,
        min_length=1,
        description="Warn of rows from these sources (of a prompt set: categories) only; null: of every item.",
    )

    @field_validator("content_warning")
    @classmethod
    def _warns_in_words(cls, value: str | None) -> str | None:
        if value is not None and is_blank(value):
            raise ValueError("a warning in words, not blanks alone: raters see it above what is covered")
        return value

    @field_validator("systems")
    @classmethod
    def _are_two(cls, value: list[str]) -> list[str]:
        if value[0] == value[1]:
            raise ValueError("two different systems")
        return value
