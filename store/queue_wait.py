"""How long a job that is posted now would wait: from the jobs before it and the pace of those that have ended.

Numbers of jobs and times only: nothing of another team's jobs is told.
"""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deft.planning.documents import Queue
from store.tables import Job
from store.types import database_now

LAST_JOBS = 20
"""Ended jobs of a kind whose mean time stands for the kind."""


def expected(session: Session, resource_class: str) -> Queue:
    """Return what stands before a new job of *resource_class* and about how long that takes.

    It is what remains of the job that ends first, then all that are queued, shared by as many places as are at work
    now; less if a place is free, which the rows do not tell where nothing is queued.
    """
    running = list(
        session.execute(
            select(Job.kind, Job.started_at).where(Job.status == "running", Job.resource_class == resource_class)
        )
    )
    queued = dict(
        session.execute(
            select(Job.kind, func.count())
            .where(Job.status == "queued", Job.resource_class == resource_class, Job.priority >= 0)
            .group_by(Job.kind)
        ).all()
    )
    pace = {kind: _mean_seconds(session, kind) for kind in {*queued, *(kind for kind, _ in running)}}
    return Queue(
        basis="measured",
        jobs_running=len(running),
        jobs_queued_before=sum(queued.values()),
        wait_seconds=_wait(session, [(kind, start) for kind, start in running], queued, pace),
    )


def _wait(
    session: Session,
    running: list[tuple[str, datetime | None]],
    queued: dict[str, int],
    pace: dict[str, float | None],
) -> float | None:
    """Return the seconds until the new job's turn, None where a kind has no pace yet."""
    known = {kind: mean for kind, mean in pace.items() if mean is not None}
    if known.keys() != pace.keys():
        return None
    now: datetime = session.execute(select(database_now())).scalar_one()
    left = [max(0.0, known[kind] - (now - (start or now)).total_seconds()) for kind, start in running]
    ahead = sum(number * known[kind] for kind, number in queued.items())
    return round(min(left, default=0.0) + ahead / max(1, len(running)), 1)


def _mean_seconds(session: Session, kind: str) -> float | None:
    """Return the mean time that the last jobs of *kind* took from their start to their end."""
    rows = session.execute(
        select(Job.started_at, Job.finished_at)
        .where(Job.kind == kind, Job.status == "succeeded", Job.started_at.is_not(None), Job.finished_at.is_not(None))
        .order_by(Job.created_at.desc())
        .limit(LAST_JOBS)
    )
    seconds = [(end - start).total_seconds() for start, end in rows if start is not None and end is not None]
    return sum(seconds) / len(seconds) if seconds else None
