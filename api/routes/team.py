"""`/v1/team`: who this key belongs to."""

from fastapi import APIRouter

from api.documents import TeamDocument
from api.services import CallerOf, Reading
from store import accounts

router = APIRouter(tags=["team"])


@router.get("/team")
def get_team(session: Reading, caller: CallerOf) -> TeamDocument:
    """Return the team that the key belongs to."""
    row = accounts.team(session, caller.team_id)
    return TeamDocument(id=row.id, name=row.name, key_id=caller.key_id)
