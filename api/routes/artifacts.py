"""Scorings, subsets, adapters, tuned models, evaluations and more: list, get, download. One router for each noun."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.bodies import body_of
from api.documents import (
    NOUNS,
    ArtifactDocument,
    DataReportDocument,
    EvaluationDocument,
    PageDocument,
    ScoringDocument,
    artifact_document,
)
from api.downloads import entry_of, file_response
from api.job_documents import JobDocument
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf
from api.openapi_document import json_body
from api.problems import errors
from api.routes.jobs import post_job
from api.services import CallerOf, Reading, Rings, Services, ServicesOf
from deft.errors import ArtifactCorrupt
from deft.specs import TUNED, ArtifactKind, SelectSpec
from store import artifacts, downloads, recalls
from store.finite import finite
from store.tables import Artifact

SELECT_SPEC: TypeAdapter[SelectSpec] = TypeAdapter(SelectSpec)
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file; its ETag is the SHA-256.", "content": {"application/octet-stream": {}}},
    206: {"description": "The range that was asked for.", "content": {"application/octet-stream": {}}},
    304: {"description": "The caller has it already."},
    **errors(416),
}


def routers() -> list[APIRouter]:
    """Return the routers of all nouns but datasets, which have an upload of their own."""
    kinds: tuple[ArtifactKind, ...] = (
        *("data_report", "scoring", "subset", "calibration"),
        *("adapter", "tuned_model", "reward_model", "evaluation", "judging"),
    )
    made = {kind: APIRouter(prefix=f"/{NOUNS[kind]}", tags=[NOUNS[kind]]) for kind in kinds}
    for kind, router in made.items():
        add_routes(router, kind)
    made["subset"].post(
        "",
        status_code=202,
        response_model=JobDocument,
        responses=errors(409, 413, 415),
        openapi_extra=json_body(SELECT_SPEC),
    )(create_subset)
    return list(made.values())


def add_routes(router: APIRouter, kind: ArtifactKind, *more: ArtifactKind) -> None:
    """Give *router* the list, the object and the files of *kind*, and of *more* kinds under the same noun.

    Evaluations have a list of their own.
    """
    if kind != "evaluation":
        _add_list(router, kind, *more)
    if kind == "evaluation":
        router.get("/{artifact_id}", response_model=EvaluationDocument)(get_evaluation)
    elif kind == "data_report":
        router.get("/{artifact_id}", response_model=DataReportDocument)(get_data_report)
    elif kind == "scoring":
        router.get("/{artifact_id}", response_model=ScoringDocument)(get_scoring)
    else:
        _add_object(router, kind, *more)
    _add_files(router, kind, *more)


def _add_list(router: APIRouter, kind: ArtifactKind, *more: ArtifactKind) -> None:
    def list_artifacts(
        session: Reading, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, after: After = None, order: Order = "desc"
    ) -> PageDocument[ArtifactDocument]:
        page = artifacts.page(session, caller.team_id, kind=(kind, *more), limit=limit, after=after, order=order)
        return page_document(page, artifact_document)

    router.add_api_route("", list_artifacts, name=f"list_{NOUNS[kind]}", summary=f"List the {NOUNS[kind]}")


def _add_object(router: APIRouter, kind: ArtifactKind, *more: ArtifactKind) -> None:
    def get_artifact(request: Request, artifact_id: str, session: Reading, caller: CallerOf) -> Response:
        return answer(request, artifact_document(artifacts.get(session, caller.team_id, artifact_id, (kind, *more))))

    router.add_api_route(
        "/{artifact_id}",
        get_artifact,
        name=f"get_{kind}",
        summary=f"Return one {kind}",
        response_model=ArtifactDocument,
    )


def _add_files(router: APIRouter, kind: ArtifactKind, *more: ArtifactKind) -> None:
    def get_file(
        request: Request, artifact_id: str, path: str, session: Reading, services: ServicesOf, caller: CallerOf
    ) -> Response:
        row = artifacts.get(session, caller.team_id, artifact_id, (kind, *more))
        if kind in TUNED:
            recalls.refuse_download(session, row)
        answered = file_response(request, services.files.folder(row), entry_of(row.files, path))
        if kind in TUNED and request.method == "GET" and answered.status_code in (200, 206):
            with services.database.write() as writing:
                downloads.record(writing, caller, row.id, path)
        return answered

    for method, name in (("GET", f"download_{kind}_file"), ("HEAD", f"head_{kind}_file")):
        router.add_api_route(
            "/{artifact_id}/files/{path:path}",
            get_file,
            methods=[method],
            name=name,
            summary=f"Download a file of one {kind}",
            responses=FILE_ANSWERS | (errors(403) if kind in TUNED else {}),
            response_class=Response,
        )


def create_subset(
    body: Annotated[SelectSpec, Depends(body_of(SELECT_SPEC))],
    services: ServicesOf,
    caller: CallerOf,
    rings: Rings,
    once: OnceOf,
) -> Response:
    """Select from a scoring: the shorthand of a job of kind `select`, which answers in seconds."""
    return post_job(body, services, caller, rings, once)


def get_data_report(
    request: Request, artifact_id: str, session: Reading, services: ServicesOf, caller: CallerOf
) -> Response:
    """Return one report on a dataset."""
    row = artifacts.get(session, caller.team_id, artifact_id, "data_report")
    report = _json_file(services, row, "data_report.json")
    return answer(request, DataReportDocument(**artifact_document(row).model_dump(), report=report))


def get_scoring(
    request: Request, artifact_id: str, session: Reading, services: ServicesOf, caller: CallerOf
) -> Response:
    """Return one scoring with the discrepancy report of its Q_diff."""
    row = artifacts.get(session, caller.team_id, artifact_id, "scoring")
    report = _json_file(services, row, "discrepancy.json")
    return answer(request, ScoringDocument(**artifact_document(row).model_dump(), discrepancy=report))


def get_evaluation(
    request: Request, artifact_id: str, session: Reading, services: ServicesOf, caller: CallerOf
) -> Response:
    """Return one evaluation with its metrics and its comparison."""
    row = artifacts.get(session, caller.team_id, artifact_id, "evaluation")
    document = EvaluationDocument(
        **artifact_document(row).model_dump(),
        metrics=_json_file(services, row, "metrics.json") or [],
        comparison=_json_file(services, row, "comparison.json"),
    )
    return answer(request, document)


def _json_file(services: Services, row: Artifact, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of one file of the artifact, None if it has no such file.

    Raises:
        ArtifactCorrupt: the file is missing from the store or is not JSON.
    """
    if name not in {entry["path"] for entry in row.files}:
        return None
    try:
        return finite(json.loads((services.files.folder(row) / name).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise ArtifactCorrupt(f"{name} of {row.id} cannot be read.") from None
