"""What a request needs: the caller, a session, the settings. Dependencies only; no route, no query.

A session dependency ends before the answer is sent (function scope), so that what a caller reads has been committed.
The bell rings after the commit and after the answer: it can delay or fail nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from deft.errors import Finding, InvalidInput, NotAuthenticated
from deft.spec_errors import unknown_name
from store.accounts import Caller, authenticate
from store.artifacts import ArtifactFiles
from store.bell import Ring, make_celery, ring_all
from store.database import Database
from store.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """What the application holds for all requests."""

    settings: Settings
    database: Database
    files: ArtifactFiles
    bell: Celery


def make_services(settings: Settings) -> Services:
    """Return the services for *settings*; nothing is connected yet."""
    return Services(
        settings=settings,
        database=Database(settings.resolved_database_url),
        files=ArtifactFiles(settings),
        bell=make_celery(settings, role="producer"),
    )


def services_of(request: Request) -> Services:
    """Return the application's services."""
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]

bearer = HTTPBearer(auto_error=False, scheme_name="api_key", description="An API key, `deft_...`.")


def caller_of(
    services: ServicesOf, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    """Return who calls; its own short session, so that strangers never hold a place of a writer.

    Raises:
        NotAuthenticated: the header names no valid key.
    """
    if credentials is None:
        raise NotAuthenticated
    with services.database.read() as session:
        return authenticate(session, credentials.credentials)


CallerOf = Annotated[Caller, Depends(caller_of)]


def rings(services: ServicesOf) -> Iterator[list[Ring]]:
    """Yield a list of whom to ring for; workers are told once the answer is out."""
    due: list[Ring] = []
    yield due
    ring_all(services.bell, due)


Rings = Annotated[list[Ring], Depends(rings)]


def _reading(services: ServicesOf, _caller: CallerOf) -> Iterator[Session]:
    with services.database.read() as session:
        yield session


def _writing(services: ServicesOf, _caller: CallerOf, _rings: Rings) -> Iterator[Session]:
    with services.database.write() as session:
        yield session


Reading = Annotated[Session, Depends(_reading, scope="function")]
Writing = Annotated[Session, Depends(_writing, scope="function")]


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not take: a misspelt filter must not answer with everything.

    Raises:
        InvalidInput: the query has one, and the finding names those that there are; or it has one more than once.
    """
    known = _query_names(request.scope["route"].dependant)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise InvalidInput(
            "The address has a parameter that it does not take.",
            code="unknown_parameter",
            findings=[unknown_name(name, known, "parameters") for name in unknown[:20]],
        )
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidInput(
            "The address has a parameter more than once.",
            code="repeated_parameter",
            findings=[
                Finding("repeated_parameter", f"{names.count(name)} times", "once", "Send it once.", column=name)
                for name in repeated
            ],
        )


def _query_names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_query_names(dependency) for dependency in dependant.dependencies))
