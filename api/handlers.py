"""Turns every exception into a problem document. Knows no route."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from api.problems import CODES, problem, problem_of, request_id_of
from deft.errors import DeftError, Finding, InvalidInput, NotFound, Unavailable, shown
from deft.spec_errors import findings_of


def install(app: FastAPI) -> None:
    """Give *app* the handlers of this module."""
    handlers: dict[Any, Any] = {
        DeftError: _ours,
        HTTPException: _http,
        RequestValidationError: _parameters,
        OperationalError: _database_away,
        InterfaceError: _database_away,
        PoolTimeout: _database_away,
        ClientDisconnect: _gone,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _ours(request: Request, error: DeftError) -> JSONResponse:
    if isinstance(error, NotFound) and not error.findings:
        error.findings = tuple(_absent(name, str(value)) for name, value in request.path_params.items())
    return problem_of(request_id_of(request), error)


def _absent(name: str, value: str) -> Finding:
    """Return the finding for the part *name* of the address, by which nothing of the caller's team is known."""
    expected, fix = "the id of something that your team has", "List what there is: the same address without the id."
    return Finding("not_found", shown(value), expected, fix, column=name)


def _http(request: Request, error: HTTPException) -> JSONResponse:
    code = CODES.get(error.status_code, "http_error")
    detail = DETAILS.get(error.status_code, str(error.detail))
    headers = {"Allow": _methods_of(request)} if error.status_code == 405 else error.headers
    findings = []
    if error.status_code == 404:
        findings = [Finding(code, shown(request.url.path), "an address that /docs lists", "Correct the address.")]
    if error.status_code == 405:
        findings = [Finding(code, request.method, f"one of {_methods_of(request)}", "Send one of these.")]
    return problem(request_id_of(request), error.status_code, code, detail, findings=findings, headers=headers)


def _methods_of(request: Request) -> str:
    """Return the methods of every route at the request's address; the framework names those of the first one."""
    path = request.scope["path"]
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path_regex.match(path):
            methods |= route.methods
    return ", ".join(sorted(methods))


DETAILS = {
    404: "There is nothing at this address; /docs lists what there is.",
    405: "This address does not take this method; the header Allow lists those that it takes.",
}


def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
    findings = [_parameter_finding(item) for item in error.errors()]
    message = "A parameter of the address is not valid."
    return problem_of(request_id_of(request), InvalidInput(message, code="invalid_parameter", findings=findings))


def _parameter_finding(error: dict[str, Any]) -> Finding:
    """Return the finding with the parameter's name as its column, since a parameter has no pointer."""
    name = str(error["loc"][-1])
    inner = findings_of([{**error, "loc": ("value",)}], {"value": error.get("input")}, {})[0]
    found = "nothing" if error["type"] == "missing" else inner.found
    return Finding(inner.code, found, inner.expected, inner.fix, column=name)


def _database_away(request: Request, _error: Exception) -> JSONResponse:
    return problem_of(request_id_of(request), Unavailable("The database does not answer; try again shortly."))


def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it; 499 is what proxies log for it
