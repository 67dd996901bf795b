"""What a worker does to a job: claim it, keep it, end it. What it tells meanwhile is in `store.telling`.

Every statement after the claim carries `WHERE id AND fence AND status = 'running'`: a worker whose lease ran out and
whose job went to another changes nothing and gets `LeaseLost`. Files are sealed before the transaction. `claim`,
`succeed`, `fail`, `release`, `pause_for_review` and `settle_cancelled` need a transaction of their own, or the first
place in it (`database.lock_queue` says why, and refuses).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from store import attempts, moves, scores
from store.artifacts import SealedArtifact, record
from store.database import lock_queue, note_job_written
from store.finite import finite
from store.states import CLAIMED, FAILED, PARKED, STOPPED, SUCCEEDED, Status
from store.tables import Artifact, Checkpoint, Job, JobInput
from store.types import database_now

LEASE_SECONDS = 30.0
LOG_TAIL_CHARACTERS = 64 * 1024


Wish = Literal["cancel", "pause"]


class LeaseLost(Exception):
    """The job is no longer this claim's: stop, kill the child, touch nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker may run: the *fence* proves it, the *inputs* are ids of artifacts by reference name."""

    job_id: str
    team_id: str
    parent_id: str | None
    kind: str
    spec: dict[str, Any]
    model_id: str | None
    inputs: dict[str, str]
    attempt: int
    fence: int
    owner: str
    lease_seconds: float
    accepted: tuple[str, ...] = ()
    """Codes of pauses that a person has accepted: the operation does not pause for them again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a renewal found: whether the job is still ours, and what its owner wants of it, if anything."""

    is_ours: bool
    wish: Wish | None = None


def claim(
    session: Session, owner: str, resource_classes: str | Sequence[str], lease_seconds: float = LEASE_SECONDS
) -> Claim | None:
    """Take the best queued job of these classes (priority, least running share of its team, age); None: there is none.

    The job is then `running`: fence + 1, attempt + 1, leased to *owner* for *lease_seconds* by the database's clock.
    """
    classes = [resource_classes] if isinstance(resource_classes, str) else list(resource_classes)
    lock_queue(session)
    job_id = _best_queued(session, classes)
    if job_id is None:
        return None
    values = {
        "owner": owner,
        "fence": Job.fence + 1,
        "attempt": Job.attempt + 1,
        "stuck_attempts": Job.stuck_attempts + 1,
        "lease_expires_at": database_now(lease_seconds),
        "started_at": func.coalesce(Job.started_at, database_now()),
        "phase": None,
        "progress_done": None,
        "progress_total": None,
        "progress_unit": None,
        "progress_at": None,
        "progress_since": None,
    }
    job = moves.move(session, job_id, CLAIMED, values=values)
    if job is None:
        return None
    found = session.execute(select(JobInput.name, JobInput.artifact_id).where(JobInput.job_id == job.id))
    inputs = {name: artifact_id for name, artifact_id in found if artifact_id is not None}
    return Claim(
        job.id,
        job.team_id,
        job.parent_id,
        job.kind,
        job.spec,
        job.model_id,
        inputs,
        job.attempt,
        job.fence,
        owner,
        lease_seconds,
        tuple(job.accepted),
    )


def renew(session: Session, claim: Claim) -> Lease:
    """Extend the lease. Not ours any more: the child must be killed, nothing else may be written."""
    note_job_written(session)
    statement = (
        update(Job)
        .where(*is_ours(claim))
        .values(lease_expires_at=database_now(claim.lease_seconds))  # no reader sees it: the version stays
        .returning(Job.cancel_requested_at, Job.pause_requested_at)
        .execution_options(synchronize_session=False)
    )
    return _lease([(row[0], row[1]) for row in session.execute(statement)])


def look(session: Session, claim: Claim) -> Lease:
    """Return what a renewal would find, without renewing: cheap enough for every second."""
    statement = select(Job.cancel_requested_at, Job.pause_requested_at).where(*is_ours(claim))
    return _lease([(row[0], row[1]) for row in session.execute(statement)])


def _lease(found: Sequence[tuple[datetime | None, datetime | None]]) -> Lease:
    """Return the lease of the row *found*: when a cancel and when a pause was asked for. A cancel goes first."""
    if not found:
        return Lease(is_ours=False)
    cancel_requested_at, pause_requested_at = found[0]
    return Lease(True, "cancel" if cancel_requested_at else "pause" if pause_requested_at else None)


def checkpoints(session: Session, claim: Claim) -> list[Checkpoint]:
    """Return the job's recorded resume states, newest step first."""
    return list(
        session.scalars(select(Checkpoint).where(Checkpoint.job_id == claim.job_id).order_by(Checkpoint.step.desc()))
    )


