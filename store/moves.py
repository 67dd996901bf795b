"""The only code that changes a job's state: one compare-and-set, its event, and what follows for other jobs.

`write` changes one row; `move` also settles who depends on it: jobs that wait for its output, and its parent. The
callers hold `database.lock_queue` before any of this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from store import pipelines
from store.database import note_job_written
from store.states import FINISHED, INPUT_FAILED, INPUTS_READY, RESUMED, Transition
from store.tables import Event, Job, JobInput
from store.types import database_now


def write(
    session: Session,
    job_id: str,
    where: Sequence[ColumnElement[bool]],
    values: Mapping[str, Any],
    event: tuple[str, Mapping[str, Any]] | None = None,
) -> Job | None:
    """Change the job if *where* still holds, with its event row; return it as it is now, or None when it did not."""
    note_job_written(session)
    changes: dict[str, Any] = {**values, "version": Job.version + 1}
    if event is not None:
        changes["event_seq"] = Job.event_seq + 1
    statement = update(Job).where(Job.id == job_id, *where).values(changes).returning(Job)
    options = {"populate_existing": True, "synchronize_session": False}
    job = session.scalars(statement, execution_options=options).one_or_none()
    if job is not None and event is not None:
        data = {"attempt": job.attempt, **event[1]}
        session.add(Event(job_id=job.id, seq=job.event_seq, team_id=job.team_id, type=event[0], data=data))
        session.flush()
    return job


def move_alone(
    session: Session,
    job_id: str,
    transition: Transition,
    *,
    where: Sequence[ColumnElement[bool]] = (),
    values: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Job | None:
    """Take the job along *transition* if it is in one of its source states and *where* holds; else return None."""
    changes: dict[str, Any] = {"status": transition.target, "waiting_reason": None, **(values or {})}
    if transition.target != "running":
        changes |= {"owner": None, "lease_expires_at": None}
    if transition.target in FINISHED:
        changes |= {"finished_at": database_now(), "rung_at": None}
    if transition.target in ("queued", "paused"):
        changes |= {"rung_at": None}
    if transition.target not in ("running", "paused"):
        changes |= {"pause_requested_at": None, "pause": None}
    conditions = [Job.status.in_(sorted(transition.sources)), *where]
    event = ("status", {"status": transition.target, "reason": transition.name, **(data or {})})
    return write(session, job_id, conditions, changes, event)


def move(
    session: Session,
    job_id: str,
    transition: Transition,
    *,
    where: Sequence[ColumnElement[bool]] = (),
    values: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Job | None:
    """Do what `move_alone` does, and settle what follows from it for other jobs, in the same transaction."""
    job = move_alone(session, job_id, transition, where=where, values=values, data=data)
    if job is not None:
        settle(session, job)
    return job


def settle(session: Session, job: Job) -> None:
    """Tell the jobs that wait for *job*, when it is finished, and its parent."""
    if job.status in FINISHED:
        for waiting_id in _waiting_for(session, job.id):
            settle_waiting(session, waiting_id)
    if job.parent_id is not None:
        pipelines.child_changed(session, job.parent_id)


def settle_waiting(session: Session, job_id: str) -> None:
    """Release a waiting job whose inputs all exist; fail it when one never will; else say what it waits for."""
    open_inputs: list[tuple[JobInput, Job]] = []
    statement = (
        select(JobInput, Job)
        .join(Job, Job.id == JobInput.input_job_id)
        .where(JobInput.job_id == job_id, JobInput.artifact_id.is_(None))
        .order_by(JobInput.name)
    )
    for job_input, source in session.execute(statement, execution_options={"populate_existing": True}):
        if source.status == "succeeded" and source.artifact_id is not None:
            job_input.artifact_id = source.artifact_id
        elif source.status in FINISHED:
            _fail_for_input(session, job_id, job_input, source)
            return
        else:
            open_inputs.append((job_input, source))
    session.flush()
    if open_inputs:
        reason = waiting_reason(open_inputs[0][1].id)
        differs = [Job.status == "waiting", Job.waiting_reason.is_distinct_from(reason)]
        write(session, job_id, differs, {"waiting_reason": reason})
    else:
        move(session, job_id, INPUTS_READY)


def waiting_reason(input_job_id: str) -> str:
    """Return the words for a job that waits for the output of *input_job_id*."""
    return f"waiting for the output of {input_job_id}"


def _waiting_for(session: Session, job_id: str) -> Sequence[str]:
    statement = (
        select(JobInput.job_id)
        .join(Job, Job.id == JobInput.job_id)
        .where(JobInput.input_job_id == job_id, Job.status == "waiting")
        .order_by(JobInput.job_id)
        .distinct()
    )
    return session.scalars(statement).all()


def _fail_for_input(session: Session, job_id: str, job_input: JobInput, source: Job) -> None:
    failure = {
        "category": "user",
        "code": "input_failed",
        "message": f"{source.id}, whose output this job needs, ended as {source.status}",
        "findings": [
            {
                "code": "input_failed",
                "pointer": job_input.pointer,
                "found": source.status,
                "expected": "succeeded",
                "fix": f"see why {source.id} did not succeed, and ask again",
            }
        ],
        "retryable": False,
        "reference": job_id,
    }
    move(session, job_id, INPUT_FAILED, values={"failure": failure}, data={"failure": failure})


def ask_to_stop(session: Session, job_id: str) -> Job | None:
    """Note on a running job that it should stop; its worker settles it. None when it does not run or was asked."""
    conditions = [Job.status == "running", Job.cancel_requested_at.is_(None)]
    return write(session, job_id, conditions, {"cancel_requested_at": database_now()}, ("cancel_requested", {}))


def resume(session: Session, job_id: str) -> Job | None:
    """Let a paused job go on, accepting what it paused for; take back a pause that its worker has not settled yet.

    None when it is neither paused nor about to be.
    """
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        return None
    accepted = sorted({*job.accepted, *([job.pause["code"]] if job.pause else [])})
    if move_alone(session, job_id, RESUMED, values={"accepted": accepted}, data={"accepted": accepted}) is not None:
        settle_waiting(session, job_id)
        return session.get(Job, job_id, populate_existing=True)
    is_asked = [Job.status == "running", Job.pause_requested_at.is_not(None)]
    return write(session, job_id, is_asked, {"pause_requested_at": None}, ("pause_withdrawn", {}))


def ask_to_pause(session: Session, job_id: str) -> Job | None:
    """Note on a running job that it should pause; its worker settles it. None when it does not run or was asked."""
    conditions = [Job.status == "running", Job.pause_requested_at.is_(None), Job.cancel_requested_at.is_(None)]
    return write(session, job_id, conditions, {"pause_requested_at": database_now()}, ("pause_requested", {}))
