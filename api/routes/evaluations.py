"""`/v1/evaluations` by what they measured, and `/v1/leaderboard`. One evaluation: `api.routes.artifacts`."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.documents import PageDocument
from api.evaluation_documents import (
    LeaderboardDocument,
    ScoredEvaluationDocument,
    board_document,
    scored_document,
)
from api.lists import DEFAULT_LIMIT, After, Limit, Order
from api.services import CallerOf, Reading
from deft.evaluation.directions import better_of
from store import evaluations, recalls
from store.evaluations import Measured

router = APIRouter(tags=["evaluations"])

Name = Annotated[str | None, Query(max_length=200)]
Slice = Annotated[str, Query(max_length=210, description="Part of the rows, for example `source:helpful`.")]


@router.get("/evaluations")
def list_evaluations(
    session: Reading,
    caller: CallerOf,
    model: Annotated[str | None, Query(max_length=64, description="A base model's id or name.")] = None,
    dataset: Annotated[str | None, Query(max_length=64, description="The dataset whose rows were asked.")] = None,
    adapter: Annotated[str | None, Query(max_length=64, description="An adapter or tuned model in it.")] = None,
    metric: Name = None,
    system: Name = None,
    arm: Name = None,
    settings_hash: Name = None,
    slice: Slice = "all",  # noqa: A002 - the parameter's name
    limit: Limit = DEFAULT_LIMIT,
    after: After = None,
    order: Order = "desc",
) -> PageDocument[ScoredEvaluationDocument]:
    """List the team's evaluations with their scores and their judgings'; each filter that is given must match."""
    measured = Measured(metric, system, arm, settings_hash, slice)
    page = evaluations.page(
        session,
        caller.team_id,
        model=model,
        dataset=dataset,
        adapter=adapter,
        measured=measured,
        limit=limit,
        after=after,
        order=order,
    )
    found = evaluations.scored(session, caller.team_id, page.items, measured)
    data = [scored_document(one) for one in found]
    return PageDocument(data=data, has_more=page.has_more, next_cursor=page.next_cursor)


@router.get("/leaderboard")
def get_leaderboard(
    session: Reading,
    caller: CallerOf,
    metric: Annotated[str, Query(min_length=1, max_length=200)] = "preference_accuracy",
    model: Annotated[str | None, Query(max_length=64, description="A base model's id or name.")] = None,
    settings_hash: Name = None,
    slice: Slice = "all",  # noqa: A002 - the parameter's name
    order: Annotated[Order | None, Query(description="Left out: the metric's better end comes first.")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> LeaderboardDocument:
    """Rank the team's adapters by one metric, only among evaluations of like settings."""
    found = evaluations.leaderboard(
        session, caller.team_id, metric, model=model, settings_hash=settings_hash, part=slice, order=order
    )
    recalled = recalls.recalled(session, caller.team_id)
    boards = [board_document(board, recalled, limit) for board in found]
    return LeaderboardDocument(metric=metric, better=better_of(metric), slice=slice, boards=boards)
