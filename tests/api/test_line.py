"""The straight line: upload, job, poll, download."""

from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from store import claims
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.api.conftest import jsonl, made_up_pairs
from tests.databases import database_url  # noqa: F401 - this module runs on Postgres too

Upload = Callable[..., dict[str, Any]]


def test_upload_then_job_then_poll_then_download(
    client: TestClient, database: Database, settings: Settings, model: str
) -> None:
    uploaded = client.post("/v1/datasets", files={"file": ("p.jsonl", jsonl(made_up_pairs(5)))}, data={"name": "five"})
    assert uploaded.status_code == 201, uploaded.text
    dataset = uploaded.json()
    assert uploaded.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert dataset["summary"]["rows"] == 5
    created = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset["id"], "model": model})
    assert created.status_code == 202, created.text
    job = client.get(created.headers["location"]).json()
    assert (job["status"], job["artifact"], job["queue_position"]) == ("queued", None, 0)

    finish(database, settings)

    job = client.get(f"/v1/jobs/{job['id']}").json()
    assert (job["status"], job["artifact"]["kind"]) == ("succeeded", "scoring")
    scoring = client.get(job["artifact"]["url"]).json()
    assert scoring["job_id"] == job["id"]
    file = client.get(scoring["files"][0]["url"])
    assert (file.status_code, file.content) == (200, b'{"l1": 1}')


def finish(database: Database, settings: Settings) -> None:
    """Do as a worker does: claim the next job and publish its output."""
    files = ArtifactFiles(settings)
    with database.write() as session:
        claim = claims.claim(session, "worker", ["cpu", "gpu"])
    assert claim is not None
    staged = files.stage("scoring")
    (staged / "scoring.json").write_text('{"l1": 1}')
    sealed = files.seal("scoring", staged, {"rows": 5})
    with database.write() as session:
        claims.succeed(session, claim, sealed)


def test_a_job_is_answered_with_every_default_and_the_hash_of_its_spec(
    client: TestClient, upload: Upload, model: str
) -> None:
    job = client.post("/v1/jobs", json={"kind": "train", "data": upload()["id"], "model": model, "deft": None}).json()
    assert job["spec"]["method"] == {"type": "dpo", "beta": 0.1, "rejected": "last"}
    assert job["spec"]["lora"]["r"] == 16
    assert len(job["spec_hash"]) == 64
