"""What the team's last jobs tell about the next: the pace of this service's machines, whether Q_diff is noise, a hash.

Rows and summaries only; it opens no file.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from deft.planning.documents import Remark
from deft.planning.shapes import Shape
from deft.planning.speed import Device, measured
from store.tables import Artifact, Job, JobInput, Model

LEAST_SECONDS = 1.0
"""A scoring that took less says nothing about throughput."""


class Scoring(NamedTuple):
    """A scoring that has succeeded: its job, its own id, its summary."""

    job_id: str
    id: str
    summary: Mapping[str, Any]


def last_scoring(session: Session, team_id: str, model_id: str, dataset_id: str | None = None) -> Scoring | None:
    """Return the team's last scoring under the model, of that dataset if one is named; None if there is none."""
    statement = (
        select(Job.id, Artifact.id, Artifact.summary)
        .join(Artifact, Artifact.id == Job.artifact_id)
        .where(Job.team_id == team_id, Job.model_id == model_id, Job.kind == "score", Job.status == "succeeded")
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(1)
    )
    if dataset_id is not None:
        own = select(JobInput.job_id).where(JobInput.name == "dataset", JobInput.artifact_id == dataset_id)
        statement = statement.where(Job.id.in_(own))
    found = session.execute(statement).first()
    return None if found is None else Scoring(*found)


def base_hash(session: Session, team_id: str, model: Model) -> str | None:
    """Return the hash of the model's weights: from its registration, else what the team's last job with it recorded.

    None: neither tells; the weights are large, or of the Hub, and have served in no scoring and no training.
    """
    if model.weights_hash is not None:
        return model.weights_hash
    statement = (
        select(Artifact.summary)
        .join(Job, Artifact.id == Job.artifact_id)
        .where(Job.team_id == team_id, Job.model_id == model.id, Job.kind.in_(("score", "train")))
        .where(Job.status == "succeeded")
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(1)
    )
    summary = session.scalars(statement).first()
    found = None if summary is None else summary.get("base_weights_hash")
    return found if isinstance(found, str) else None


def pace_of(scoring: Scoring | None, shape: Shape) -> Device | None:
    """Return what *scoring* reached, None where it does not tell.

    That is: too short, in shards, with states of another, or with an adapter, whose work the shape does not count.
    """
    if scoring is None:
        return None
    summary = scoring.summary
    seconds, tokens = summary.get("seconds", {}).get("score"), summary.get("tokens_scored")
    is_whole = summary.get("is_prompt_shared") and not summary.get("rows_reused") and summary.get("shards", 1) in (0, 1)
    is_whole = is_whole and summary.get("adapter_hash") is None
    if not is_whole or not isinstance(tokens, int) or not isinstance(seconds, int | float) or seconds < LEAST_SECONDS:
        return None
    return measured(2.0 * shape.linear_parameters * tokens / seconds, scoring.job_id)


def noise_in(scoring: Scoring | None) -> list[Remark]:
    """Return what the discrepancy report (M11) of *scoring*, one of the same dataset, warned of."""
    report = None if scoring is None else scoring.summary.get("discrepancy")
    warnings = report.get("warnings") if isinstance(report, dict) else None
    return [
        Remark(code="q_diff_noise", message=f"in the last scoring of this dataset ({scoring.id}): {warning}")
        for warning in warnings or ()
        if scoring is not None
    ]
