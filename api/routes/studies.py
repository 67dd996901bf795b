"""`/v1/studies`: make a blind comparison by people, invite raters, look at what they found, make data of it."""

import csv
import io
import json
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.answers import answer
from api.bodies import body_of
from api.documents import ArtifactDocument, PageDocument, artifact_document
from api.downloads import disposition
from api.lists import DEFAULT_LIMIT, After, Limit, Order, page_document
from api.once import OnceOf, reply
from api.openapi_document import json_body
from api.problems import errors
from api.routes.datasets import staged
from api.services import CallerOf, Reading, ServicesOf, Writing
from api.study_documents import (
    InvitationDocument,
    RaterDocument,
    StudyDocument,
    StudyResultsDocument,
    rater_document,
    rating_url,
    results_document,
    study_document,
)
from deft.specs import Spec
from deft.specs.studies import StudySpec
from store import artifacts, judgements, raters, studies, study_datasets, study_scores
from store.idempotency import StoredReply
from store.paging import Page

router = APIRouter(prefix="/studies", tags=["studies"])


class RaterRequest(Spec):
    """Who is invited."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^\w[\w .@\-]*$", description="For your own records.")


class StudyDatasetRequest(Spec):
    """Which judgements become preferences."""

    name: str | None = Field(None, min_length=1, max_length=200)
    min_judgements: int = Field(1, ge=1, le=100, description="Items with fewer judgements are left out.")


FORMULA_OPENINGS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take as the beginning of a formula."""

STUDY_SPEC: TypeAdapter[StudySpec] = TypeAdapter(StudySpec)
RATER_REQUEST: TypeAdapter[RaterRequest] = TypeAdapter(RaterRequest)
DATASET_REQUEST: TypeAdapter[StudyDatasetRequest] = TypeAdapter(StudyDatasetRequest)


@router.post(
    "",
    status_code=201,
    response_model=StudyDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(STUDY_SPEC),
)
def create_study(
    spec: Annotated[StudySpec, Depends(body_of(STUDY_SPEC))], services: ServicesOf, caller: CallerOf, once: OnceOf
) -> Response:
    """Make a study of two systems' stored answers; prompts, sides and orders are drawn now, by a seed that is kept."""
    earlier = once.earlier(services)
    if earlier is not None:
        return earlier
    with services.database.read() as session:
        prepared = studies.prepare(session, services.files, caller.team_id, spec)
    with services.database.write() as session:

        def make() -> StoredReply:
            row = studies.create(session, caller, prepared)
            return reply(201, study_document(row, studies.counts(session, row)), f"/v1/studies/{row.id}")

        return once.do(session, make)


@router.get("")
def list_studies(
    session: Reading, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, after: After = None, order: Order = "desc"
) -> PageDocument[StudyDocument]:
    """List the team's studies."""
    page = studies.page(session, caller.team_id, limit=limit, after=after, order=order)
    return page_document(page, lambda row: study_document(row, studies.counts(session, row)))


