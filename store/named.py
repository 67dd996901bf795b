"""What a body names by its id, other than the inputs of a job: found, or refused at its place with where to look."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from deft.errors import Finding, NotFound, shown
from deft.specs import ArtifactKind
from store import artifacts
from store.tables import Artifact


def artifact_named(
    session: Session, team_id: str, artifact_id: str, kinds: Sequence[ArtifactKind], at: str
) -> Artifact:
    """Return the team's artifact of one of *kinds* that is named at the JSON pointer *at*.

    Raises:
        NotFound: `reference_not_found`: the team has no such artifact.
    """
    try:
        return artifacts.get(session, team_id, artifact_id, tuple(kinds))
    except NotFound:
        raise absent(artifact_id, kinds, at) from None


def absent(found: str, kinds: Sequence[str], at: str, *, by: str = "id") -> NotFound:
    """Return the refusal of *found*, named *by* its id (or name) at the JSON pointer *at*: nothing of *kinds* is it."""
    nouns = [kind.replace("_", " ") for kind in kinds]
    expected = f"the {by} of {' or '.join(map(_one, nouns))} that your team has"
    fix = f"list them: {', '.join(f'GET /v1/{_many(kind)}' for kind in kinds)}"
    finding = Finding("reference_not_found", shown(found), expected, fix, pointer=at)
    return NotFound(f"there is no such {nouns[0]}", code="reference_not_found", findings=[finding])


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _many(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
