"""`/v1/jobs/{job_id}/report.html`, `/report.json`, `/evidence.zip`: what a pipeline found, to read, to use, to keep."""

import io
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.downloads import disposition, made_response
from api.problems import errors
from api.reports.pack import write_pack
from api.reports.page import page, policy
from api.services import CallerOf, Reading, ServicesOf
from store import reports

router = APIRouter(prefix="/jobs", tags=["jobs"])


def report_page(request: Request, job_id: str, session: Reading, services: ServicesOf, caller: CallerOf) -> Response:
    """Return the report of a pipeline as one page that needs nothing else: no script, no other address."""
    text = page(reports.report(reports.made_by(session, services.files, caller.team_id, job_id)))
    headers = {"Content-Security-Policy": policy(), "Cache-Control": "private, no-cache"}
    return made_response(request, io.BytesIO(text.encode()), "text/html; charset=utf-8", headers)


def report(request: Request, job_id: str, session: Reading, services: ServicesOf, caller: CallerOf) -> Response:
    """Return what the report of a pipeline shows, as JSON; what is not there yet is null."""
    found = reports.report(reports.made_by(session, services.files, caller.team_id, job_id))
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    return made_response(request, io.BytesIO(text.encode()), "application/json", {})


def evidence(request: Request, job_id: str, session: Reading, services: ServicesOf, caller: CallerOf) -> Response:
    """Return the report with the raw numbers behind it as one zip; no text of a row is in it."""
    made = reports.made_by(session, services.files, caller.team_id, job_id)
    headers = {"Content-Disposition": disposition(f"{job_id}-evidence.zip")}
    return made_response(request, write_pack(made, reports.report(made)), "application/zip", headers)


def _answers(media_type: str) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {media_type: {}}
    return {
        200: {"description": "The whole; its ETag is the SHA-256.", "content": content},
        206: {"description": "The range that was asked for.", "content": content},
        304: {"description": "The caller has it already."},
        **errors(416),
    }


def _add(path: str, made: Callable[..., Response], name: str, media_type: str) -> None:
    for method in ("GET", "HEAD"):
        router.add_api_route(
            f"/{{job_id}}/{path}",
            made,
            methods=[method],
            name=f"{method.lower()}_{name}",
            response_class=Response,
            responses=_answers(media_type),
        )


_add("report.html", report_page, "report_page", "text/html")
_add("report.json", report, "report", "application/json")
_add("evidence.zip", evidence, "evidence", "application/zip")
