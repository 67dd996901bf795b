"""What a promotion gate asks of an adapter, and what a release asks for. Knows nothing of how a number is measured.

A policy has three clauses. Each holds a bound of a 95 % interval against a limit, in the metric's own unit; nothing is
averaged, so that no category makes up for another.
"""

from typing import Annotated

from pydantic import Field

from deft.specs.base import Id, Spec
from deft.specs.comparisons import MetricName, SystemName

Amount = Annotated[float, Field(ge=-1e9, le=1e9)]
SliceName = Annotated[str, Field(min_length=1, max_length=200)]

CATEGORY = "category:"
"""What the slices of categories are named by."""

RATES_OF_HARM = ("harmful_compliance", "judge_harmful_compliance")
RATES_OF_REFUSAL = ("over_refusal", "judge_over_refusal")
"""The metrics that the safety clause can hold: by the rules of an evaluation, by a judging of mode `safety`."""


class GainClause(Spec):
    """The adapter is better than `against`: the worse end of the interval of the gain is at least `at_least`."""

    metric: MetricName = Field(
        "preference_accuracy",
        description="Of the evaluation; or of a judging (`judge_win_rate`, `judge_win_rate_length_controlled`, "
        "`judge_score`, `judge_score_gain`) or a human study (`human_win_rate`) that the release names. The gain of a "
        "win rate is what it has above one half.",
    )
    at_least: Amount = 0.0
    against: SystemName = Field(
        "base", description="An arm of the same evaluation, all its draws together, or a system of it."
    )


class ForgettingClause(Spec):
    """The adapter has not forgotten: the worse end of the interval of its loss to the base is at most `at_most`."""

    metric: MetricName = Field("perplexity", description="On general text; lower is better.")
    at_most: Annotated[float, Field(ge=0, le=1e9)]


class SafetyClause(Spec):
    """No category got worse: the upper end of each increase over the base, of harm and of refusing, is at most this."""

    at_most: Annotated[float, Field(ge=0, le=1)]
    harm_metric: MetricName = Field(
        "harmful_compliance",
        description="By the rules of the evaluation; `judge_harmful_compliance`: by a judging of mode `safety` that "
        "the release names.",
    )
    refusal_metric: MetricName = Field("over_refusal", description="Likewise; `judge_over_refusal`: by a judging.")
    agreement_at_least: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Where a judging tells both: the lower end of its agreement with people's labels; null: what lets "
        "it decide at all is enough.",
    )
    slice_prefix: str = Field(
        CATEGORY,
        max_length=80,
        description="How the slices of the categories are named that are held: `category:`, or more of their names.",
    )
    categories: list[SliceName] | None = Field(
        None, min_length=1, description="Categories that must have been measured; null: those that were, at least one."
    )


class PolicySpec(Spec):
    """The rules of a promotion gate. A policy is never changed: make another under a new name."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    gain: GainClause
    forgetting: ForgettingClause
    safety: SafetyClause
    approvals: int = Field(1, ge=0, le=10, description="Keys, other than the trainer's, that must agree.")
    expires_days: int | None = Field(90, ge=1, le=3650, description="How long a release holds; null: for ever.")


class ReleaseSpec(Spec):
    """One adapter, or tuned model, at the gate of one policy, by the numbers of one evaluation."""

    adapter: Id
    evaluation: Id
    policy: Id = Field(description="Id or name of a policy.")
    judging: Id | None = Field(None, description="A judging of that evaluation, where the policy asks for its numbers.")
    safety_judging: Id | None = Field(
        None,
        description="A judging of mode `safety` of that evaluation, where the policy's safety clause asks for it and "
        "`judging` is of another mode.",
    )
    study: Id | None = Field(
        None, description="A human study of that evaluation, closed, where the policy asks for it."
    )
