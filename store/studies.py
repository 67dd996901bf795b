"""Human studies: made from an evaluation's stored answers, listed, closed. Raters: `raters`, judging: `rating`."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, NotFound, shown
from deft.examples import Message, prompt_from_text, prompt_text
from deft.specs import spec_hash, spec_json
from deft.specs.studies import StudySpec
from deft.studies.generations import LaterTurn, answered_prompts
from deft.studies.items import Item, make_items, refuse_unknown_sources
from store import artifacts, recalls
from store.accounts import Caller
from store.artifacts import ArtifactFiles
from store.evaluations import adapters_of
from store.ids import new_id
from store.named import artifact_named
from store.paging import Order, Page, page_of
from store.study_tables import Study, StudyItem, StudyJudgement, StudyRater
from store.tables import Artifact, JobInput
from store.types import database_now, storable

SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Prepared:
    """A study that can be made: its *spec* with the seed written in, and its *items*."""

    spec: StudySpec
    items: list[Item]


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a study is: what there is to judge, who may, and what has been judged."""

    pairs: int
    identical: int
    attention: int
    judgements_wanted: int
    judgements: int
    raters: int


def prepare(session: Session, files: ArtifactFiles, team_id: str, spec: StudySpec) -> Prepared:
    """Read the answers that *spec* names and make its items; stores nothing, reads whole files.

    Raises:
        NotFound: the team has no such evaluation.
        InvalidInput: it has no stored answers, no such system, or its prompts are not on record; or an attention item
            has no right answer (`same_answers`), or nobody would be warned (`unknown_source`, `no_content_warning`).
        Conflict: `adapter_recalled`: a system has been recalled, so that nobody is to see its answers.
    """
    _refuse_same_answers(spec)
    evaluation = artifact_named(session, team_id, spec.evaluation, ("evaluation",), "/evaluation")
    dataset = _dataset_of(session, team_id, evaluation)
    adapters = adapters_of(session, team_id, [evaluation.job_id] if evaluation.job_id else [])
    recalls.refuse_in_study(session, spec.systems, adapters.get(evaluation.job_id or "", {}))
    found = answered_prompts(files.folder(evaluation), files.folder(dataset), spec.systems, spec.prompt_set)
    refuse_unknown_sources(spec, found)
    seed = secrets.randbelow(SEEDS) if spec.seed is None else spec.seed
    settled = spec.model_copy(update={"seed": seed})
    return Prepared(settled, make_items(settled, found, seed))


def create(session: Session, caller: Caller, prepared: Prepared) -> Study:
    """Store the study with its items and return it."""
    spec = prepared.spec
    study = Study(
        id=new_id("st"),
        team_id=caller.team_id,
        key_id=caller.key_id,
        name=spec.name,
        evaluation_id=spec.evaluation,
        spec=spec_json(spec),
        spec_hash=spec_hash(spec),
    )
    session.add(study)
    session.flush()
    session.add_all([_row(study, item) for item in prepared.items])
    session.flush()
    return study


def get(session: Session, team_id: str, study_id: str) -> Study:
    """Return the team's study.

    Raises:
        NotFound: the team has no such study.
    """
    study = session.scalars(select(Study).where(Study.id == study_id, Study.team_id == team_id)).first()
    if study is None:
        raise NotFound("there is no such study")
    return study


def page(
    session: Session, team_id: str, *, limit: int = 50, after: str | None = None, order: Order = "desc"
) -> Page[Study]:
    """Return a page of the team's studies.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    return page_of(session, select(Study).where(Study.team_id == team_id), Study, limit, after, order)


def closed_of(session: Session, team_id: str, evaluation_id: str) -> Sequence[Study]:
    """Return the team's closed studies of that evaluation, oldest first."""
    own = (Study.team_id == team_id, Study.evaluation_id == evaluation_id, Study.closed_at.is_not(None))
    return session.scalars(select(Study).where(*own).order_by(Study.created_at, Study.id)).all()


def close(session: Session, team_id: str, study_id: str) -> Study:
    """End the judging; closing twice is no error. Nothing that counts was judged after the instant that is kept."""
    study = get(session, team_id, study_id)
    lock(session, study)
    is_open = (Study.id == study.id, Study.closed_at.is_(None))
    session.execute(update(Study).where(*is_open).values(closed_at=database_now()))
    session.refresh(study)
    return study