@router.get("/{study_id}", response_model=StudyDocument)
def get_study(request: Request, study_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return one study and how far it is."""
    row = studies.get(session, caller.team_id, study_id)
    return answer(request, study_document(row, studies.counts(session, row)))


@router.post("/{study_id}/close", response_model=StudyDocument, responses=errors(409))
def close_study(study_id: str, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """End the judging; what was judged stays, and the win rate becomes a score of the evaluation."""

    def make() -> StoredReply:
        row = study_scores.close(session, caller.team_id, study_id)
        return reply(200, study_document(row, studies.counts(session, row)))

    return once.do(session, make)


@router.post(
    "/{study_id}/raters",
    status_code=201,
    response_model=InvitationDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(RATER_REQUEST),
)
def invite_rater(
    study_id: str,
    body: Annotated[RaterRequest, Depends(body_of(RATER_REQUEST))],
    session: Writing,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Invite a rater. The token is shown this once: the answer that is kept for an `Idempotency-Key` is without it."""
    shown: list[InvitationDocument] = []

    def make() -> StoredReply:
        row, token = raters.invite(session, caller.team_id, study_id, body.name)
        known = rater_document(row).model_dump()
        shown.append(InvitationDocument(**known, token=token, url=f"{rating_url(study_id)}#{token}"))
        location = f"/v1/studies/{study_id}/raters"
        return reply(201, InvitationDocument(**known, token=None, url=None), location)

    stored = once.do(session, make)
    if not shown:
        return stored
    return JSONResponse(shown[0].model_dump(mode="json"), 201, {"Location": stored.headers["Location"]})


@router.get("/{study_id}/raters")
def list_raters(study_id: str, session: Reading, caller: CallerOf) -> PageDocument[RaterDocument]:
    """List all raters of a study, oldest first."""
    rows = list(raters.of_study(session, caller.team_id, study_id))
    return page_document(Page(rows, has_more=False, next_cursor=None), rater_document)


@router.post("/{study_id}/raters/{rater_id}/revoke", response_model=RaterDocument, responses=errors(409))
def revoke_rater(study_id: str, rater_id: str, session: Writing, caller: CallerOf, once: OnceOf) -> Response:
    """Make a rater's token useless from now on; what they judged stays."""

    def make() -> StoredReply:
        return reply(200, rater_document(raters.revoke(session, caller.team_id, study_id, rater_id)))

    return once.do(session, make)


@router.get("/{study_id}/results", response_model=StudyResultsDocument)
def get_study_results(request: Request, study_id: str, session: Reading, caller: CallerOf) -> Response:
    """Return win rate, agreement and attention, with intervals, of what has been judged so far."""
    study = studies.get(session, caller.team_id, study_id)
    return answer(request, results_document(study.id, judgements.results_of(session, study)))


@router.get("/{study_id}/judgements.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def export_judgements_csv(study_id: str, session: Reading, caller: CallerOf) -> Response:
    """Download every judgement as one row; without texts, which stand in the JSONL."""
    study = studies.get(session, caller.team_id, study_id)
    rows = list(judgements.export_rows(session, study, with_texts=False))
    text = io.StringIO()
    writer = csv.DictWriter(text, judgements.COLUMNS)
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return _file(text.getvalue(), f"{study.id}.csv", "text/csv; charset=utf-8")


@router.get(
    "/{study_id}/judgements.jsonl", response_class=Response, responses={200: {"content": {"application/jsonl": {}}}}
)
def export_judgements(study_id: str, session: Reading, caller: CallerOf) -> Response:
    """Download every judgement as one JSON object, with the prompt and both responses as they were shown."""
    study = studies.get(session, caller.team_id, study_id)
    rows = judgements.export_rows(session, study, with_texts=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return _file(text, f"{study.id}.jsonl", "application/jsonl")


def _inert(cell: object) -> object:
    """Return *cell* so that no spreadsheet takes it for a formula: text that begins like one gets a leading `'`."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_OPENINGS) else cell


def _file(text: str, name: str, media_type: str) -> Response:
    return Response(text, headers={"Content-Disposition": disposition(name)}, media_type=media_type)


@router.post(
    "/{study_id}/dataset",
    status_code=201,
    response_model=ArtifactDocument,
    responses=errors(409, 413, 415),
    openapi_extra=json_body(DATASET_REQUEST),
)
def create_study_dataset(
    study_id: str,
    body: Annotated[StudyDatasetRequest, Depends(body_of(DATASET_REQUEST))],
    services: ServicesOf,
    caller: CallerOf,
    once: OnceOf,
) -> Response:
    """Make a preference dataset of what most raters of each item preferred; its summary says where it comes from."""
    earlier = once.earlier(services)
    if earlier is not None:
        return earlier
    with services.database.read() as session:
        found = study_datasets.collect(session, caller.team_id, study_id, min_judgements=body.min_judgements)
    with staged(services, "dataset") as out:
        summary = study_datasets.write(found, out)
        sealed = services.files.seal("dataset", out, summary, name=body.name)
    with services.database.write() as session:

        def make() -> StoredReply:
            row = artifacts.record(session, caller.team_id, sealed)
            return reply(201, artifact_document(row), f"/v1/datasets/{row.id}")

        return once.do(session, make)
