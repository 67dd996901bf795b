"""What a worker tells of the job that it runs: phase, progress, notes, log, metrics, checkpoints.

Fenced like everything in `store.claims`; these may share a transaction, and none of them moves a job between states.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deft.folders import read_manifest
from store import moves
from store.claims import LOG_TAIL_CHARACTERS, Claim, LeaseLost, is_ours
from store.finite import finite
from store.tables import Checkpoint, Job, MetricValue
from store.types import database_now


def report_phase(session: Session, claim: Claim, phase: str) -> None:
    """Note that *phase* begins; its progress starts anew.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    values = {
        "phase": phase,
        "progress_done": None,
        "progress_total": None,
        "progress_unit": None,
        "progress_at": None,
        "progress_since": None,
    }
    _write(session, claim, values, ("phase", {"phase": phase}))


def report_progress(session: Session, claim: Claim, done: int, total: int, unit: str) -> None:
    """Note that *done* of *total* *unit*s of the phase are finished. No event: the row alone.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    values = {
        "progress_done": done,
        "progress_total": total,
        "progress_unit": unit,
        "progress_at": database_now(),
        "progress_since": func.coalesce(Job.progress_since, database_now()),
    }
    _write(session, claim, values)


def report_note(session: Session, claim: Claim, message: str) -> None:
    """Put one line on the job's record.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    _write(session, claim, {}, ("note", {"message": message}))


def report_log(session: Session, claim: Claim, text: str) -> None:
    """Replace the job's log tail by the last 64 Ki characters of *text*.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    _write(session, claim, {"log_tail": text[-LOG_TAIL_CHARACTERS:]})


def report_metrics(session: Session, claim: Claim, step: int, values: Mapping[str, float]) -> None:
    """Store *values* of *step*; a step told again overwrites.

    Raises:
        LeaseLost: the job is no longer this claim's.
    """
    _write(session, claim, {})
    for name, value in values.items():
        key = {"job_id": claim.job_id, "step": step, "name": name}
        session.merge(MetricValue(**key, team_id=claim.team_id, value=finite(float(value))))
    session.flush()


def report_checkpoint(session: Session, claim: Claim, step: int, folder: Path) -> None:
    """Record the sealed *folder* as resume state after *step*; a step not reached before ends a row of stuck attempts.

    Raises:
        LeaseLost: the job is no longer this claim's.
        ArtifactCorrupt: the folder has no manifest.
    """
    manifest = read_manifest(folder)
    reached = select(func.max(Checkpoint.step)).where(Checkpoint.job_id == claim.job_id)
    last = session.execute(reached).scalar_one()
    is_new = last is None or step > last
    values = {"stuck_attempts": 0} if is_new else {}
    _write(session, claim, values, ("checkpoint", {"step": step}))
    row = Checkpoint(
        job_id=claim.job_id,
        step=step,
        team_id=claim.team_id,
        folder=folder.name,
        sha256=manifest["sha256"],
        fence=claim.fence,
    )
    session.merge(row)
    session.flush()


def _write(
    session: Session, claim: Claim, values: Mapping[str, Any], event: tuple[str, Mapping[str, Any]] | None = None
) -> None:
    if moves.write(session, claim.job_id, is_ours(claim), values, event) is None:
        raise LeaseLost(claim.job_id)
