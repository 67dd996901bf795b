"""The JSON objects of scores, leaderboards and comparisons."""

from collections.abc import Set
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.documents import ArtifactDocument, Document, artifact_document
from deft.evaluation.leaderboard import Board, Place
from store.evaluations import Scored
from store.release_tables import Comparison
from store.scores import study_in
from store.tables import Score


class ScoreDocument(Document):
    """One number of an evaluation with its 95 % interval."""

    system: str
    arm: str | None
    adapter_id: str | None
    judging_id: str | None = Field(description="The judging that says so; null: none.")
    study_id: str | None = Field(description="The closed human study that says so; null: none.")
    metric: str
    slice: str
    value: float | None
    n: int | None
    low: float | None
    high: float | None
    is_trained_on: bool
    is_valid: bool = Field(description="False: what it was measured with is not good enough, so it decides nothing.")
    settings_hash: str | None = Field(description="Equal hashes: the numbers may be compared.")


class ScoredEvaluationDocument(ArtifactDocument):
    """An evaluation in a list, with those of its scores that the filters mean."""

    scores: list[ScoreDocument]


class PlaceDocument(Document):
    """An adapter's place; the intervals leave it anywhere from `best_rank` to `worst_rank`."""

    rank: int | None = Field(
        description="By the metric's better end; null: it has none, or training aimed at it, or it is not valid."
    )
    best_rank: int | None
    worst_rank: int | None
    adapter_id: str
    is_recalled: bool
    evaluation_id: str
    judging_id: str | None
    study_id: str | None
    metric: str = Field(description="The score's own: `reward:rm_...` where `reward` was asked for.")
    system: str
    arm: str | None
    value: float
    low: float | None
    high: float | None
    n: int | None
    measured_at: datetime


class BoardDocument(Document):
    """The adapters that were measured under the same settings."""

    settings_hash: str
    places: list[PlaceDocument]


class LeaderboardDocument(Document):
    """A team's adapters by one metric; numbers of unlike settings stand on boards of their own."""

    metric: str
    better: Literal["higher", "lower"] | None = Field(description="null: neither end is better, and nobody ranks.")
    slice: str
    boards: list[BoardDocument]


class SideDocument(Document):
    """What one side measured: of the draws of an arm their mean."""

    systems: list[str] = Field(default_factory=list, description="One, or the draws of an arm.")
    value: float
    low: float | None
    high: float | None
    n: int | None
    may_decide: bool = Field(description="False: its training aimed at this metric, or it is not valid.")


class ComparedDocument(Document):
    """`left` less `right` in one metric."""

    left: SideDocument
    right: SideDocument
    difference: float
    low: float | None
    high: float | None
    is_paired: bool = Field(description="False: the interval is made of the two, and rather too long.")
    has_luck: bool = Field(
        False, description="True: the interval knows what chance in a training run does, from arms with several draws."
    )
    p: float | None = Field(
        None, description="Of no difference, by swapping the sides prompt by prompt; null: unpaired."
    )
    p_adjusted: float | None = Field(None, description="After Holm's correction for `comparisons` metrics.")
    comparisons: int = Field(0, description="Metrics of this comparison that have a p.")
    effect_size: float | None = Field(None, description="In standard deviations of prompts; null: unpaired.")
    is_comparable: bool
    differing_settings: list[str]


class DifferingSetting(Document):
    """A setting that the two evaluations do not share."""

    left: Any
    right: Any
    metrics: list[str]


class ComparisonDocument(Document):
    """Two systems of two evaluations set against each other."""

    id: str
    spec: dict[str, Any]
    is_forced: bool = Field(description="True: settings differ, so the differences below may be theirs.")
    differing_settings: dict[str, DifferingSetting]
    metrics: dict[str, ComparedDocument]
    created_at: datetime


Direction = Literal["asc", "desc"]


def scored_document(found: Scored) -> ScoredEvaluationDocument:
    """Return the evaluation with its scores."""
    scores = [score_document(score, found) for score in found.scores]
    return ScoredEvaluationDocument(**artifact_document(found.artifact).model_dump(), scores=scores)


def score_document(row: Score, found: Scored) -> ScoreDocument:
    """Return *row* of an evaluation, or of a judging or a study of it, with the adapter that its system was."""
    return ScoreDocument(
        system=row.system,
        arm=row.arm,
        adapter_id=found.adapters.get(row.system),
        judging_id=None if row.artifact_id == found.artifact.id else row.artifact_id,
        study_id=study_in(row.metric),
        metric=row.metric,
        slice=row.slice,
        value=row.value,
        n=row.n,
        low=row.low,
        high=row.high,
        is_trained_on=row.is_trained_on,
        is_valid=row.is_valid,
        settings_hash=row.settings_hash,
    )


def board_document(board: Board, recalled: Set[str], limit: int) -> BoardDocument:
    """Return the first *limit* places of *board*."""
    places = [_place(place, place.entry.adapter_id in recalled) for place in board.places[:limit]]
    return BoardDocument(settings_hash=board.settings_hash, places=places)


def _place(place: Place, is_recalled: bool) -> PlaceDocument:
    entry = place.entry
    return PlaceDocument(
        rank=place.rank,
        best_rank=place.best_rank,
        worst_rank=place.worst_rank,
        adapter_id=entry.adapter_id,
        is_recalled=is_recalled,
        evaluation_id=entry.evaluation_id,
        judging_id=entry.judging_id,
        study_id=entry.study_id,
        metric=entry.metric,
        system=entry.system,
        arm=entry.arm,
        value=entry.value,
        low=entry.low,
        high=entry.high,
        n=entry.n,
        measured_at=entry.measured_at,
    )


def comparison_document(row: Comparison) -> ComparisonDocument:
    """Return *row* as callers see it."""
    return ComparisonDocument.model_validate(
        {"id": row.id, "spec": row.spec, "created_at": row.created_at, **row.result}
    )
