"""Releases: an adapter at the gate. What its policy decided, who approved, overrode, recalled it, until when it is out.

The record (`release_events`) only grows. Nobody approves or overrides what they trained themselves; where the training
job does not say whose it was, whoever asks for the release stands in.
"""

from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, InvalidInput, NotFound, NotPermitted, shown
from deft.evaluation.changes import Measured, read_measured
from deft.promotion import decide, is_passed
from deft.specs import spec_json
from deft.specs.releases import ReleaseSpec
from store import apart, judgements, judgings, policies, trainers
from store.accounts import Caller
from store.artifacts import ArtifactFiles
from store.evaluations import adapters_of
from store.finite import finite
from store.ids import new_id
from store.named import absent, artifact_named
from store.paging import Order, Page, page_of
from store.recalls import is_recalled
from store.release_tables import Policy, Release, ReleaseEvent
from store.tables import ApiKey, Artifact
from store.types import database_now

Status = Literal["held", "released", "expired", "recalled"]
EventType = Literal["requested", "approved", "overridden", "released", "recalled"]


def request(session: Session, files: ArtifactFiles, caller: Caller, spec: ReleaseSpec) -> Release:
    """Hold the adapter to the policy and store what comes of it.

    It is released at once where every clause is met and the policy asks for no approval; else it is held.

    Raises:
        NotFound: the team has no such adapter, evaluation, policy, judging or study.
        InvalidInput: `not_evaluated`, `several_systems`: the adapter is no system of the evaluation, or is several;
            `other_evaluation`: a judging or the study is of another one; `judged_twice`: both judgings tell the same.
        Conflict: `release_recalled`: the adapter has been recalled.
    """
    adapter = artifact_named(session, caller.team_id, spec.adapter, ("adapter", "tuned_model"), "/adapter")
    evaluation = artifact_named(session, caller.team_id, spec.evaluation, ("evaluation",), "/evaluation")
    policy = _policy(session, caller.team_id, spec.policy)
    _refuse_recalled(session, adapter.id)
    system = _system_of(session, caller.team_id, adapter, evaluation)
    rules = policies.spec_of(policy)
    trainer = trainers.of_adapter(session, adapter)
    interested = {caller.key_id} | ({trainer} if trainer else set())
    measured = _measured(session, files, evaluation, spec, system, interested)
    over = (rules.gain.metric, rules.forgetting.metric)
    results = decide(rules, apart.with_objections(session, files, evaluation, adapter, measured, *over), system)
    row = Release(
        id=new_id("rel"),
        team_id=caller.team_id,
        artifact_id=adapter.id,
        evaluation_id=evaluation.id,
        policy_id=policy.id,
        key_id=caller.key_id,
        trainer_key_id=trainer,
        spec=spec_json(spec),
        clauses=finite([result.as_dict() for result in results]),
    )
    session.add(row)
    session.flush()
    _note(session, row, caller, "requested", {"system": system, "is_passed": is_passed(results)})
    _release_if_due(session, row, caller)
    return row


def _measured(
    session: Session,
    files: ArtifactFiles,
    evaluation: Artifact,
    spec: ReleaseSpec,
    system: str,
    interested: Set[str],
) -> Measured:
    """Return the numbers of the evaluation, with those of the judgings and of the study that the release names."""
    found = read_measured(files.folder(evaluation))
    for name in ("judging", "safety_judging"):
        if (judging := getattr(spec, name)) is not None:
            found = judgings.with_judging(session, files, evaluation, found, judging, f"/{name}")
    if spec.study is not None:
        found = judgements.with_study(session, evaluation, found, spec.study, system, interested)
    return found


