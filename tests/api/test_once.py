"""`Idempotency-Key`: done once, answered the same; and polling that costs little."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.once import Once
from tests.api.conftest import jsonl, made_up_pairs
from tests.databases import database_url  # noqa: F401 - this module runs on Postgres too

Upload = Callable[..., dict[str, Any]]
KEY = {"Idempotency-Key": "one-and-only"}


@pytest.fixture
def spec(upload: Upload, model: str) -> dict[str, Any]:
    return {"kind": "score", "dataset": upload()["id"], "model": model}


def test_one_key_makes_one_job_and_gets_one_answer(client: TestClient, spec: dict[str, Any]) -> None:
    first, second = (client.post("/v1/jobs", json=spec, headers=KEY) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.content == first.content
    assert second.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    assert len(client.get("/v1/jobs").json()["data"]) == 1
    assert client.post("/v1/jobs", json=spec, headers={"Idempotency-Key": "another"}).json()["id"] != first.json()["id"]


def test_a_key_with_another_body_is_a_conflict(client: TestClient, spec: dict[str, Any]) -> None:
    client.post("/v1/jobs", json=spec, headers=KEY)
    answer = client.post("/v1/jobs", json={**spec, "name": "other"}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_a_refused_request_does_not_use_up_its_key(client: TestClient, spec: dict[str, Any]) -> None:
    assert client.post("/v1/jobs", json={**spec, "model": "nothing"}, headers=KEY).status_code == 404
    assert client.post("/v1/jobs", json=spec, headers=KEY).status_code == 202


def test_a_key_of_another_team_is_another_key(client: TestClient, stranger: TestClient, spec: dict[str, Any]) -> None:
    client.post("/v1/jobs", json=spec, headers=KEY)
    assert stranger.post("/v1/jobs", json=spec, headers=KEY).status_code == 404


def test_requests_with_one_key_at_the_same_time_make_one_job(client: TestClient, spec: dict[str, Any]) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/jobs", json=spec, headers=KEY), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_an_upload_with_a_key_is_stored_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def send() -> Any:
        return client.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(made_up_pairs(3)))}, headers=KEY)

    first, second = send(), send()
    monkeypatch.setattr(Once, "earlier", lambda *_: None)  # as if both had been sent at the same time
    third = send()
    assert first.status_code == second.status_code == third.status_code == 201
    assert first.content == second.content == third.content
    assert len(client.get("/v1/datasets").json()["data"]) == 1


def test_a_cancel_with_a_key_can_be_repeated(client: TestClient, spec: dict[str, Any]) -> None:
    job = client.post("/v1/jobs", json=spec).json()
    answers = [client.post(f"/v1/jobs/{job['id']}/cancel", headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert client.post(f"/v1/jobs/{job['id']}/cancel").json()["code"] == "job_finished"


def test_a_subset_request_is_done_once_too(client: TestClient) -> None:
    body = {"scoring": "sc_missing"}
    answers = [client.post("/v1/subsets", json=body, headers=KEY) for _ in range(2)]
    assert [answer.json()["errors"][0]["pointer"] for answer in answers] == ["/scoring", "/scoring"]


def test_polling_a_job_that_has_not_changed_gets_304(client: TestClient, spec: dict[str, Any]) -> None:
    url = client.post("/v1/jobs", json=spec).headers["location"]
    etag = client.get(url).headers["etag"]
    unchanged = client.get(url, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    client.post(f"{url}/cancel")
    changed = client.get(url, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert changed.headers["etag"] != etag
