"""How an attempt that came to nothing ends: the job is queued again, paused, cancelled, or failed as poison.

Shared by the worker that gives a job back (`claims.release`) and the sweeper that takes it away.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, case
from sqlalchemy.orm import Session

from store import moves
from store.states import PARKED, POISONED, REQUEUED, STOPPED, Status
from store.tables import Job

MAX_STUCK_ATTEMPTS = 3
UNCOUNTED = case((Job.stuck_attempts > 0, Job.stuck_attempts - 1), else_=0)


def give_back(
    session: Session,
    job_id: str,
    where: Sequence[ColumnElement[bool]],
    reason: str,
    counts_as_attempt: bool,
    values: Mapping[str, Any],
) -> Status | None:
    """Take a running job for which *where* holds out of its worker's hands; return its status, None if it did not.

    *counts_as_attempt*: the third such end in a row without a new checkpoint is the last. A claim counts its attempt
    when it begins, a new checkpoint sets the count to 0, and an end that does not count takes one off again.
    """
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        return None
    data = {"why": reason, "attempt": job.attempt}
    if job.cancel_requested_at is not None:
        moved = moves.move(session, job_id, STOPPED, where=where, values=values, data=data)
    elif job.pause_requested_at is not None:
        moved = moves.move(
            session, job_id, PARKED, where=where, values={**values, "stuck_attempts": UNCOUNTED}, data=data
        )
    elif counts_as_attempt and job.stuck_attempts >= MAX_STUCK_ATTEMPTS:
        failure = _poison(job, reason)
        moved = moves.move(
            session,
            job_id,
            POISONED,
            where=[*where, Job.stuck_attempts >= MAX_STUCK_ATTEMPTS],  # a checkpoint may come in between
            values={**values, "failure": failure},
            data={"failure": failure},
        )
    else:
        uncounted = {} if counts_as_attempt else {"stuck_attempts": UNCOUNTED}
        moved = moves.move(session, job_id, REQUEUED, where=where, values={**values, **uncounted}, data=data)
    return None if moved is None else moved.status  # type: ignore[return-value]  # the column is checked


def _poison(job: Job, reason: str) -> dict[str, Any]:
    return {
        "category": "system",
        "code": "poison",
        "message": f"{MAX_STUCK_ATTEMPTS} attempts in a row ended without a report and without a new checkpoint "
        f"(the last: {reason})",
        "findings": [],
        "retryable": False,
        "reference": f"{job.id}/{job.attempt}",
    }
