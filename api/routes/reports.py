"""`/v1/jobs/{job_id}/report.html`, `/report.json`, `/evidence.zip`: what a pipeline found, to read, to use, to keep."""

import hashlib
from collections.abc import Iterator
from typing import IO, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from api.downloads import CHUNK_BYTES, disposition, is_match
from api.reports.pack import write_pack
from api.reports.page import page, policy
from api.services import CallerOf, Reading, ServicesOf
from store import reports

router = APIRouter(prefix="/jobs", tags=["jobs"])

AN_HTML: dict[int | str, dict[str, Any]] = {200: {"description": "The page.", "content": {"text/html": {}}}}
A_ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "The zip.", "content": {"application/zip": {}}}}


@router.get("/{job_id}/report.html", response_class=Response, responses=AN_HTML)
def get_report_page(
    request: Request, job_id: str, session: Reading, services: ServicesOf, caller: CallerOf
) -> Response:
    """Return the report of a pipeline as one page that needs nothing else: no script, no other address."""
    text = page(reports.report(reports.made_by(session, services.files, caller.team_id, job_id)))
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'
    if is_match(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "Content-Security-Policy": policy(), "Cache-Control": "private, no-cache"}
    return HTMLResponse(text, headers=headers)


@router.get("/{job_id}/report.json")
def get_report(job_id: str, session: Reading, services: ServicesOf, caller: CallerOf) -> dict[str, Any]:
    """Return what the report of a pipeline shows, as JSON; what is not there yet is null."""
    return reports.report(reports.made_by(session, services.files, caller.team_id, job_id))


@router.get("/{job_id}/evidence.zip", response_class=Response, responses=A_ZIP)
def get_evidence(job_id: str, session: Reading, services: ServicesOf, caller: CallerOf) -> Response:
    """Return the report with the raw numbers behind it as one zip; no text of a row is in it."""
    made = reports.made_by(session, services.files, caller.team_id, job_id)
    file = write_pack(made, reports.report(made))
    headers = {"Content-Disposition": disposition(f"{job_id}-evidence.zip")}
    return StreamingResponse(_chunks(file), headers=headers, media_type="application/zip")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
