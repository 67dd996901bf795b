"""Parents and children: a pipeline, or a scoring in shards, is never claimed: its state follows from its children's."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import moves, parts
from store.bell import Ring
from store.states import CANCELLED, FINISHED, UNFINISHED, Status, derived
from store.tables import Job
from store.types import database_now

OUTPUT_OF = {"pipeline": "evaluate", "score": "score_merge"}
"""Kind of the child whose output is its parent's, by the parent's kind."""


def is_parent(job: Job) -> bool:
    """Return whether nobody runs *job* itself: a pipeline, or a scoring in shards."""
    return job.resource_class is None


def child_changed(session: Session, parent_id: str) -> None:
    """Derive the parent's status and progress from its children; called in the transaction that changed a child."""
    parent = session.get(Job, parent_id, populate_existing=True)
    if parent is None or parent.status in FINISHED:
        return
    children = children_of(session, parent_id)
    if parent.kind == "score" and any(child.status in ("failed", "cancelled") for child in children):
        children = _stop_others(session, parent_id, children)
    status = derived_status([child.status for child in children], parent.cancel_requested_at is not None)
    told = {
        "phase": next((_phase(child) for child in children if child.status == "running"), parent.phase),
        "progress_done": sum(child.status in FINISHED for child in children),
        "progress_total": len(children),
        "progress_unit": "jobs",
    }
    if status == parent.status:
        if any(getattr(parent, name) != value for name, value in told.items()):
            moves.write(session, parent_id, [Job.status.in_(sorted(UNFINISHED))], told)
        return
    moves.move(session, parent_id, derived(status), values={**told, **_derived_values(parent, status, children)})
    if parent.kind == "score" and status in FINISHED:
        parts.collect(session, parent_id)


def _phase(child: Job) -> str:
    """Return what a parent is at while *child* runs: `count`, `score`, `merge`; of a pipeline the child's kind."""
    return child.kind.removeprefix("score_").replace("shard", "score")


def _derived_values(parent: Job, status: Status, children: list[Job]) -> dict[str, Any]:
    """Return what the *parent* takes over from its *children* as it becomes *status*."""
    values: dict[str, Any] = {"pause": None}
    if status == "running" and parent.started_at is None:
        values["started_at"] = database_now()
    if status == "failed":
        failures = [child.failure for child in children if child.status == "failed"]
        values["failure"] = failures[0] if failures else _child_cancelled(parent.id)
    if status == "paused":
        values["pause"] = next((child.pause for child in children if child.pause), None)
    output = next((child for child in reversed(children) if child.kind == OUTPUT_OF[parent.kind]), None)
    if status == "succeeded" and output is not None:
        values["artifact_id"] = output.artifact_id
        if parent.kind == "score":
            values["summary"] = output.summary
    return values


def _stop_others(session: Session, parent_id: str, children: list[Job]) -> list[Job]:
    """Stop the *children* that are still at work: without the one that was lost they come to nothing."""
    for child in children:
        moves.move_alone(session, child.id, CANCELLED)
        moves.ask_to_stop(session, child.id)
    return children_of(session, parent_id)


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


def to_ring(session: Session, job: Job) -> list[Ring]:
    """Return whom to ring for: the queued ones of *job* and those below it."""
    return [
        Ring(each.id, each.resource_class)
        for each in leaves(session, job)
        if each.status == "queued" and each.resource_class is not None
    ]


def leaves(session: Session, job: Job) -> list[Job]:
    """Return the jobs below *job* that somebody runs, oldest first; *job* itself when it is one."""
    if not is_parent(job):
        return [job]
    return [leaf for child in children_of(session, job.id) for leaf in leaves(session, child)]


def parents(session: Session, job: Job) -> list[Job]:
    """Return *job* and the parents below it, the outer ones first; nothing when *job* is no parent."""
    if not is_parent(job):
        return []
    return [job, *(each for child in children_of(session, job.id) for each in parents(session, child))]


def children_of(session: Session, parent_id: str) -> list[Job]:
    """Return the parent's children as they are now, oldest first."""
    statement = select(Job).where(Job.parent_id == parent_id).order_by(Job.created_at, Job.id)
    return list(session.scalars(statement, execution_options={"populate_existing": True}))