def approve(session: Session, caller: Caller, release_id: str, note: str | None) -> Release:
    """Agree to a release whose clauses are all met; with the last approval that the policy asks for it is released.

    Raises:
        NotFound: the team has no such release.
        NotPermitted: `own_training`: the caller trained the adapter.
        Conflict: it is recalled (`release_recalled`), released already, or held by a clause (`release_held`).
    """
    row = _locked(session, caller.team_id, release_id)
    _refuse_trainer(row, caller)
    _require_pending(session, row)
    if not all(clause["is_met"] for clause in row.clauses):
        raise Conflict("a clause of the policy holds it: only an override releases it", code="release_held")
    if caller.key_id not in approvers(session, row):
        _note(session, row, caller, "approved", {"note": note})
    _release_if_due(session, row, caller)
    return row


def override(session: Session, caller: Caller, release_id: str, reason: str) -> Release:
    """Release in spite of what holds it; the reason and the failing clauses go on record.

    Raises:
        NotFound: the team has no such release.
        NotPermitted: `own_training`: the caller trained the adapter.
        Conflict: it is recalled, or released already.
    """
    row = _locked(session, caller.team_id, release_id)
    _refuse_trainer(row, caller)
    _require_pending(session, row)
    _note(session, row, caller, "overridden", {"reason": reason, "failing": failing(session, row)})
    _release(session, row, caller)
    return row


def recall(session: Session, caller: Caller, release_id: str, reason: str) -> Release:
    """Take the release back: its adapter's files are handed out no more.

    Raises:
        NotFound: the team has no such release.
        Conflict: `release_recalled`: it has been recalled, by whom and when; the *reason* would be kept nowhere.
    """
    row = _locked(session, caller.team_id, release_id)
    if row.recalled_at is not None:
        raise _recalled_before(session, row)
    row.recalled_at = _now(session)
    _note(session, row, caller, "recalled", {"reason": reason})
    return row


def _recalled_before(session: Session, row: Release) -> Conflict:
    first = next(event for event in events_of(session, row) if event.type == "recalled")
    when, key = first.created_at.isoformat(timespec="seconds"), session.get_one(ApiKey, first.key_id)
    told = f"the release was recalled at {when} by the key {shown(key.name)}: {shown(first.data['reason'])}"
    return Conflict(f"{told}. This reason is not kept", code="release_recalled")


def get(session: Session, team_id: str, release_id: str) -> Release:
    """Return the team's release.

    Raises:
        NotFound: the team has no such release.
    """
    row = session.scalars(select(Release).where(Release.id == release_id, Release.team_id == team_id)).first()
    if row is None:
        raise NotFound("there is no such release")
    return row


def page(
    session: Session,
    team_id: str,
    *,
    adapter: str | None = None,
    limit: int = 50,
    after: str | None = None,
    order: Order = "desc",
) -> Page[Release]:
    """Return a page of the team's releases, of one *adapter* if it is given.

    Raises:
        InvalidInput: `limit` is out of range, or `after` is no item of this list.
    """
    own = statement = select(Release).where(Release.team_id == team_id)
    if adapter is not None:
        statement = statement.where(Release.artifact_id == adapter)
    return page_of(session, statement, Release, limit, after, order, cursors=own)


def status_of(session: Session, row: Release) -> Status:
    """Return what the release is by the database's clock; of a recalled adapter every release is recalled."""
    if is_recalled(session, row.artifact_id):
        return "recalled"
    if row.released_at is None:
        return "held"
    return "expired" if row.expires_at is not None and row.expires_at <= _now(session) else "released"


def failing(session: Session, row: Release) -> list[dict[str, Any]]:
    """Return what holds the release: clauses that are not met, with their numbers, and approvals that are missing."""
    found = [dict(clause) for clause in row.clauses if not clause["is_met"]]
    wanted, given = approvals_wanted(session, row), len(approvers(session, row))
    if given < wanted:
        reason = f"{given} of {wanted} approvals by keys other than the trainer's"
        found.append({"clause": "approval", "reason": reason, "limit": wanted, "value": given})
    return found


def approvers(session: Session, row: Release) -> list[str]:
    """Return the keys that have approved, in order."""
    return [event.key_id for event in events_of(session, row) if event.type == "approved"]


def approvals_wanted(session: Session, row: Release) -> int:
    """Return how many approvals the policy asks for."""
    return policies.spec_of(session.get_one(Policy, row.policy_id)).approvals


