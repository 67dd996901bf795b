"""A scoring of many rows becomes a parent row and child jobs, in one transaction: count, shards, merge.

Which rows a shard scores is decided in `deft.scoring.shards`, from the number of rows alone.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from deft.scoring.shards import ScoreCountSpec, ScoreMergeSpec, ScoreShardSpec, ShardSpec, ranges
from deft.specs import ScoreSpec
from store import jobs
from store.tables import Job


def create(
    session: Session,
    team_id: str,
    spec: ScoreSpec,
    *,
    rows: int,
    shard_rows: int,
    parent_id: str | None = None,
    name: str | None = None,
) -> Job:
    """Store the scoring of *rows* rows and return it: one job, or the parent of several where one is not to hold them.

    Raises:
        NotFound: the model or the dataset is not there for this team.
    """
    if rows <= shard_rows:
        return jobs.create(session, team_id, spec, parent_id=parent_id, name=name)
    parts = ranges(rows, shard_rows)
    parent = jobs.create(session, team_id, spec, parent_id=parent_id, name=name, is_parent=True)

    def submit(child_name: str, child: ShardSpec) -> str:
        return jobs.create(session, team_id, child, parent_id=parent.id, name=child_name).id

    counted = submit("count", ScoreCountSpec(score=spec))
    shards = [
        submit(f"shard:{number}", ScoreShardSpec(score=spec, counted=counted, start=part.start, stop=part.stop))
        for number, part in enumerate(parts, start=1)
    ]
    submit("merge", ScoreMergeSpec(score=spec, counted=counted, parts=shards))
    return parent


class Told(NamedTuple):
    """How far a job is: *done* of *total* *unit*s; what was told first and last, for its pace."""

    done: int
    total: int | None
    unit: str | None
    since: datetime | None
    at: datetime | None


def told_by(job: Job, children: Sequence[Job] = ()) -> Told | None:
    """Return how far *job* is; a scoring in shards is as far as its shards are together.

    Summed when somebody looks: a worker that tells of a shard must not wait for the row of its parent.
    """
    shards = [child for child in children if child.kind == "score_shard"]
    if not shards:
        if job.progress_done is None:
            return None
        return Told(job.progress_done, job.progress_total, job.progress_unit, job.progress_since, job.progress_at)
    sizes = [shard.spec["stop"] - shard.spec["start"] for shard in shards]
    done = [
        size if shard.status == "succeeded" else shard.progress_done or 0
        for shard, size in zip(shards, sizes, strict=True)
    ]
    began = [shard.progress_since for shard in shards if shard.progress_since is not None]
    heard = [shard.progress_at for shard in shards if shard.progress_at is not None]
    return Told(sum(done), sum(sizes), "examples", min(began, default=None), max(heard, default=None))
