"""Who may see what: nothing without a key but a few pages without data, and nothing of another team's."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from store import accounts
from store.database import Database

Upload = Callable[..., dict[str, Any]]
PAGES = {"/docs", "/docs/assets", "/openapi.json", "/rate/{study_id}", "/rate/assets"}
OPEN = {"/livez", "/readyz", *PAGES}


def routes_of(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every (method, path) that the application serves, mounts and included routers too."""
    for route in app.routes:
        if hasattr(route, "effective_candidates"):  # FastAPI's included router
            for candidate in expand(route):
                yield from ((method, prefix + candidate.path) for method in sorted(candidate.methods))
        elif getattr(route, "methods", None):
            yield from ((method, prefix + route.path) for method in sorted(route.methods))
        else:
            yield "GET", prefix + route.path


def expand(router: Any) -> Iterator[Any]:
    for candidate in router.effective_candidates():
        yield from expand(candidate) if hasattr(candidate, "effective_candidates") else [candidate]


def test_every_route_but_the_open_ones_asks_for_a_key(app: FastAPI, anyone: TestClient) -> None:
    routes = list(routes_of(app))
    assert len(routes) > 35
    for method, path in routes:
        if path in OPEN:
            continue
        assert path.startswith("/v1/"), path
        url = re.sub(r"\{[^}]+\}", "x", path)
        answer = anyone.request(method, url, content=b"{}")
        assert answer.status_code == 401, (method, path, answer.text)
        if method != "HEAD":
            assert answer.json()["code"] == "not_authenticated"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_route_is_in_the_openapi_document_or_is_a_page(app: FastAPI) -> None:
    documented = set(app.openapi()["paths"])
    served = {re.sub(r":path\}", "}", path) for _, path in routes_of(app)}
    assert served - documented == PAGES


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer deft_wrong",
        "Basic ZGVmdDpkZWZ0",
        "deft_KEY",
        "Bearer KEY extra",
        "Token KEY",
        "Bearer " + "x" * 100_000,
    ],
)
def test_a_header_without_a_valid_key_is_refused_alike(anyone: TestClient, key: str, header: str) -> None:
    answer = anyone.get("/v1/jobs", headers={"Authorization": header.replace("deft_KEY", key).replace("KEY", key)})
    plain = anyone.get("/v1/jobs")
    assert answer.status_code == 401
    assert without_request_id(answer.json()) == without_request_id(plain.json())


def test_a_key_in_the_address_is_no_key(anyone: TestClient, key: str) -> None:
    assert anyone.get("/v1/jobs", params={"api_key": key}).status_code == 401


def test_a_revoked_key_is_refused_at_once(client: TestClient, database: Database, team_id: str) -> None:
    assert client.get("/v1/team").status_code == 200
    with database.write() as session:
        accounts.revoke_key(session, team_id, accounts.list_keys(session, team_id)[0].id)
    assert client.get("/v1/team").status_code == 401


def test_the_team_is_the_keys(client: TestClient, stranger: TestClient, team_id: str) -> None:
    assert client.get("/v1/team").json()["id"] == team_id
    assert stranger.get("/v1/team").json()["id"] == "team_stranger"


def without_request_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


def test_things_of_another_team_are_as_absent_as_missing_ones(
    client: TestClient, stranger: TestClient, upload: Upload, model: str
) -> None:
    dataset = upload()["id"]
    job = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset, "model": model}).json()["id"]
    seen = 0
    for known, missing in ((dataset, "ds_" + "0" * 26), (job, "job_" + "0" * 26)):
        nouns = ("datasets", "subsets", "scorings", "adapters", "evaluations", "calibrations", "jobs", "models")
        tails = ("", "/files/examples.parquet", "/events", "/metrics", "/log")
        for path in [f"/v1/{noun}/ID{tail}" for noun in nouns for tail in tails]:
            theirs, absent = (stranger.get(path.replace("ID", each)) for each in (known, missing))
            assert theirs.status_code == absent.status_code == 404, path
            first, second = (without_request_id(answer.json()) for answer in (theirs, absent))
            assert json.dumps(first).replace(known, "ID") == json.dumps(second).replace(missing, "ID"), path
            seen += client.get(path.replace("ID", known)).status_code == 200
    assert seen == 6  # the dataset and its file; the job, its events, metrics and log
    assert stranger.post(f"/v1/jobs/{job}/cancel").status_code == 404
    assert client.get(f"/v1/jobs/{job}").json()["cancel_requested_at"] is None


def test_a_body_that_names_a_foreign_id_is_answered_as_one_that_names_a_missing_one(
    client: TestClient, stranger: TestClient, upload: Upload, model: str
) -> None:
    dataset = upload()["id"]
    missing = "ds_" + "0" * 26
    answers = [
        stranger.post("/v1/jobs", json={"kind": "score", "dataset": each, "model": model}).json()
        for each in (dataset, missing)
    ]
    assert answers[0]["status"] == 404
    assert str(answers[0]["errors"]).replace(dataset, missing) == str(answers[1]["errors"])
    assert stranger.get("/v1/jobs").json()["data"] == []


def test_a_cursor_of_another_team_is_as_bad_as_any(client: TestClient, stranger: TestClient, upload: Upload) -> None:
    dataset = upload()["id"]
    theirs, absent = (stranger.get("/v1/datasets", params={"after": each}) for each in (dataset, "ds_" + "0" * 26))
    assert theirs.status_code == absent.status_code == 422
    assert (
        theirs.text.replace(dataset, "ds_" + "0" * 26).split('"request_id"')[0] == absent.text.split('"request_id"')[0]
    )


def test_lists_hold_only_the_teams_own(client: TestClient, stranger: TestClient, upload: Upload) -> None:
    upload()
    assert len(client.get("/v1/datasets").json()["data"]) == 1
    assert stranger.get("/v1/datasets").json()["data"] == []
