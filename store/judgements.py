"""What was judged in a study: as objects for the statistics, as rows for the export, as pairs for a new dataset.

And as the win rate of one of its systems, for the promotion gate.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deft.errors import NotFound
from deft.evaluation.changes import Measured, together
from deft.specs.studies import StudySpec
from deft.studies.items import turns_of
from deft.studies.judgements import JudgedItem, Judgement
from deft.studies.preferences import Texts
from deft.studies.results import Results, results
from store import studies, trainers
from store.judgings import another_evaluation
from store.named import absent
from store.scores import HUMAN
from store.study_tables import Study, StudyItem, StudyJudgement, StudyRater
from store.tables import Artifact

LEAST_ITEMS = 50
"""Items that people without a part in the release must have judged before a study decides, as many as of a judge."""
COLUMNS = (
    "study_id",
    "item_id",
    "kind",
    "row",
    "source",
    "rater_id",
    "rater_name",
    "verdict",
    "system_1",
    "system_2",
    "preferred",
    "expected",
    "is_failure",
    "shown_at",
    "judged_at",
    "seconds",
)
"""Of an exported judgement, without texts."""


def of_study(session: Session, study: Study, items: Sequence[StudyItem]) -> list[Judgement]:
    """Return every judgement of the study, skips too, in the order in which they were made."""
    by_id = {item.id: judged_item(item) for item in items}
    return [
        Judgement(by_id[row.item_id], row.rater_id, row.verdict, _seconds(row))  # type: ignore[arg-type]
        for row in _rows(session, study)
    ]


def judged_item(row: StudyItem) -> JudgedItem:
    """Return *row* as far as judging goes."""
    return JudgedItem(row.id, row.kind, row.cluster, row.is_swapped, row.expected)  # type: ignore[arg-type]


def results_of(session: Session, study: Study, without: Set[str] = frozenset()) -> Results:
    """Return what the study has found so far, as if the keys *without* had judged nothing."""
    trained = raters_with(session, study, trainers.of_study(session, study))
    return _results_but_for(session, study, raters_with(session, study, without), trained)


def _results_but_for(session: Session, study: Study, left_out: Set[str], trained: Set[str] = frozenset()) -> Results:
    """Return what others than the raters *left_out* have found; it says what part the raters *trained* have in it."""
    spec = studies.spec_of(study)
    rows = studies.items_of(session, study)
    return results(
        spec.systems,
        [judged_item(row) for row in rows],
        [judgement for judgement in of_study(session, study, rows) if judgement.rater_id not in left_out],
        allowed=spec.attention_failures_allowed,
        seed=spec.seed or 0,
        trainers=trained,
    )


def raters_with(session: Session, study: Study, keys: Set[str]) -> set[str]:
    """Return the raters of the study that are one of the *keys*."""
    own = (StudyRater.study_id == study.id, StudyRater.key_id.in_(list(keys)))
    return set(session.scalars(select(StudyRater.id).where(*own))) if keys else set()


def with_study(
    session: Session, evaluation: Artifact, measured: Measured, study_id: str, system: str, interested: Set[str]
) -> Measured:
    """Return what was *measured* in *evaluation* with the win rate that a study of it gives *system*.

    What the keys *interested* in the release judged takes no part, nor what those judged that trained either system.
    A study that is still open decides nothing: who may choose when to look would choose the number. So does one of
    which others judged fewer than `LEAST_ITEMS` items.

    Raises:
        NotFound: the team has no such study.
        InvalidInput: `other_evaluation`: it is of another evaluation.
    """
    try:
        study = studies.get(session, evaluation.team_id, study_id)
    except NotFound:
        raise absent(study_id, ("study",), "/study") from None
    if study.evaluation_id != evaluation.id:
        raise another_evaluation(study.id, evaluation.id, "study", "/study")
    trained = trainers.of_study(session, study)
    left_out = raters_with(session, study, interested | trained)
    found = _results_but_for(session, study, left_out)
    inattentive = {rater.rater_id for rater in found.raters if rater.is_left_out}
    taken = _taken(session, study, raters_with(session, study, interested - trained), left_out | inattentive)
    told = _objections(study, found, taken) if system in found.systems else [_of_others(study, found, system)]
    reasons = {HUMAN: "; ".join(told)} if told else {}
    number = {HUMAN: _judged_by(session, left_out)}
    return together(measured, replace(win_rate_of(found, system), reasons=reasons, judgements_left_out=number))


def _of_others(study: Study, found: Results, system: str) -> str:
    """Return why the study tells nothing of *system*, which is neither of the two that it is of."""
    first, second = found.systems
    return f"the named one, {study.id}, is of `{first}` and `{second}`, not of `{system}`"


def _objections(study: Study, found: Results, taken: int) -> list[str]:
    """Return why the study, of which others than the keys with a part in it *found* so much, may decide nothing."""
    told = ["the study is still open: close it"] if study.closed_at is None else []
    if found.judged_pairs < LEAST_ITEMS:
        told.append(
            f"{found.judged_pairs} of its items were judged by others than the keys that trained its systems and that "
            f"ask for the release, {LEAST_ITEMS} are needed"
        )
    if taken:
        told.append(
            f"{taken} of its items were judged by the key that asks alone, which may so have chosen what was left for "
            "others: another key has to ask"
        )
    return told


def _taken(session: Session, study: Study, own: Set[str], without: Set[str]) -> int:
    """Return how many pairs the raters *own* took from others: all places, and nobody but *without* judged them.

    What a trainer judges is asked of others too (`store.rating`), and is none of these. Nor is what was only skipped;
    but a skip in the place of a verdict may have been said when others had judged the rest.
    """
    made = select(StudyItem.id, StudyItem.raters_wanted, StudyJudgement.rater_id, studies.is_verdict())
    made = made.join(StudyJudgement, StudyItem.id == StudyJudgement.item_id).where(
        StudyItem.kind == "pair", StudyItem.study_id == study.id, StudyJudgement.had_verdict
    )
    places: Counter[tuple[str, int]] = Counter()
    judged: set[str] = set()
    for item, wanted, rater, is_verdict in session.execute(made):
        places[item, wanted] += rater in own
        if is_verdict and rater not in without:
            judged.add(item)
    return sum(taken >= wanted and item not in judged for (item, wanted), taken in places.items())


def _judged_by(session: Session, raters: Set[str]) -> int:
    """Return how many judgements of pairs, but for skips, the *raters* made."""
    own = select(func.count()).select_from(StudyJudgement)
    own = own.join(StudyItem, StudyItem.id == StudyJudgement.item_id).where(
        StudyItem.kind == "pair",
        StudyJudgement.rater_id.in_(raters),
        studies.is_verdict(),
    )
    return session.execute(own).scalar_one()


def win_rate_of(found: Results, system: str) -> Measured:
    """Return the win rate of *system* as the study's only number; none where it is no side, or nothing was judged."""
    rate, (first, second) = found.win_rate, found.systems
    if system not in found.systems:
        return Measured([], [], {})
    ends = {"value": rate.value, "low": rate.low, "high": rate.high}
    if system == second:
        of_first = {"value": rate.value, "low": rate.high, "high": rate.low}
        ends = {name: None if end is None else 1 - end for name, end in of_first.items()}
    row = {"system": system, "metric": HUMAN, "slice": "all", **ends, "n": rate.n}
    return Measured([row], [], {}, opponents={HUMAN: first if system == second else second})


