"""The numbers of evaluations and judgings, as rows, copied from `metrics.json` in the transaction that publishes it.

Those of a human study are rows of its evaluation too (`store.study_scores`), of metrics that name the study.
"""

import hashlib
import json
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.finite import finite
from store.tables import Artifact, Score

HUMAN = "human_win_rate"
"""The metric of human studies; that of one of them is `human_win_rate:st_...`."""

FAMILIES = (HUMAN, "reward", "reward_logit")
"""Metrics of which every score names a study or a reward model (`reward:rm_...`); the bare name finds all of them."""


SLICE_CHARACTERS = 210
"""Longest name of a slice: `category:` with the longest category that an upload takes. An index holds 2,704 bytes."""


def slice_name(name: str) -> str:
    """Return the *name* of a slice as it is stored: a longer one, of an older dataset, cut and told apart by a hash."""
    if len(name) <= SLICE_CHARACTERS:
        return name
    return f"{name[: SLICE_CHARACTERS - 20]}...{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"


def study_in(metric: str) -> str | None:
    """Return the id of the study that tells *metric*; None: none does."""
    kind, _, study_id = metric.partition(":")
    return study_id if kind == HUMAN and study_id else None


def of(session: Session, team_id: str, artifact_id: str) -> list[Score]:
    """Return the numbers of the team's evaluation, by metric, system and slice."""
    statement = select(Score).where(Score.artifact_id == artifact_id, Score.team_id == team_id)
    return list(session.scalars(statement.order_by(Score.metric, Score.system, Score.slice)))


def record(session: Session, artifact: Artifact, folder: Path) -> None:
    """Store the rows of `metrics.json` in *folder*; nothing for an artifact that is no evaluation and no judging."""
    path = folder / "metrics.json"
    if artifact.kind not in ("evaluation", "judging") or not path.is_file():
        return
    columns = ("arm", "value", "n", "low", "high", "settings_hash")
    for row in finite(json.loads(path.read_text(encoding="utf-8"))):
        key = {"system": row["system"], "metric": row["metric"], "slice": slice_name(row.get("slice", "all"))}
        values = {name: row.get(name) for name in columns}
        session.merge(
            Score(
                artifact_id=artifact.id,
                team_id=artifact.team_id,
                is_trained_on=bool(row.get("is_trained_on")),
                is_valid=bool(row.get("is_valid", True)),
                **key,
                **values,
            )
        )
    session.flush()
