"""Whose keys posted the trainings of adapters: they have a part in what is said of them.

A key is all that is on record: of a person with several keys, or with an invitation beside one, nothing is known here.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.evaluations import adapters_of
from store.study_tables import Study
from store.tables import Artifact, Job


def of_adapter(session: Session, adapter: Artifact) -> str | None:
    """Return the key that posted the job, or the pipeline around it, that made the adapter; None: not on record."""
    job = session.get(Job, adapter.job_id) if adapter.job_id else None
    while job is not None and job.parent_id is not None:
        job = session.get(Job, job.parent_id)
    return None if job is None else job.key_id


def of_study(session: Session, study: Study) -> set[str]:
    """Return the keys that trained either system of the study, as far as they are on record."""
    evaluation = session.get_one(Artifact, study.evaluation_id)
    job_id = evaluation.job_id or ""
    by_system = adapters_of(session, study.team_id, [job_id]).get(job_id, {})
    judged = [by_system[system] for system in study.spec["systems"] if system in by_system]
    adapters = session.scalars(select(Artifact).where(Artifact.id.in_(judged)))
    return {key for adapter in adapters if (key := of_adapter(session, adapter)) is not None}
