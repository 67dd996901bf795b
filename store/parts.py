"""What the shards of a scoring hand to its merge: its rows go when the scoring has ended, its folders after them."""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.tables import Artifact, Job, JobInput


def collect(session: Session, scoring_id: str) -> None:
    """Forget the parts of the finished scoring job *scoring_id*; their folders are litter from then on."""
    children = select(Job.id).where(Job.parent_id == scoring_id).scalar_subquery()
    ids = session.scalars(select(Artifact.id).where(Artifact.kind == "part", Artifact.job_id.in_(children))).all()
    options = {"synchronize_session": False}
    session.execute(update(Job).where(Job.artifact_id.in_(ids)).values(artifact_id=None), execution_options=options)
    session.execute(
        update(JobInput).where(JobInput.artifact_id.in_(ids)).values(artifact_id=None), execution_options=options
    )
    session.execute(delete(Artifact).where(Artifact.id.in_(ids)), execution_options=options)
