"""Evaluations by what they measured, and the leaderboard over a team's adapters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, aliased

from deft.errors import Finding, InvalidInput, NotFound, shown
from deft.evaluation.directions import BETTER, better_of, is_known, told_by
from deft.evaluation.leaderboard import Board, Entry, boards
from store import judgings, models
from store.paging import Order, Page, page_of
from store.scores import FAMILIES, study_in
from store.study_tables import Study
from store.tables import Artifact, Job, JobInput, Score

ADAPTER_INPUT = "adapter."
MOST_SCORES = 20_000
"""Scores that one leaderboard is made of, the newest; more would be asked for by model or settings hash."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Which scores are meant; None: any. *part* is the slice."""

    metric: str | None = None
    system: str | None = None
    arm: str | None = None
    settings_hash: str | None = None
    part: str = "all"


@dataclass(frozen=True, slots=True)
class Scored:
    """An evaluation with its scores and those of its judgings and studies, and by system the adapter that it was."""

    artifact: Artifact
    scores: list[Score]
    adapters: dict[str, str]


def page(
    session: Session,
    team_id: str,
    *,
    model: str | None = None,
    dataset: str | None = None,
    adapter: str | None = None,
    measured: Measured | None = None,
    limit: int = 50,
    after: str | None = None,
    order: Order = "desc",
) -> Page[Artifact]:
    """Return a page of the team's evaluations; each filter that is given must match, of scores those of judgings too.

    Raises:
        InvalidInput: `limit` is out of range, `after` is no item of this list, or there is no such *model* or metric.
    """
    own = statement = select(Artifact).where(Artifact.team_id == team_id, Artifact.kind == "evaluation")
    if model is not None:
        jobs = select(Job.id).where(Job.team_id == team_id, Job.model_id == _model_id(session, team_id, model))
        statement = statement.where(Artifact.job_id.in_(jobs))
    if dataset is not None:
        statement = statement.where(Artifact.job_id.in_(_jobs_with(team_id, dataset).where(JobInput.name == "dataset")))
    if adapter is not None:
        named = _jobs_with(team_id, adapter).where(JobInput.name.startswith(ADAPTER_INPUT))
        statement = statement.where(Artifact.job_id.in_(named))
    if measured is not None and measured != Measured():
        if measured.metric is not None:
            require_known(measured.metric)
        own_scores = _narrowed(select(Score.artifact_id).where(Score.team_id == team_id), measured)
        judged = _narrowed(judgings.scored_evaluations(team_id), measured)
        statement = statement.where(or_(Artifact.id.in_(own_scores), Artifact.id.in_(judged)))
    return page_of(session, statement, Artifact, limit, after, order, cursors=own)


def scored(session: Session, team_id: str, rows: Sequence[Artifact], measured: Measured) -> list[Scored]:
    """Return the evaluations *rows* with those of their scores, and of their judgings', that are meant."""
    evaluation_of = {row.id: row.id for row in rows}
    judged = session.execute(judgings.of_evaluations(team_id, list(evaluation_of)))
    evaluation_of |= {judging.id: evaluation_id for judging, evaluation_id in judged if evaluation_id is not None}
    own = select(Score).where(Score.team_id == team_id, Score.artifact_id.in_(list(evaluation_of)))
    order = (Score.metric, Score.system, Score.slice, Score.artifact_id)
    by_evaluation: dict[str, list[Score]] = {}
    for score in session.scalars(_narrowed(own, measured).order_by(*order)):
        by_evaluation.setdefault(evaluation_of[score.artifact_id], []).append(score)
    adapters = adapters_of(session, team_id, (row.job_id for row in rows if row.job_id is not None))
    return [Scored(row, by_evaluation.get(row.id, []), adapters.get(row.job_id or "", {})) for row in rows]


