"""What owners ask of a job: cancel, pause, resume. A parent passes it on to every job below it.

What does not run does it at once; a running job is told by a column of its row, and its worker settles it.
"""

from typing import Literal

from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding
from store import jobs, moves, pipelines
from store.database import lock_queue
from store.states import CANCELLED, FINISHED, PAUSED, UNFINISHED
from store.tables import Job
from store.types import database_now


def request_cancel(session: Session, team_id: str, job_id: str) -> Job:
    """Cancel the job, or ask its worker to: `cancelled` at once unless it runs. Asking twice is no error.

    Raises:
        NotFound: the team has no such job.
        Conflict: it is finished (also when it was cancelled before).
    """
    job = _unfinished(session, team_id, job_id)
    parents, below = pipelines.parents(session, job), pipelines.leaves(session, job)
    for parent in parents:
        _note(session, parent, "cancel_requested")
    if parents and not below:
        moves.move(session, job_id, CANCELLED)
    now = {"cancel_requested_at": database_now()}
    moved = [moves.move_alone(session, each.id, CANCELLED, values=now) for each in below]
    for each in below:
        moves.ask_to_stop(session, each.id)
    # Only now, so that a job that waits for another is cancelled like it and not failed for want of its input.
    _settle(session, moved, parents)
    return jobs.get(session, team_id, job_id)


def request_pause(session: Session, team_id: str, job_id: str) -> Job:
    """Pause the job, or ask its worker to: `paused` at once unless it runs. Asking twice is no error.

    Raises:
        NotFound: the team has no such job.
        Conflict: it is finished, or was asked to stop.
    """
    job = _unfinished(session, team_id, job_id)
    if job.cancel_requested_at is not None:
        finding = Finding(
            "job_cancelling", "a job that was asked to stop", "a job that may go on", "let it be cancelled"
        )
        raise Conflict("the job is being cancelled", code="job_cancelling", findings=[finding])
    parents, below = pipelines.parents(session, job), pipelines.leaves(session, job)
    for parent in parents:
        _note(session, parent, "pause_requested")
    moved = [moves.move_alone(session, each.id, PAUSED) for each in below]
    for each in below:
        moves.ask_to_pause(session, each.id)
    _settle(session, moved, parents)
    return jobs.get(session, team_id, job_id)


def request_resume(session: Session, team_id: str, job_id: str) -> Job:
    """Let a paused job go on from its last checkpoint, accepting what it paused for. Asking twice is no error.

    Raises:
        NotFound: the team has no such job.
        Conflict: it is finished.
    """
    job = _unfinished(session, team_id, job_id)
    parents = pipelines.parents(session, job)
    moved = [moves.resume(session, each.id) for each in pipelines.leaves(session, job)]
    for parent in parents:
        is_asked = [Job.pause_requested_at.is_not(None)]
        moves.write(session, parent.id, is_asked, {"pause_requested_at": None, "pause": None}, ("pause_withdrawn", {}))
    _settle(session, moved, parents)
    return jobs.get(session, team_id, job_id)


def _unfinished(session: Session, team_id: str, job_id: str) -> Job:
    lock_queue(session)
    job = jobs.get(session, team_id, job_id)
    if job.status in FINISHED:
        fix = "nothing is left to do; ask for a new job to run it again"
        finding = Finding("job_finished", job.status, "a job that has not ended", fix)
        raise Conflict(f"the job is {job.status} already", code="job_finished", findings=[finding])
    return job


def _note(session: Session, parent: Job, wish: Literal["cancel_requested", "pause_requested"]) -> None:
    """Note on a parent what was asked of it, once; the jobs below it carry it out."""
    column = getattr(Job, f"{wish}_at")
    conditions = [Job.status.in_(sorted(UNFINISHED)), column.is_(None)]
    moves.write(session, parent.id, conditions, {f"{wish}_at": database_now()}, (wish, {}))


def _settle(session: Session, moved: list[Job | None], parents: list[Job]) -> None:
    """Settle what follows for others from the jobs that *moved*, and derive the *parents* anew, inner ones first."""
    for job in moved:
        if job is not None:
            moves.settle(session, job)
    for parent in reversed(parents):
        pipelines.child_changed(session, parent.id)
