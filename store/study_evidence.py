"""What the results of a study were computed from, for whoever wants to compute them again: no text, no rater's name."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from store import judgements, studies
from store.study_tables import Study, StudyItem

Json = dict[str, Any]


def found_in(session: Session, study: Study) -> Json:
    """Return the results with the rules that they were made by."""
    spec = studies.spec_of(study)
    return {
        "study_id": study.id,
        "spec_hash": study.spec_hash,
        "evaluation_id": study.evaluation_id,
        "attention_failures_allowed": spec.attention_failures_allowed,
        "seed": spec.seed,
        "closed_at": study.closed_at and study.closed_at.isoformat(),
        **judgements.results_of(session, study).as_dict(),
    }


def items_of(session: Session, study: Study) -> Iterator[Json]:
    """Yield every item, judged or not; `cluster` is the same number for prompts with the same first user turn."""
    yield from (_item(row) for row in studies.items_of(session, study))


def judgements_of(session: Session, study: Study) -> Iterator[Json]:
    """Yield every judgement, raters by their ids alone."""
    for row in judgements.export_rows(session, study, with_texts=False):
        del row["rater_name"]
        yield row


def _item(row: StudyItem) -> Json:
    own = {"kind": row.kind, "row": row.row, "cluster": row.cluster, "source": row.source}
    return {"item_id": row.id, **own, "is_swapped": row.is_swapped, "raters_wanted": row.raters_wanted}
