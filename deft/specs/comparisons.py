"""What a comparison of two evaluations asks for. Knows nothing of their files."""

from typing import Annotated

from pydantic import Field, model_validator

from deft.specs.base import Id, Spec

MetricName = Annotated[str, Field(min_length=1, max_length=80)]
SystemName = Annotated[str, Field(min_length=1, max_length=80)]


class Side(Spec):
    """One system of one evaluation, or one of its arms: then all draws of it; `base` is the model itself."""

    evaluation: Id
    system: SystemName
    judging: Id | None = Field(None, description="A judging of that evaluation, whose numbers take part.")


class ComparisonSpec(Spec):
    """`left` less `right`, metric by metric, where both were measured under like settings."""

    left: Side
    right: Side
    metrics: list[MetricName] | None = Field(None, min_length=1, description="null: all that both sides have.")
    force: bool = Field(
        False, description="Compare in spite of unlike settings; the result is marked, and says which differ."
    )

    @model_validator(mode="after")
    def _are_two(self) -> "ComparisonSpec":
        if self.left == self.right:
            raise ValueError("left and right must differ")
        return self