def adapters_of(session: Session, team_id: str, job_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return for each of the evaluations' jobs the adapter of each system, by its name, in the order of the spec."""
    ids = list(job_ids)
    own = select(Job.id, Job.spec).where(Job.team_id == team_id, Job.id.in_(ids))
    specs = {row.id: row.spec for row in session.execute(own)}
    named = select(JobInput.job_id, JobInput.name, JobInput.artifact_id)
    named = named.where(JobInput.team_id == team_id, JobInput.job_id.in_(ids), JobInput.name.startswith(ADAPTER_INPUT))
    rows = [(job_id, int(name.removeprefix(ADAPTER_INPUT)), own) for job_id, name, own in session.execute(named)]
    found: dict[str, dict[str, str]] = {}
    for job_id, place, artifact_id in sorted(rows, key=lambda row: row[:2]):
        if artifact_id is not None:
            found.setdefault(job_id, {})[specs[job_id]["systems"][place]["name"]] = artifact_id
    return found


def require_each_adapter_once(inputs: Iterable[JobInput]) -> None:
    """Check that an evaluation with these *inputs* measures each adapter as one system, named by its id or its job.

    Raises:
        InvalidInput: `named_twice`: one is named by two systems.
    """
    first: dict[str | None, JobInput] = {}
    for each in (each for each in inputs if each.name.startswith(ADAPTER_INPUT)):
        other = first.setdefault(each.artifact_id or each.input_job_id, each)
        if other is not each:
            found = f"{each.reference}, which {other.pointer} names already"
            fix = "leave one out; two ways to generate are two evaluations"
            finding = Finding("named_twice", found, "every adapter once", fix, each.pointer)
            raise InvalidInput("an adapter is named by two systems", code="named_twice", findings=[finding])


def leaderboard(
    session: Session,
    team_id: str,
    metric: str,
    *,
    model: str | None = None,
    settings_hash: str | None = None,
    part: str = "all",
    order: Order | None = None,
) -> list[Board]:
    """Return the team's adapters ranked by *metric*, one board for each settings hash, the newest first.

    *order* lists them by value, whichever end is the better one; None: the better end first.

    Raises:
        InvalidInput: there is no such *model*, or no such *metric*.
    """
    require_known(metric)
    measured = Measured(metric=metric, settings_hash=settings_hash, part=part)
    scores = _scores_of_judgings if told_by(metric) == "judging" else _scores_of_evaluations
    evaluation = aliased(Artifact)
    statement = _narrowed(scores(evaluation), measured)
    statement = statement.where(Score.team_id == team_id, Score.value.is_not(None), Score.settings_hash.is_not(None))
    if model is not None:
        jobs = select(Job.id).where(Job.team_id == team_id, Job.model_id == _model_id(session, team_id, model))
        statement = statement.where(evaluation.job_id.in_(jobs))
    order_of_scores = (Artifact.created_at.desc(), Artifact.id.desc(), Score.system, Score.metric)
    newest = statement.order_by(*order_of_scores).limit(MOST_SCORES)
    found = session.execute(newest).all()
    adapters = adapters_of(session, team_id, {evaluation.job_id for _, _, evaluation in found if evaluation.job_id})
    closed = _closed(session, {study_in(score.metric) for score, _, _ in found})
    entries = [
        _entry(score, source, evaluation, adapters[evaluation.job_id][score.system], closed)
        for score, source, evaluation in found
        if evaluation.job_id is not None and score.system in adapters.get(evaluation.job_id, {})
    ]
    return boards(entries, better=better_of(metric), order=order)


def _scores_of_evaluations(evaluation: Any) -> "Select[Any]":  # noqa: ANN401 -- an alias of Artifact
    """Return the statement for (score, the evaluation it stands in, the same again)."""
    both = select(Score, Artifact, evaluation).join(Artifact, Artifact.id == Score.artifact_id)
    return both.join(evaluation, evaluation.id == Artifact.id).where(Artifact.kind == "evaluation")


def _scores_of_judgings(evaluation: Any) -> "Select[Any]":  # noqa: ANN401 -- an alias of Artifact
    """Return the statement for (score, the judging it stands in, the evaluation that was judged)."""
    both = select(Score, Artifact, evaluation).join(Artifact, Artifact.id == Score.artifact_id)
    both = both.join(JobInput, JobInput.job_id == Artifact.job_id).where(JobInput.name == judgings.JUDGED_INPUT)
    return both.join(evaluation, evaluation.id == JobInput.artifact_id).where(Artifact.kind == "judging")


def require_known(metric: str) -> None:
    """Check that scores may be of *metric*.

    Raises:
        InvalidInput: `unknown_metric`: there is none of that name.
    """
    if not is_known(metric):
        expected = f"one of {', '.join(BETTER)}; of one that is there several times `<metric>:<of what>`"
        finding = Finding("unknown_metric", shown(metric), expected, "name one of these", column="metric")
        raise InvalidInput(f"there is no such metric: {expected}", code="unknown_metric", findings=[finding])


def _closed(session: Session, study_ids: Iterable[str | None]) -> dict[str | None, datetime]:
    """Return when each of the studies was closed."""
    own = select(Study.id, Study.closed_at).where(Study.id.in_([each for each in study_ids if each is not None]))
    return {study_id: closed_at for study_id, closed_at in session.execute(own) if closed_at is not None}


def _entry(
    score: Score, source: Artifact, evaluation: Artifact, adapter_id: str, closed: Mapping[str | None, datetime]
) -> Entry:
    study_id = study_in(score.metric)
    return Entry(
        adapter_id=adapter_id,
        evaluation_id=evaluation.id,
        system=score.system,
        arm=score.arm,
        value=score.value or 0.0,
        low=score.low,
        high=score.high,
        n=score.n,
        settings_hash=score.settings_hash or "",
        may_rank=score.is_valid and not score.is_trained_on,
        measured_at=closed.get(study_id, source.created_at),
        judging_id=source.id if source.kind == "judging" else None,
        study_id=study_id,
        metric=score.metric,
    )


def _narrowed(statement: Select, measured: Measured) -> Select:  # type: ignore[type-arg]
    named = {"slice" if name == "part" else name: value for name, value in asdict(measured).items()}
    if measured.metric in FAMILIES:  # of whichever study, or reward model
        statement = statement.where(Score.metric.startswith(f"{named.pop('metric')}:", autoescape=True))
    return statement.where(*(getattr(Score, name) == value for name, value in named.items() if value is not None))


def _jobs_with(team_id: str, artifact_id: str) -> Select[str]:
    return select(JobInput.job_id).where(JobInput.team_id == team_id, JobInput.artifact_id == artifact_id)


def _model_id(session: Session, team_id: str, model: str) -> str:
    try:
        return models.get(session, team_id, model).id
    except NotFound:
        finding = Finding(
            "model_not_found", shown(model), "the id or name of a model", "list them: GET /v1/models", column="model"
        )
        raise InvalidInput("there is no such model", code="model_not_found", findings=[finding]) from None
