"""Recalled adapters and tuned models: which they are, why, and what is refused of them.

Their files are handed out no more, no new job starts from them and no new study shows people their answers. They are
still evaluated and judged, since that is how one finds out what is wrong.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from deft.errors import Conflict, Finding, NotPermitted, shown
from store.release_tables import Release, ReleaseEvent
from store.tables import ApiKey, Artifact, JobInput

START_INPUT = "adapter"
"""The input of a job that starts from what it names; those that an evaluation measures are `adapter.0`, and so on."""


def recalled(session: Session, team_id: str) -> set[str]:
    """Return the team's adapters and tuned models that have been recalled."""
    statement = select(Release.artifact_id).where(Release.team_id == team_id, Release.recalled_at.is_not(None))
    return set(session.scalars(statement))


def is_recalled(session: Session, artifact_id: str) -> bool:
    """Return whether any release of the artifact has been recalled: that is one of the artifact."""
    found = select(Release.id).where(Release.artifact_id == artifact_id, Release.recalled_at.is_not(None))
    return session.scalars(found).first() is not None


def refuse_download(session: Session, artifact: Artifact) -> None:
    """Refuse to hand out what has been recalled.

    Raises:
        NotPermitted: `recalled`.
    """
    if is_recalled(session, artifact.id):
        raise NotPermitted(f"This {artifact.kind} has been recalled: it is no longer handed out.", code="recalled")


def refuse_as_start(session: Session, inputs: Sequence[JobInput]) -> None:
    """Refuse a job that would start from what has been recalled.

    Raises:
        Conflict: `adapter_recalled`: with who recalled it, when and why.
    """
    fix = "start from another adapter, or from none; an evaluation may still measure this one"
    for each in inputs:
        if each.name == START_INPUT and each.artifact_id is not None:
            _refuse(session, each.artifact_id, each.pointer, fix)


def refuse_in_study(session: Session, systems: Sequence[str], adapters: Mapping[str, str]) -> None:
    """Refuse a study whose *systems* were recalled; *adapters* are those of the evaluation, by system.

    Raises:
        Conflict: `adapter_recalled`: with who recalled it, when and why.
    """
    for place, system in enumerate(systems):
        if system in adapters:
            fix = "compare other systems; an evaluation or a judge may still measure this one"
            _refuse(session, adapters[system], f"/systems/{place}", fix)


def _refuse(session: Session, artifact_id: str, pointer: str, fix: str) -> None:
    """Refuse the artifact that is named at *pointer* where it has been recalled."""
    statement = select(ReleaseEvent, ApiKey.name).join(Release, Release.id == ReleaseEvent.release_id)
    statement = statement.join(ApiKey, ApiKey.id == ReleaseEvent.key_id)
    statement = statement.where(Release.artifact_id == artifact_id, ReleaseEvent.type == "recalled")
    first = session.execute(statement.order_by(ReleaseEvent.created_at, ReleaseEvent.release_id)).first()
    if first is None:
        return
    event, key = first
    when, why = event.created_at.isoformat(timespec="seconds"), shown(event.data["reason"])
    expected = "an adapter or a tuned model that has not been recalled"
    finding = Finding("adapter_recalled", f"{artifact_id}, recalled", expected, fix, pointer=pointer)
    message = (
        f"{artifact_id} was recalled at {when} by the key {shown(key)}: {why} (GET /v1/releases/{event.release_id})"
    )
    raise Conflict(message, code="adapter_recalled", findings=[finding])
