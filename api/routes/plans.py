"""`/v1/plans`: what a job would come to, before it is posted. Nothing is stored."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.bodies import body_of
from api.openapi_document import json_body
from api.problems import errors
from api.services import CallerOf, Reading, ServicesOf
from deft.planning.documents import Plan
from deft.specs import JobSpec, job_spec
from store import preflight

router = APIRouter(prefix="/plans", tags=["plans"])


@router.post("", response_model=Plan, responses=errors(409, 413, 415), openapi_extra=json_body(job_spec))
def make_plan(
    spec: Annotated[JobSpec, Depends(body_of(job_spec))],
    session: Reading,
    services: ServicesOf,
    caller: CallerOf,
    flops_per_second: Annotated[
        float | None,
        Query(gt=0, le=1e18, allow_inf_nan=False, description="What your device reaches in such work, if you know."),
    ] = None,
) -> Plan:
    """Take the body of a job and answer with every default resolved, rows, tokens, memory, time and queue wait."""
    return preflight.plan(
        session, services.files, services.settings, caller.team_id, spec, flops_per_second=flops_per_second
    )