def succeed(
    session: Session,
    claim: Claim,
    sealed: SealedArtifact,
    *,
    summary: Mapping[str, Any] | None = None,
    log_tail: str | None = None,
) -> Artifact:
    """Publish the job's one result: the artifact's row, its scores, the job's end, and the release of who waits for it.

    *sealed* comes from `ArtifactFiles.seal`; when the lease is lost its folder stays behind as litter. The artifact
    takes the job's name, or, merged from shards, is its parent's. A job that was asked to stop but finished first has
    succeeded.

    Raises:
        LeaseLost: the job is no longer this claim's; nothing was written.
    """
    lock_queue(session)
    if session.execute(select(Job.id).where(*is_ours(claim))).one_or_none() is None:
        raise LeaseLost(claim.job_id)
    asked = claim.parent_id if claim.kind == "score_merge" else claim.job_id
    artifact = record(session, claim.team_id, sealed, job_id=asked)
    artifact.name = sealed.name or session.execute(select(Job.name).where(Job.id == asked)).scalar_one()
    scores.record(session, artifact, sealed.folder)
    values: dict[str, Any] = {"artifact_id": artifact.id, "summary": finite(dict(summary or artifact.summary))}
    values |= _log(log_tail)
    if moves.move(session, claim.job_id, SUCCEEDED, where=is_ours(claim), values=values) is None:
        raise LeaseLost(claim.job_id)
    return artifact


def fail(session: Session, claim: Claim, failure: Mapping[str, Any], *, log_tail: str | None = None) -> None:
    """End the job as failed: *failure* is {category, code, message, findings, retryable, reference}.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    lock_queue(session)
    told = finite(dict(failure))
    values = {"failure": told, **_log(log_tail)}
    if moves.move(session, claim.job_id, FAILED, where=is_ours(claim), values=values, data={"failure": told}) is None:
        raise LeaseLost(claim.job_id)


def release(
    session: Session, claim: Claim, reason: str, *, counts_as_attempt: bool, log_tail: str | None = None
) -> Status:
    """Give the job back and return its status: `queued`; `cancelled` or `paused` if asked for; `failed` as poison.

    *counts_as_attempt*: False for a drain (SIGTERM), True for a child that died without a report: the third such
    attempt in a row without a new checkpoint is the last.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    lock_queue(session)
    values = _log(log_tail)
    job = attempts.give_back(session, claim.job_id, is_ours(claim), reason, counts_as_attempt, values)
    if job is None:
        raise LeaseLost(claim.job_id)
    return job


def pause_for_review(
    session: Session, claim: Claim, pause: Mapping[str, Any], *, log_tail: str | None = None
) -> Status:
    """Pause a running job because its operation asks a person to look: *pause* is {code, message, findings}.

    Returns:
        `paused`; `cancelled` if that was asked for meanwhile.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    lock_queue(session)
    told = finite(dict(pause))
    values = {"pause": told, "stuck_attempts": attempts.UNCOUNTED, **_log(log_tail)}
    is_wanted = [*is_ours(claim), Job.cancel_requested_at.is_(None)]
    if moves.move(session, claim.job_id, PARKED, where=is_wanted, values=values, data={"pause": told}) is None:
        settle_cancelled(session, claim, log_tail=log_tail)
        return "cancelled"
    return "paused"


def settle_cancelled(session: Session, claim: Claim, *, log_tail: str | None = None) -> None:
    """End a running job as cancelled, after its child has stopped.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    lock_queue(session)
    if moves.move(session, claim.job_id, STOPPED, where=is_ours(claim), values=_log(log_tail)) is None:
        raise LeaseLost(claim.job_id)


def _best_queued(session: Session, classes: Sequence[str]) -> str | None:
    running = (
        select(Job.team_id, func.count().label("number"))
        .where(Job.status == "running", Job.resource_class.is_not(None))
        .group_by(Job.team_id)
        .subquery()
    )
    statement = (
        select(Job.id)
        .outerjoin(running, running.c.team_id == Job.team_id)
        .where(Job.status == "queued", Job.resource_class.in_(classes))
        .order_by(Job.priority.desc(), func.coalesce(running.c.number, 0), Job.created_at, Job.id)
        .limit(1)
    )
    return session.execute(statement).scalar_one_or_none()


def is_ours(claim: Claim) -> list[ColumnElement[bool]]:
    """Return the conditions under which *claim* may write: the fence, and that the job still runs."""
    return [Job.id == claim.job_id, Job.fence == claim.fence, Job.status == "running"]


def _log(log_tail: str | None) -> dict[str, Any]:
    return {} if log_tail is None else {"log_tail": log_tail[-LOG_TAIL_CHARACTERS:]}
