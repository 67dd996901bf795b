"""Judgings as numbers of the evaluation whose answers they judged: found by it, and read together with it."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from deft.errors import Finding, InvalidInput
from deft.evaluation.changes import Measured, read_judging, together
from store.artifacts import ArtifactFiles
from store.named import artifact_named
from store.tables import Artifact, JobInput, Score

JUDGED_INPUT = "evaluation"
"""The input of a judge job that is judged."""


def of_evaluations(team_id: str, ids: Iterable[str]) -> Select[Artifact, str | None]:
    """Return the statement for (judging, id of the evaluation that it judged) of the team's evaluations *ids*."""
    own = (JobInput.name == JUDGED_INPUT, JobInput.artifact_id.in_(list(ids)), JobInput.team_id == team_id)
    statement = select(Artifact, JobInput.artifact_id).join(JobInput, JobInput.job_id == Artifact.job_id)
    return statement.where(*own, Artifact.kind == "judging", Artifact.team_id == team_id)


def scored_evaluations(team_id: str) -> Select[str | None]:
    """Return the statement for the ids of the team's evaluations whose judgings have scores."""
    statement = select(JobInput.artifact_id).join(Artifact, Artifact.job_id == JobInput.job_id)
    statement = statement.join(Score, Score.artifact_id == Artifact.id).where(JobInput.name == JUDGED_INPUT)
    return statement.where(Score.team_id == team_id, Artifact.kind == "judging", JobInput.artifact_id.is_not(None))


def of_evaluation(session: Session, team_id: str, evaluation_id: str) -> Sequence[Artifact]:
    """Return the team's judgings of that evaluation, oldest first."""
    statement = of_evaluations(team_id, [evaluation_id]).order_by(Artifact.created_at, Artifact.id)
    return [row for row, _ in session.execute(statement)]


def with_judging(
    session: Session, files: ArtifactFiles, evaluation: Artifact, measured: Measured, judging_id: str, pointer: str
) -> Measured:
    """Return what was *measured* in *evaluation* with the numbers of one of its judgings.

    Raises:
        NotFound: the team has no such judging.
        InvalidInput: `other_evaluation`: it judged the answers of another evaluation; `judged_twice`: another judging
            among what was measured tells the same metrics.
    """
    row = artifact_named(session, evaluation.team_id, judging_id, ("judging",), pointer)
    if row.id not in {own.id for own in of_evaluation(session, evaluation.team_id, evaluation.id)}:
        raise another_evaluation(row.id, evaluation.id, "judging", pointer)
    found = read_judging(files.folder(row))
    twice = sorted(found.opponents.keys() & measured.opponents.keys())
    if twice:
        fix = "name one of the two judgings"
        finding = Finding("judged_twice", ", ".join(twice), "metrics of one judging each", fix, pointer=pointer)
        raise InvalidInput("Two judgings tell the same metrics.", code="judged_twice", findings=[finding])
    return together(measured, found)


def another_evaluation(found: str, evaluation_id: str, noun: str, pointer: str) -> InvalidInput:
    """Return the refusal of a judging or a study of other answers."""
    fix = f"name a {noun} of this evaluation, or make one"
    finding = Finding("other_evaluation", found, f"a {noun} of {evaluation_id}", fix, pointer=pointer)
    return InvalidInput(f"The {noun} is of another evaluation.", code="other_evaluation", findings=[finding])
