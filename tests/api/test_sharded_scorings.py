"""A scoring in shards over HTTP: one job with children, whose progress is theirs together."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from store import claims, telling
from store.database import Database
from store.settings import Settings

Upload = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"shard_rows": 4})


def take(database: Database) -> claims.Claim:
    with database.write() as session:
        claim = claims.claim(session, "w", ["cpu", "gpu"])
    assert claim is not None
    return claim


def test_a_large_scoring_is_answered_with_its_shards(
    client: TestClient, upload: Upload, model: str, database: Database
) -> None:
    dataset = upload(10)["id"]
    answer = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset, "model": model, "name": "big"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["kind"], job["status"], job["queue_position"]) == ("score", "queued", None)
    assert [child["name"] for child in job["children"]] == ["count", "shard:1", "shard:2", "shard:3", "merge"]
    assert job["progress"] == {"done": 0, "total": 10, "unit": "examples", "seconds_remaining": None}

    count = take(database)
    with database.write() as session:
        telling.report_phase(session, count, "count")
    told = client.get(f"/v1/jobs/{count.job_id}").json()
    assert (told["kind"], told["parent_id"], told["artifact"], told["children"]) == ("score_count", job["id"], None, [])
    listed = client.get("/v1/jobs", params={"kind": "score_shard"}).json()["data"]
    assert {one["parent_id"] for one in listed} == {job["id"]}

    cancelled = client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert [child["status"] for child in cancelled["children"]] == ["running", *["cancelled"] * 4]


def test_a_sample_that_fits_is_not_divided_and_shards_cannot_be_posted(
    client: TestClient, upload: Upload, model: str
) -> None:
    spec = {"kind": "score", "dataset": upload(10)["id"], "model": model}
    assert client.post("/v1/jobs", json={**spec, "rows": {"sample": 4}}).json()["children"] == []
    refused = client.post(
        "/v1/jobs", json={"kind": "score_shard", "score": spec, "counted": "x", "start": 0, "stop": 4}
    )
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/kind")


def test_a_pipeline_shows_the_progress_of_its_scoring_in_shards(
    client: TestClient, upload: Upload, model: str, database: Database
) -> None:
    body = {"kind": "pipeline", "dataset": upload(40)["id"], "model": model, "arms": ["deft"], "score_sample": 9}
    pipeline = client.post("/v1/jobs", json=body).json()
    score = pipeline["children"][1]
    assert (score["name"], score["kind"], score["progress"]["total"]) == ("score", "score", 9)
    assert [take(database).kind, take(database).kind] == ["check_data", "score_count"]
    statuses = {child["name"]: child["status"] for child in client.get(f"/v1/jobs/{pipeline['id']}").json()["children"]}
    assert statuses["score"] == "running"
    paused = client.post(f"/v1/jobs/{pipeline['id']}/pause").json()
    assert {child["status"] for child in paused["children"]} == {"running", "paused"}