def texts_of(items: Sequence[StudyItem]) -> dict[str, Texts]:
    """Return the pairs among *items*, by id, with the answers in the order of the study's systems."""
    return {item.id: _texts(item) for item in items if item.kind == "pair"}


def _texts(item: StudyItem) -> Texts:
    answers = (item.second, item.first) if item.is_swapped else (item.first, item.second)
    return Texts(item.row or 0, studies.prompt_of(item), item.source, answers)


def export_rows(session: Session, study: Study, *, with_texts: bool) -> Iterator[dict[str, Any]]:
    """Yield one flat row for each judgement; with *with_texts* the prompt and both responses as they were shown."""
    spec = studies.spec_of(study)
    items = {item.id: item for item in studies.items_of(session, study)}
    named = select(StudyRater.id, StudyRater.name).where(StudyRater.study_id == study.id)
    names = {rater.id: rater.name for rater in session.execute(named)}
    for row in _rows(session, study):
        yield _exported(spec, items[row.item_id], row, names) | (_shown(items[row.item_id]) if with_texts else {})


def _exported(spec: StudySpec, item: StudyItem, row: StudyJudgement, names: Mapping[str, str]) -> dict[str, Any]:
    judgement = Judgement(judged_item(item), row.rater_id, row.verdict, _seconds(row))  # type: ignore[arg-type]
    first, second = reversed(spec.systems) if item.is_swapped else spec.systems
    is_pair = item.kind == "pair"
    return {
        "study_id": row.study_id,
        "item_id": item.id,
        "kind": item.kind,
        "row": item.row,
        "source": item.source,
        "rater_id": row.rater_id,
        "rater_name": names[row.rater_id],
        "verdict": row.verdict,
        "system_1": first if is_pair else None,
        "system_2": second if is_pair else None,
        "preferred": _preferred(spec, judgement),
        "expected": item.expected,
        "is_failure": judgement.is_failure,
        "shown_at": row.shown_at.isoformat(),
        "judged_at": row.judged_at.isoformat() if row.judged_at else None,
        "seconds": judgement.seconds,
    }


def _preferred(spec: StudySpec, judgement: Judgement) -> str | None:
    """Return the name of the system that was preferred, `tie` or `both_bad`; None of a skip and a check."""
    sides = {"first": spec.systems[0], "second": spec.systems[1]}
    return None if judgement.outcome is None else sides.get(judgement.outcome, judgement.outcome)


def _shown(item: StudyItem) -> dict[str, Any]:
    return {
        "prompt": turns_of(studies.prompt_of(item)),
        "response_1": item.first,
        "response_2": item.second,
        "later_turns": later_turns(item),
    }


def later_turns(item: StudyItem) -> list[dict[str, str]]:
    """Return the turns after the first as they were shown."""
    return [
        {"user": turn["user"], "response_1": turn["first"], "response_2": turn["second"]} for turn in item.later_turns
    ]


def _rows(session: Session, study: Study) -> Sequence[StudyJudgement]:
    own = (StudyJudgement.study_id == study.id, StudyJudgement.verdict.is_not(None))
    order = (StudyJudgement.judged_at, StudyJudgement.item_id, StudyJudgement.rater_id)
    return session.scalars(select(StudyJudgement).where(*own).order_by(*order)).all()


def _seconds(row: StudyJudgement) -> float:
    return 0.0 if row.judged_at is None else round((row.judged_at - row.shown_at).total_seconds(), 3)
