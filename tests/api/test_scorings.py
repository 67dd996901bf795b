"""A scoring is shown with the report on how far its Q_diff is from noise, a data report with what it found."""

import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from deft.specs import ArtifactKind
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings

Publish = Callable[..., str]


@pytest.fixture
def publish(database: Database, settings: Settings, team_id: str) -> Publish:
    def publish(kind: ArtifactKind = "scoring", **files: str) -> str:
        store = ArtifactFiles(settings)
        staged = store.stage(kind)
        for name, text in files.items():
            (staged / f"{name}.json").write_text(text)
        with database.write() as session:
            return store.publish(session, team_id, kind, staged, {"rows_scored": 2}).id

    return publish


def test_a_scoring_has_its_discrepancy_report(client: TestClient, publish: Publish) -> None:
    report = {"l1": 0.25, "p": 0.5, "warnings": ["Q_diff may be noise."]}
    scoring_id = publish(discrepancy=json.dumps(report))
    document = client.get(f"/v1/scorings/{scoring_id}").json()
    assert document["discrepancy"] == report
    assert document["summary"] == {"rows_scored": 2}


def test_a_scoring_without_a_report_says_null(client: TestClient, publish: Publish) -> None:
    assert client.get(f"/v1/scorings/{publish(scoring='{}')}").json()["discrepancy"] is None


def test_a_report_that_cannot_be_read_is_corrupt(client: TestClient, publish: Publish) -> None:
    answer = client.get(f"/v1/scorings/{publish(discrepancy='{')}")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_corrupt")


def test_a_data_report_is_shown_whole(client: TestClient, publish: Publish) -> None:
    report = {"rows": 3, "duplicates": {"rows": 1, "share": 0.25, "lines": [[2, 4]]}, "warnings": []}
    report_id = publish("data_report", data_report=json.dumps(report))
    assert report_id.startswith("rep_")
    assert client.get(f"/v1/data_reports/{report_id}").json()["report"] == report
    assert [each["id"] for each in client.get("/v1/data_reports").json()["data"]] == [report_id]


def test_a_data_check_is_asked_for_and_waits_for_a_worker_without_gpu(client: TestClient, upload: Publish) -> None:
    dataset_id = upload(4)["id"]
    job = client.post("/v1/jobs", json={"kind": "check_data", "dataset": dataset_id})
    assert (job.status_code, job.json()["status"], job.json()["spec"]["model"]) == (202, "queued", None)
    listed = client.get("/v1/jobs", params={"kind": "check_data"}).json()["data"]
    assert [each["id"] for each in listed] == [job.json()["id"]]
