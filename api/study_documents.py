"""The JSON objects of human studies. What a rater sees names no system, no kind of item and no side's origin."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.documents import Document
from deft.studies.items import turns_of
from deft.studies.results import Results
from store import studies
from store.judgements import later_turns
from store.rating import Progress
from store.studies import Counts
from store.study_tables import Study, StudyItem, StudyRater


class StudyCounts(Document):
    """How far a study is; `judgements_wanted` is the sum over pairs of the raters that each is to have."""

    pairs: int
    identical: int = Field(description="Prompts to which both systems said the same: ties that nobody is asked about.")
    attention: int
    judgements_wanted: int
    judgements: int
    raters: int


class StudyDocument(Document):
    """A blind comparison of two systems' stored answers by people."""

    id: str
    name: str | None
    evaluation_id: str
    spec: dict[str, Any] = Field(description="What was asked for, with every default and the seed written in.")
    spec_hash: str
    counts: StudyCounts
    rating_url: str = Field(description="The page for judging; an invitation's address adds its token.")
    created_at: datetime
    closed_at: datetime | None


class RaterDocument(Document):
    """Who judges; the token is not kept, and no key is ever shown."""

    id: str
    study_id: str
    name: str
    is_key: bool = Field(description="Whether this is an API key of the team instead of an invitation.")
    created_at: datetime
    revoked_at: datetime | None


class InvitationDocument(RaterDocument):
    """A new rater with the token, shown this once; null in the repeated answer to one `Idempotency-Key`."""

    token: str | None
    url: str | None = Field(description="The page with the token behind `#`, which no server or log sees.")


class RateDocument(Document):
    """A share with its 95 % interval over prompts."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    prompts: int


class AgreementDocument(Document):
    """Krippendorff's alpha over pairs with two raters or more; null where nothing could differ."""

    alpha: float | None = Field(description="Of the four verdicts as names.")
    low: float | None
    high: float | None
    alpha_preference: float | None = Field(description="Of win, tie or both bad, loss as 1, 1/2, 0.")
    items: int
    judgements: int


class RaterFactsDocument(Document):
    """How one rater judged."""

    rater_id: str
    judged: int
    skipped: int
    attention_seen: int
    attention_failed: int
    is_left_out: bool
    is_trainer: bool = Field(description="Whether this is a key that trained one of the systems.")
    median_seconds: float | None


class StudyResultsDocument(Document):
    """What a study has found so far. Raters who failed too many attention items are left out, as its spec says."""

    study_id: str
    systems: list[str]
    sentence: str
    pairs: int = Field(description="Prompts to which the systems gave different answers.")
    identical: int = Field(description="Prompts to which both said the same: ties that nobody is asked about.")
    judged_pairs: int = Field(description="Of `pairs`; where they are fewer, they stand for all of them.")
    verdicts: dict[str, int] = Field(description="`first` and `second` are the systems in the order of `systems`.")
    judged_by_trainers: int = Field(
        description="Of the judgements in `verdicts`, those by keys that trained one of the systems: they count here, "
        "and neither in the score of the closed study nor at the gate."
    )
    skipped: int
    win_rate: RateDocument = Field(
        description="Of the first system; tie, both bad and identical answers count 1/2, those with the share of "
        "prompts that they are. Null while nothing has been judged."
    )
    win_rate_of_all_raters: RateDocument
    first_side: RateDocument = Field(description="How often side 1 won where a side did: 0.5 without a favourite side.")
    agreement: AgreementDocument
    attention_seen: int
    attention_failed: int
    raters: list[RaterFactsDocument]


class ProgressDocument(Document):
    """How far a rater is."""

    done: int
    open: int


class RatingDocument(Document):
    """What a rater knows of a study before the first item."""

    study_id: str
    guidelines: str
    content_warning: str | None
    is_closed: bool
    progress: ProgressDocument


class TurnDocument(Document):
    """One turn of the conversation that was answered."""

    role: str
    content: str


class LaterTurnDocument(Document):
    """What the user said next, the same to both, and the two responses to it."""

    user: str
    response_1: str
    response_2: str


class RatingItemDocument(Document):
    """Two responses to one prompt, and to what the user said next."""

    id: str
    prompt: list[TurnDocument]
    response_1: str
    response_2: str
    later_turns: list[LaterTurnDocument] = Field(
        description="The rest of both conversations, turn by turn; empty where the user said one thing only."
    )
    content_warning: str | None


class NextItemDocument(Document):
    """The item to judge now; null: there is no more."""

    item: RatingItemDocument | None
    progress: ProgressDocument


def study_document(row: Study, counts: Counts) -> StudyDocument:
    """Return *row* with how far it is."""
    return StudyDocument(
        id=row.id,
        name=row.name,
        evaluation_id=row.evaluation_id,
        spec=row.spec,
        spec_hash=row.spec_hash,
        counts=StudyCounts(
            pairs=counts.pairs,
            identical=counts.identical,
            attention=counts.attention,
            judgements_wanted=counts.judgements_wanted,
            judgements=counts.judgements,
            raters=counts.raters,
        ),
        rating_url=rating_url(row.id),
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def rating_url(study_id: str) -> str:
    """Return the address of the page on which the study is judged."""
    return f"/rate/{study_id}"


def rater_document(row: StudyRater) -> RaterDocument:
    """Return *row* without what proves the rater."""
    return RaterDocument(
        id=row.id,
        study_id=row.study_id,
        name=row.name,
        is_key=row.key_id is not None,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def results_document(study_id: str, found: Results) -> StudyResultsDocument:
    """Return what was *found*."""
    return StudyResultsDocument.model_validate({"study_id": study_id, **found.as_dict()})


def progress_document(progress: Progress) -> ProgressDocument:
    """Return how far a rater is."""
    return ProgressDocument(done=progress.done, open=progress.open)


def rating_document(study: Study, progress: Progress) -> RatingDocument:
    """Return what a rater may know of *study*."""
    spec = studies.spec_of(study)
    return RatingDocument(
        study_id=study.id,
        guidelines=spec.guidelines,
        content_warning=spec.content_warning,
        is_closed=study.closed_at is not None,
        progress=progress_document(progress),
    )


def item_document(study: Study, item: StudyItem) -> RatingItemDocument:
    """Return *item* as raters see it."""
    turns = [TurnDocument(role=turn["role"], content=turn["content"]) for turn in turns_of(studies.prompt_of(item))]
    return RatingItemDocument(
        id=item.id,
        prompt=turns,
        response_1=item.first,
        response_2=item.second,
        later_turns=[LaterTurnDocument(**turn) for turn in later_turns(item)],
        content_warning=studies.spec_of(study).content_warning if item.is_warned else None,
    )