def lock(session: Session, study: Study) -> None:
    """Let one request of a study at a time go on until its transaction ends, be it the one that closes it.

    Two raters at once must not see one place as free. `FOR NO KEY UPDATE` lets rows that refer to the study be written.
    """
    session.execute(select(Study.id).where(Study.id == study.id).with_for_update(key_share=True))


def require_open(study: Study) -> None:
    """Refuse to go on with a study that is closed.

    Raises:
        Conflict: `study_closed`.
    """
    if study.closed_at is not None:
        raise Conflict("the study is closed: nothing more is judged", code="study_closed")


def spec_of(study: Study) -> StudySpec:
    """Return the study's spec as the object that it was made from."""
    return StudySpec.model_validate(study.spec)


def counts(session: Session, study: Study) -> Counts:
    """Return how far the study is."""
    by_kind = select(StudyItem.kind, func.count(), func.sum(StudyItem.raters_wanted))
    found = {
        kind: (number, wanted or 0)
        for kind, number, wanted in session.execute(
            by_kind.where(StudyItem.study_id == study.id).group_by(StudyItem.kind)
        )
    }
    judged = select(func.count()).select_from(StudyJudgement).join(StudyItem, StudyItem.id == StudyJudgement.item_id)
    judged = judged.where(StudyJudgement.study_id == study.id, StudyItem.kind == "pair")
    raters = select(func.count()).select_from(StudyRater).where(StudyRater.study_id == study.id)
    return Counts(
        pairs=found.get("pair", (0, 0))[0],
        identical=found.get("identical", (0, 0))[0],
        attention=found.get("attention", (0, 0))[0],
        judgements_wanted=int(found.get("pair", (0, 0))[1]),
        judgements=session.execute(judged.where(is_verdict())).scalar_one(),
        raters=session.execute(raters).scalar_one(),
    )


def is_verdict() -> ColumnElement[bool]:
    """Return the condition that a judgement says something: neither open nor a skip."""
    return StudyJudgement.verdict.is_not(None) & (StudyJudgement.verdict != "skip")


def items_of(session: Session, study: Study) -> Sequence[StudyItem]:
    """Return all items of the study, in the order in which they were made."""
    return session.scalars(select(StudyItem).where(StudyItem.study_id == study.id).order_by(StudyItem.id)).all()


def _refuse_same_answers(spec: StudySpec) -> None:
    """Refuse attention items whose two answers are the same on the page, so that no verdict is the right one."""
    findings = [
        Finding(
            "same_answers",
            f"the same text as `better`: {shown(item.worse)}",
            "a text that is worse than `better`",
            "change one of the two, or leave the item out",
            pointer=f"/attention_items/{place}/worse",
        )
        for place, item in enumerate(spec.attention_items)
        if item.better.split() == item.worse.split()
    ]
    if findings:
        raise InvalidInput("An attention item has no right answer.", code="same_answers", findings=findings)


def _dataset_of(session: Session, team_id: str, evaluation: Artifact) -> Artifact:
    """Return the dataset whose rows the evaluation asked."""
    named = select(JobInput.artifact_id).where(JobInput.job_id == evaluation.job_id, JobInput.name == "dataset")
    dataset_id = session.scalars(named).first()
    if dataset_id is None:
        finding = Finding(
            "no_prompts",
            "an evaluation without a job that names its dataset",
            "an evaluation that a job made",
            "name another evaluation",
            pointer="/evaluation",
        )
        raise InvalidInput("The prompts of the evaluation are not known.", code="no_prompts", findings=[finding])
    return artifacts.get(session, team_id, dataset_id, "dataset")


def _row(study: Study, item: Item) -> StudyItem:
    return StudyItem(
        id=new_id("item"),
        study_id=study.id,
        team_id=study.team_id,
        kind=item.kind,
        row=item.row,
        cluster=item.cluster,
        source=item.source,
        prompt=prompt_text(item.prompt),
        is_messages=not isinstance(item.prompt, str),
        first=item.first,
        second=item.second,
        later_turns=[_later_turn(turn) for turn in item.later],
        is_swapped=item.is_swapped,
        expected=item.expected,
        raters_wanted=item.raters_wanted,
        is_warned=item.is_warned,
    )


def _later_turn(turn: LaterTurn) -> dict[str, str]:
    first, second = turn.answers
    return {"user": storable(turn.user), "first": storable(first), "second": storable(second)}


def prompt_of(item: StudyItem) -> str | list[Message]:
    """Return the item's prompt: text, or messages."""
    return prompt_from_text(item.prompt, is_messages=item.is_messages)
