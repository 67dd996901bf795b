"""A dataset out of a study's judgements: collected from the rows, written through the ordinary import."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from sqlalchemy.orm import Session

from deft.data.datasets import import_files
from deft.errors import Conflict
from deft.studies.judgements import inattentive
from deft.studies.preferences import Preferences, preferences
from store import judgements, studies

PROVENANCE = "provenance.json"


@dataclass(frozen=True, slots=True)
class Collected:
    """The rows of a dataset to be, and where they come from."""

    found: Preferences
    provenance: dict[str, Any]


def collect(session: Session, team_id: str, study_id: str, *, min_judgements: int) -> Collected:
    """Return what the judgements of the team's study prefer; inattentive raters are left out, as in its results.

    Raises:
        NotFound: the team has no such study.
        Conflict: `no_preferences`: no item has a preference yet; `not_for_training`: the prompts are a prompt set's.
    """
    study = studies.get(session, team_id, study_id)
    spec = studies.spec_of(study)
    if spec.prompt_set is not None:
        raise Conflict("Prompt sets are for evaluation: nothing is trained on them.", code="not_for_training")
    items = studies.items_of(session, study)
    every = judgements.of_study(session, study, items)
    left_out = inattentive(every, allowed=spec.attention_failures_allowed)
    counted = [judgement for judgement in every if judgement.rater_id not in left_out]
    found = preferences(judgements.texts_of(items), counted, spec.systems, min_judgements=min_judgements)
    if not found.rows:
        raise Conflict("No item of the study has a preferred answer yet.", code="no_preferences")
    provenance = {
        "made_from": "study",
        "study": study.id,
        "study_closed_at": study.closed_at and study.closed_at.isoformat(),
        "study_spec_hash": study.spec_hash,
        "evaluation": study.evaluation_id,
        "systems": spec.systems,
        "judgements": sum(judgement.outcome is not None for judgement in counted),
        "raters": len({judgement.rater_id for judgement in counted}),
        "raters_left_out": len(left_out),
        "min_judgements": min_judgements,
        "items_left_out": found.left_out,
    }
    return Collected(found, provenance)


def write(collected: Collected, out: Path) -> dict[str, Any]:
    """Write the dataset's files and `provenance.json` to the folder *out* and return the summary."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.jsonl"
        path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in collected.found.rows))
        summary = import_files([path], out)
    (out / PROVENANCE).write_bytes(orjson.dumps(collected.provenance, option=orjson.OPT_INDENT_2))
    return {**summary, "provenance": collected.provenance}