def events_of(session: Session, row: Release) -> Sequence[ReleaseEvent]:
    """Return the record of the release, oldest first."""
    own = select(ReleaseEvent).where(ReleaseEvent.release_id == row.id)
    return session.scalars(own.order_by(ReleaseEvent.seq)).all()


def _release_if_due(session: Session, row: Release, caller: Caller) -> None:
    if not failing(session, row):
        _release(session, row, caller)


def _release(session: Session, row: Release, caller: Caller) -> None:
    days = policies.spec_of(session.get_one(Policy, row.policy_id)).expires_days
    row.released_at = _now(session)
    row.expires_at = None if days is None else row.released_at + timedelta(days=days)
    expires_at = None if row.expires_at is None else row.expires_at.isoformat()
    _note(session, row, caller, "released", {"expires_at": expires_at})


def _note(session: Session, row: Release, caller: Caller, kind: EventType, data: dict[str, Any]) -> None:
    last = select(func.coalesce(func.max(ReleaseEvent.seq), 0)).where(ReleaseEvent.release_id == row.id)
    event = ReleaseEvent(
        release_id=row.id,
        seq=session.execute(last).scalar_one() + 1,
        team_id=row.team_id,
        key_id=caller.key_id,
        type=kind,
        data=finite(data),
    )
    session.add(event)
    session.flush()


def _locked(session: Session, team_id: str, release_id: str) -> Release:
    """Return the release, alone in writing it until the transaction ends."""
    own = select(Release).where(Release.id == release_id, Release.team_id == team_id).with_for_update()
    row = session.scalars(own, execution_options={"populate_existing": True}).first()
    if row is None:
        raise NotFound("there is no such release")
    return row


def _require_pending(session: Session, row: Release) -> None:
    if row.recalled_at is not None:
        raise Conflict("the release has been recalled", code="release_recalled")
    _refuse_recalled(session, row.artifact_id)
    if row.released_at is not None:
        raise Conflict("it has been released already; ask for a new release", code="already_released")


def _refuse_trainer(row: Release, caller: Caller) -> None:
    if caller.key_id == (row.trainer_key_id or row.key_id):
        whose = "trained the adapter" if row.trainer_key_id else "asked for the release, and the trainer is not known"
        raise NotPermitted(f"This key {whose}: another one has to decide.", code="own_training")


def _refuse_recalled(session: Session, adapter_id: str) -> None:
    if is_recalled(session, adapter_id):
        raise Conflict("the adapter has been recalled", code="release_recalled")


def _policy(session: Session, team_id: str, id_or_name: str) -> Policy:
    try:
        return policies.get(session, team_id, id_or_name)
    except NotFound:
        raise absent(id_or_name, ("policy",), "/policy", by="id or name") from None


def _system_of(session: Session, team_id: str, adapter: Artifact, evaluation: Artifact) -> str:
    """Return the name under which the evaluation measured the adapter."""
    systems = adapters_of(session, team_id, [evaluation.job_id] if evaluation.job_id else [])
    named = [name for name, own in systems.get(evaluation.job_id or "", {}).items() if own == adapter.id]
    if len(named) == 1:
        return named[0]
    if named:
        raise _several_systems(named)
    fix = "evaluate the adapter, and name that evaluation"
    finding = Finding("not_evaluated", adapter.id, "an adapter that this evaluation measured", fix, pointer="/adapter")
    raise InvalidInput("The evaluation did not measure this adapter.", code="not_evaluated", findings=[finding])


def _several_systems(names: Sequence[str]) -> InvalidInput:
    told, expected = " and ".join(names), "an evaluation that measured the adapter as one system"
    finding = Finding("several_systems", told, expected, "evaluate it once more, as one system", pointer="/evaluation")
    return InvalidInput(f"The evaluation measured this adapter as {told}.", code="several_systems", findings=[finding])


def _now(session: Session) -> datetime:
    return session.execute(select(database_now())).scalar_one()
