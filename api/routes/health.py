"""`/livez`: the process answers. `/readyz`: it can do its work. Both without a key; they say nothing about anyone."""

import tempfile
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from sqlalchemy import text

from api.documents import Document
from api.services import Services, ServicesOf
from deft.errors import DeftError

router = APIRouter(tags=["health"])

Check = Literal["ok", "away"]


class Live(Document):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Document):
    """What the service needs. Without the broker it still takes jobs, which then wait; so that fails nothing."""

    status: Literal["ok", "unavailable"]
    database: Check
    storage: Check
    broker: Check


@router.get("/livez")
def get_livez() -> Live:
    """Say that the process answers."""
    return Live()


def readiness(services: ServicesOf) -> Ready:
    """Look at everything that the service needs."""
    database = _check(lambda: _ask_database(services))
    storage = _check(lambda: _write_file(services))
    broker = _check(lambda: _ask_broker(services))
    status: Literal["ok", "unavailable"] = "ok" if database == storage == "ok" else "unavailable"
    return Ready(status=status, database=database, storage=storage, broker=broker)


@router.get("/readyz", responses={503: {"model": Ready, "description": "Something that is needed is away."}})
def get_readyz(ready: Annotated[Ready, Depends(readiness)], response: Response) -> Ready:
    """Say whether the database and the storage can be used; 503 if not."""
    if ready.status != "ok":
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return ready


def _check(look: Callable[[], None]) -> Check:
    try:
        look()
    except (DeftError, OSError):
        return "away"
    return "ok"


def _ask_database(services: Services) -> None:
    with services.database.read() as session:
        session.execute(text("SELECT 1 FROM teams LIMIT 1"))


def _write_file(services: Services) -> None:
    folder = services.settings.staging_folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="ready-") as file:
        file.write(b"ready")
        file.flush()


def _ask_broker(services: Services) -> None:
    try:
        with services.bell.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=1)
    except Exception as error:
        raise OSError("the broker does not answer") from error
