"""Parents and children: a pipeline is never claimed, its state follows from its children's."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import moves
from store.bell import Ring
from store.states import CANCELLED, FINISHED, PAUSED, UNFINISHED, Status, derived
from store.tables import Job
from store.types import database_now


def child_changed(session: Session, parent_id: str) -> None:
    """Derive the parent's status and progress from its children; called in the transaction that changed a child."""
    parent = session.get(Job, parent_id, populate_existing=True)
    if parent is None or parent.status in FINISHED:
        return
    children = children_of(session, parent_id)
    status = derived_status([child.status for child in children], parent.cancel_requested_at is not None)
    done = sum(child.status in FINISHED for child in children)
    told = {"progress_done": done, "progress_total": len(children), "progress_unit": "jobs"}
    if status == parent.status:
        if (parent.progress_done, parent.progress_total) != (done, len(children)):
            moves.write(session, parent_id, [Job.status.in_(sorted(UNFINISHED))], told)
        return
    failed = next((child for child in children if child.status == "failed"), None)
    outputs = [child.artifact_id for child in children if child.kind == "evaluate" and child.artifact_id]
    values = dict(told)
    if status == "running" and parent.started_at is None:
        values["started_at"] = database_now()
    if status == "failed":
        values["failure"] = failed.failure if failed else _child_cancelled(parent_id)
    values["pause"] = next((child.pause for child in children if child.pause), None) if status == "paused" else None
    if status == "succeeded" and outputs:
        values["artifact_id"] = outputs[-1]
    moves.move(session, parent_id, derived(status), values=values)


def _child_cancelled(parent_id: str) -> dict[str, Any]:
    message = "a job of this pipeline was cancelled by itself"
    told = {"category": "user", "code": "child_cancelled", "message": message, "findings": []}
    return {**told, "retryable": False, "reference": parent_id}


def derived_status(children: list[str], is_cancelling: bool) -> Status:
    """Return the parent's status for these *children*: it ends when none of them is still at work."""
    active = [status for status in children if status not in FINISHED]
    if "running" in active:
        return "running"
    if "paused" in active and "queued" not in active:
        return "paused"
    if active:
        is_begun = len(active) < len(children)
        return "running" if is_begun else "queued"
    if is_cancelling and "cancelled" in children:
        return "cancelled"
    if any(status in ("failed", "cancelled") for status in children):
        return "failed"
    return "succeeded" if children else "queued"


def cancel_children(session: Session, parent_id: str) -> None:
    """Cancel every child that does not run and ask the running ones to stop, then settle what follows."""
    children = children_of(session, parent_id)
    moved = [moves.move_alone(session, child.id, CANCELLED) for child in children]
    for child in children:
        moves.ask_to_stop(session, child.id)
    # Only now, so that a child that waits for another is cancelled like it and not failed for want of its input.
    for job in moved:
        if job is not None:
            moves.settle(session, job)


def pause_children(session: Session, parent_id: str) -> None:
    """Pause every child that does not run and ask the running ones to."""
    for child in children_of(session, parent_id):
        moves.move_alone(session, child.id, PAUSED)
        moves.ask_to_pause(session, child.id)


def resume_children(session: Session, parent_id: str) -> None:
    """Let every paused child go on, and take back what was asked of those that still run."""
    for child in children_of(session, parent_id):
        moves.resume(session, child.id)


def to_ring(session: Session, job: Job) -> list[Ring]:
    """Return whom to ring for: the queued ones of *job* and its children."""
    family = [job, *children_of(session, job.id)]
    return [Ring(one.id, one.resource_class) for one in family if one.status == "queued" and one.resource_class]


def children_of(session: Session, parent_id: str) -> list[Job]:
    """Return the parent's children as they are now, oldest first."""
    statement = select(Job).where(Job.parent_id == parent_id).order_by(Job.created_at, Job.id)
    return list(session.scalars(statement, execution_options={"populate_existing": True}))
