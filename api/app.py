"""Puts the application together. Everything under `/v1` needs a key, by the router that all nouns hang on.

Judging a study takes an invitation to it instead of a key: it hangs on a router of its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from api import handlers, openapi_document, pages, rating_page
from api.middleware import Envelope
from api.problems import errors
from api.routes import (
    artifacts,
    comparisons,
    datasets,
    evaluations,
    health,
    jobs,
    models,
    plans,
    policies,
    rating,
    releases,
    reports,
    studies,
    team,
)
from api.services import caller_of, make_services, refuse_unknown_parameters
from store.settings import Settings

NOUN_ROUTERS = (
    *(team.router, models.router, datasets.router, jobs.router, reports.router, plans.router),
    *(evaluations.router, comparisons.router, studies.router, policies.router, releases.router),
    *artifacts.routers(),
)


def create_app(settings: Settings) -> FastAPI:
    """Return the application for *settings*. Nothing is connected before the first request."""
    app = FastAPI(
        title="DEFT",
        summary="Align language models: score preference data, keep the part that matters, fine-tune, compare.",
        version=_version(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.services = make_services(settings)
    handlers.install(app)
    app.include_router(health.router)
    app.include_router(_v1())
    app.include_router(_for_raters())
    pages.install(app)
    rating_page.install(app)
    openapi_document.install(app)
    app.add_middleware(Envelope)
    return app


def _v1() -> APIRouter:
    router = APIRouter(
        prefix="/v1",
        dependencies=[Depends(caller_of), Depends(refuse_unknown_parameters)],
        responses=errors(401, 404, 422, 500, 503),
    )
    for noun in NOUN_ROUTERS:
        router.include_router(noun)
    return router


def _for_raters() -> APIRouter:
    """Return what an invitation opens, too: it asks who judges instead of whose key it is."""
    router = APIRouter(
        prefix="/v1",
        dependencies=[Depends(rating.rater_of), Depends(refuse_unknown_parameters)],
        responses=errors(401, 404, 422, 500, 503),
    )
    router.include_router(rating.router)
    return router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.services.database.dispose()


def _operation_id(route: APIRoute) -> str:
    return route.name


def _version() -> str:
    try:
        return version("deft-service")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0.1.0"
