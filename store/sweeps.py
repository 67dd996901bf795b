"""What the clock does to jobs: leases that ran out, waiting rows that were missed, and whom to ring for.

Any number of sweepers may run; each sweep is one short transaction.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from store import attempts, moves
from store.bell import QUEUES, Ring
from store.database import lock_queue
from store.states import FINISHED
from store.tables import IdempotencyKey, Job, JobInput
from store.types import database_now

RING_AGAIN_SECONDS = 8.0
IDEMPOTENCY_SECONDS = timedelta(days=7).total_seconds()
EXPIRED_AT_ONCE = 100


def sweep(session: Session, slots: int) -> list[Ring]:
    """Re-queue or end what lost its lease, release what was missed, and return whom to ring for now.

    *slots* are the free slots that the sweeper knows of. Ring after the transaction has committed.
    """
    lock_queue(session)
    expire_leases(session)
    release_waiting(session)
    forget_replies(session)
    return pick_to_ring(session, slots)


def expire_leases(session: Session) -> list[str]:
    """Take jobs whose lease ran out by the database's clock from their workers; return their ids.

    They are queued again, or cancelled if that was asked for, or failed as poison.
    """
    lock_queue(session)
    is_expired = [Job.status == "running", Job.resource_class.is_not(None), Job.lease_expires_at < database_now()]
    ids = session.scalars(select(Job.id).where(*is_expired).order_by(Job.lease_expires_at).limit(EXPIRED_AT_ONCE)).all()
    return [job_id for job_id in ids if attempts.give_back(session, job_id, is_expired, "lease expired", True, {})]


def release_waiting(session: Session) -> list[str]:
    """Settle waiting jobs whose inputs finished though nobody told them, normally none; return their ids."""
    lock_queue(session)
    source = Job.__table__.alias("source")
    statement = (
        select(JobInput.job_id)
        .join(Job, Job.id == JobInput.job_id)
        .outerjoin(source, source.c.id == JobInput.input_job_id)
        .where(
            Job.status == "waiting",
            or_(source.c.id.is_(None), source.c.status.in_(sorted(FINISHED)), JobInput.artifact_id.is_not(None)),
        )
        .distinct()
    )
    before = session.scalars(statement).all()
    for job_id in before:
        moves.settle_waiting(session, job_id)
    left = session.scalars(select(Job.id).where(Job.id.in_(before), Job.status == "waiting")).all()
    return sorted(set(before) - set(left))


def pick_to_ring(session: Session, slots: int, again_seconds: float = RING_AGAIN_SECONDS) -> list[Ring]:
    """Return queued jobs that nobody rang for lately, and note the ring.

    Of each resource class the oldest, at most max(1, 2 x *slots*): a long line for one keeps no bell from the other.
    """
    lock_queue(session)  # it writes several rows
    rings = [
        Ring(job_id, resource_class)
        for resource_class in QUEUES
        for job_id in _oldest_due(session, resource_class, max(1, 2 * slots), again_seconds)
    ]
    session.execute(
        update(Job)
        .where(Job.id.in_([each.job_id for each in rings]), Job.status == "queued")
        .values(rung_at=database_now())
        .execution_options(synchronize_session=False)
    )
    return rings


def _oldest_due(session: Session, resource_class: str, limit: int, again_seconds: float) -> Sequence[str]:
    is_due = or_(Job.rung_at.is_(None), Job.rung_at < database_now(-again_seconds))
    statement = (
        select(Job.id)
        .where(Job.status == "queued", Job.resource_class == resource_class, is_due)
        .order_by(Job.created_at, Job.id)
        .limit(limit)
    )
    return session.scalars(statement).all()


def forget_replies(session: Session) -> None:
    """Drop replies kept for an `Idempotency-Key` for longer than a week."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < database_now(-IDEMPOTENCY_SECONDS)))
