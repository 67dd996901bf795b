"""Judging: which item a rater sees next, and what they say of it.

A rater goes through the items in an order of their own (by the study's seed), so that neither kind nor side can be told
from the place. An item that was shown and not judged is kept for its rater for an hour, or until they are revoked, then
goes to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from deft.errors import NotFound
from deft.specs.studies import GivenVerdict
from deft.studies.items import place_of
from deft.studies.judgements import Judgement, inattentive
from store import studies, trainers
from store.judgements import judged_item, raters_with
from store.raters import Rater
from store.study_tables import Study, StudyItem, StudyJudgement, StudyRater
from store.tables import ApiKey
from store.types import database_now

KEPT_SECONDS = 3600.0
"""How long an item waits for the rater whom it was shown to, while others could judge it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a rater has judged or skipped, and how many items there are for them now."""

    done: int
    open: int


def study_of(session: Session, rater: Rater) -> Study:
    """Return the study that the rater judges."""
    return studies.get(session, rater.team_id, rater.study_id)


def next_item(session: Session, rater: Rater) -> StudyItem | None:
    """Return what the rater is to judge now: what they were shown last and left, else a new item; None: no more.

    Raises:
        Conflict: the study is closed.
    """
    study = study_of(session, rater)
    studies.require_open(study)
    studies.lock(session, study)
    shown = _left_open(session, rater)
    if shown is not None:
        return shown
    found = _candidates(session, study, rater)
    if not found:
        return None
    item = found[0]
    row = StudyJudgement(item_id=item.id, rater_id=rater.id, study_id=study.id, team_id=study.team_id)
    session.add(row)
    session.flush()
    return item


def judge(session: Session, rater: Rater, item_id: str, verdict: GivenVerdict) -> None:
    """Store what the rater says of an item that they were shown; said again, the last word counts.

    It waits for whoever closes the study just now, and is waited for: what a closed study found is final.

    Raises:
        NotFound: they were not shown this item.
        Conflict: the study is closed.
    """
    study = study_of(session, rater)
    studies.lock(session, study)
    session.refresh(study)
    studies.require_open(study)
    is_own = (StudyJudgement.item_id == item_id, StudyJudgement.rater_id == rater.id)
    told = {"verdict": verdict, "judged_at": database_now()} | ({} if verdict == "skip" else {"had_verdict": True})
    done = update(StudyJudgement).where(*is_own).values(told)
    if session.execute(done.returning(StudyJudgement.item_id)).first() is None:
        raise NotFound("you were not shown such an item")


def progress(session: Session, rater: Rater) -> Progress:
    """Return how far the rater is."""
    study = study_of(session, rater)
    own = (StudyJudgement.rater_id == rater.id, StudyJudgement.verdict.is_not(None))
    done = session.execute(select(func.count()).select_from(StudyJudgement).where(*own)).scalar_one()
    is_shown = _left_open(session, rater) is not None
    is_over = study.closed_at is not None
    return Progress(done, 0 if is_over else len(_candidates(session, study, rater)) + is_shown)


def _left_open(session: Session, rater: Rater) -> StudyItem | None:
    statement = select(StudyItem).join(StudyJudgement, StudyJudgement.item_id == StudyItem.id)
    own = (StudyJudgement.rater_id == rater.id, StudyJudgement.verdict.is_(None))
    return session.scalars(statement.where(*own).order_by(StudyJudgement.shown_at)).first()


def _candidates(session: Session, study: Study, rater: Rater) -> Sequence[StudyItem]:
    """Return the items that the rater has not seen and that are still wanted, in the rater's order."""
    seen = select(StudyJudgement.item_id).where(StudyJudgement.rater_id == rater.id)
    taken = (
        select(StudyJudgement.item_id, func.count().label("raters"))
        .where(StudyJudgement.study_id == study.id, _takes_a_place(study))
        .where(StudyJudgement.rater_id.not_in(_left_out(session, study)))
        .group_by(StudyJudgement.item_id)
        .subquery()
    )
    is_wanted = or_(StudyItem.kind == "attention", StudyItem.raters_wanted > func.coalesce(taken.c.raters, 0))
    statement = (
        select(StudyItem)
        .outerjoin(taken, taken.c.item_id == StudyItem.id)
        .where(StudyItem.study_id == study.id, StudyItem.id.not_in(seen), is_wanted)
    )
    seed = study.spec["seed"]
    return sorted(session.scalars(statement), key=lambda item: place_of(seed, rater.id, item.id))


def _takes_a_place(study: Study) -> ColumnElement[bool]:
    """Return the condition that a judgement counts to the raters of its item: judged, or shown not long ago.

    What was shown to a rater who may judge no more, by themselves or by their key, waits for nobody.
    """
    is_revoked = or_(StudyRater.revoked_at.is_not(None), ApiKey.revoked_at.is_not(None))
    revoked = select(StudyRater.id).outerjoin(ApiKey, ApiKey.id == StudyRater.key_id)
    revoked = revoked.where(StudyRater.study_id == study.id, is_revoked)
    waits = StudyJudgement.verdict.is_(None) & (StudyJudgement.shown_at > database_now(-KEPT_SECONDS))
    return or_(studies.is_verdict(), waits & StudyJudgement.rater_id.not_in(revoked))


def _left_out(session: Session, study: Study) -> set[str]:
    """Return the raters whose judgements do not count, or not at a gate: what they judged is still wanted of others.

    So a key that trained one of the systems cannot choose, by what it judges itself, what is left for others.
    """
    own = (StudyJudgement.study_id == study.id, StudyItem.kind == "attention", StudyJudgement.verdict.is_not(None))
    checks = select(StudyItem, StudyJudgement.rater_id, StudyJudgement.verdict)
    checks = checks.join(StudyJudgement, StudyJudgement.item_id == StudyItem.id).where(*own)
    given = [
        Judgement(judged_item(item), rater, verdict, 0.0)  # type: ignore[arg-type]
        for item, rater, verdict in session.execute(checks)
    ]
    interested = raters_with(session, study, trainers.of_study(session, study))
    return interested | inattentive(given, allowed=studies.spec_of(study).attention_failures_allowed)
