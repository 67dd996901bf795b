"""The JSON objects of the promotion gate: policies, releases, and who fetched what."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from api.documents import Document
from deft.promotion import prompts_wanted
from store import releases
from store.downloads import Fetched
from store.policies import spec_of
from store.release_tables import Policy, Release


class PolicyDocument(Document):
    """The rules of a promotion gate, which never change."""

    id: str
    name: str
    spec: dict[str, Any]
    spec_hash: str
    safety_prompts: int | None = Field(
        description="Prompts a category from which on an adapter that changes nothing can meet the safety clause, 5 at "
        "least; null: no number of prompts is enough."
    )
    made_by: str = Field(description="The id of the key that made it.")
    created_at: datetime


class ClauseDocument(Document):
    """One number held against one limit, by the end of its 95 % interval that is worse for the adapter."""

    clause: Literal["gain", "forgetting", "safety"]
    metric: str
    slice: str
    against: str
    comparison: Literal["at_least", "at_most"]
    limit: float
    bound: float | None = Field(description="The end of the interval that decides; null: there is none.")
    value: float | None
    low: float | None
    high: float | None
    against_systems: list[str] = Field(default_factory=list, description="The runs that `against` came to.")
    is_paired: bool | None
    has_luck: bool | None = Field(None, description="True: the interval knows what chance in a training run does.")
    is_met: bool
    reason: str | None
    detector: str | None = Field(
        None,
        description="What told the kinds of answers of a safety clause: the rules, or a judge; null: not on record.",
    )
    judged_prompts: int | None = Field(
        None,
        description="Of a number that a judging tells: how many prompts it judged, of the `answered_prompts` of the "
        "evaluation; whoever posted the judging chose them (`prompt_sets`, `prompts`).",
    )
    answered_prompts: int | None = Field(
        None, description="Of a number that a judging tells: the prompts that the evaluation's systems answered."
    )
    read_prompts: int | None = Field(
        None,
        description="Of a number that a judging tells prompt by prompt: how many prompts it is over, those for which "
        "the judge's replies could be read of both sides; a prompt that several rows share is counted once.",
    )
    judgements_left_out: int | None = Field(
        None,
        description="Of a number that a human study tells: how many judgements of it take no part, since the keys that "
        "trained its systems, or that ask for the release, made them.",
    )


class ReleaseEventDocument(Document):
    """Who did what to a release; the record only grows."""

    seq: int
    type: Literal["requested", "approved", "overridden", "released", "recalled"]
    key_id: str
    data: dict[str, Any]
    created_at: datetime


class ReleaseDocument(Document):
    """An adapter at the gate."""

    id: str
    status: Literal["held", "released", "expired", "recalled"]
    failing: list[dict[str, Any]] = Field(
        description="What holds it, or was overridden: clauses that are not met with their numbers, missing approvals."
    )
    clauses: list[ClauseDocument]
    adapter_id: str
    evaluation_id: str
    judging_id: str | None = Field(description="The judging whose numbers took part; null: none.")
    safety_judging_id: str | None = Field(description="A second judging, named for the safety clause; null: none.")
    study_id: str | None = Field(description="The human study whose win rate took part; null: none.")
    policy_id: str
    requested_by: str
    trainer_key_id: str | None = Field(description="Who posted the training; null: the job does not say.")
    approvals_wanted: int
    approved_by: list[str]
    is_overridden: bool
    released_at: datetime | None
    expires_at: datetime | None
    recalled_at: datetime | None
    created_at: datetime
    events: list[ReleaseEventDocument]


class DownloadDocument(Document):
    """A file of a released adapter that a key has fetched, or a part of it."""

    key_id: str
    key_name: str
    path: str
    times: int
    first_at: datetime
    last_at: datetime


class RecallDocument(ReleaseDocument):
    """A release that was taken back, and whom that concerns."""

    downloads: list[DownloadDocument]


def policy_document(row: Policy) -> PolicyDocument:
    """Return *row* as callers see it."""
    return PolicyDocument(
        id=row.id,
        name=row.name,
        spec=row.spec,
        spec_hash=row.spec_hash,
        safety_prompts=prompts_wanted(spec_of(row).safety),
        made_by=row.key_id,
        created_at=row.created_at,
    )


def release_document(session: Session, row: Release) -> ReleaseDocument:
    """Return *row* with its record and what holds it."""
    return ReleaseDocument.model_validate(_fields(session, row))


def recall_document(session: Session, row: Release, fetched: Sequence[Fetched]) -> RecallDocument:
    """Return the recalled *row* and who has *fetched* its adapter."""
    downloads = [download_document(one) for one in fetched]
    return RecallDocument.model_validate({**_fields(session, row), "downloads": downloads})


def _fields(session: Session, row: Release) -> dict[str, Any]:
    events = releases.events_of(session, row)
    names = ("seq", "type", "key_id", "data", "created_at")
    status = releases.status_of(session, row)
    is_overridden = any(event.type == "overridden" for event in events)
    return {
        "id": row.id,
        "status": status,
        "failing": releases.failing(session, row) if status == "held" or is_overridden else [],
        "clauses": row.clauses,
        "adapter_id": row.artifact_id,
        "evaluation_id": row.evaluation_id,
        "judging_id": row.spec.get("judging"),
        "safety_judging_id": row.spec.get("safety_judging"),
        "study_id": row.spec.get("study"),
        "policy_id": row.policy_id,
        "requested_by": row.key_id,
        "trainer_key_id": row.trainer_key_id,
        "approvals_wanted": releases.approvals_wanted(session, row),
        "approved_by": releases.approvers(session, row),
        "is_overridden": is_overridden,
        "released_at": row.released_at,
        "expires_at": row.expires_at,
        "recalled_at": row.recalled_at,
        "created_at": row.created_at,
        "events": [{name: getattr(event, name) for name in names} for event in events],
    }


def download_document(fetched: Fetched) -> DownloadDocument:
    """Return what was fetched."""
    return DownloadDocument(
        key_id=fetched.key_id,
        key_name=fetched.key_name,
        path=fetched.path,
        times=fetched.times,
        first_at=fetched.first_at,
        last_at=fetched.last_at,
    )
