"""The win rate that people gave: the scores that a closed study adds to the evaluation whose answers were judged.

They are of what others judged than the keys that trained its systems; where nobody else judged, there are none.
They are stored when the study is closed, not before: who may choose when to look would choose the number. Afterwards
nothing is judged, so they never change.
"""

import hashlib
import json
from collections.abc import Iterator

from sqlalchemy import delete
from sqlalchemy.orm import Session

from deft.studies.results import VERSION, Results
from store import judgements, studies, trainers
from store.judgements import LEAST_ITEMS
from store.scores import HUMAN
from store.study_tables import Study
from store.tables import Artifact, Job, Score


def close(session: Session, team_id: str, study_id: str) -> Study:
    """End the judging and store what came of it; closing twice is no error.

    Raises:
        NotFound: the team has no such study.
    """
    study = studies.close(session, team_id, study_id)
    own = (Score.artifact_id == study.evaluation_id, Score.metric == f"{HUMAN}:{study.id}")
    session.execute(delete(Score).where(*own))
    of_others = judgements.results_of(session, study, trainers.of_study(session, study))
    session.add_all(_scores(session, study, of_others))
    session.flush()
    return study


def _scores(session: Session, study: Study, found: Results) -> Iterator[Score]:
    """Yield the win rate of either system over the other; nothing where no pair counts as judged."""
    if not found.judged_pairs:
        return
    arms = _arms(session, study)
    for system in found.systems:
        (row,) = judgements.win_rate_of(found, system).rows
        yield Score(
            artifact_id=study.evaluation_id,
            team_id=study.team_id,
            system=system,
            arm=arms.get(system, system),
            metric=f"{HUMAN}:{study.id}",
            slice="all",
            value=row["value"],
            n=row["n"],
            low=row["low"],
            high=row["high"],
            is_trained_on=False,
            is_valid=found.judged_pairs >= LEAST_ITEMS,
            settings_hash=_settings_hash(study),
        )


def _arms(session: Session, study: Study) -> dict[str, str]:
    """Return the arms of the evaluation's systems but the base, which is one by itself."""
    evaluation = session.get_one(Artifact, study.evaluation_id)
    job = session.get(Job, evaluation.job_id) if evaluation.job_id else None
    return {} if job is None else {each["name"]: each["arm"] for each in job.spec["systems"]}


def _settings_hash(study: Study) -> str:
    """Return the SHA-256, in hex, of what the numbers depend on but the system and the people."""
    settings = {"metric": HUMAN, "version": VERSION, "study": study.id, "spec": study.spec_hash}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
