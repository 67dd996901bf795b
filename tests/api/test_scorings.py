"""A scoring is shown with the report on how far its Q_diff is from noise."""

import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings

Publish = Callable[..., str]


@pytest.fixture
def publish(database: Database, settings: Settings, team_id: str) -> Publish:
    def publish(**files: str) -> str:
        store = ArtifactFiles(settings)
        staged = store.stage("scoring")
        for name, text in files.items():
            (staged / f"{name}.json").write_text(text)
        with database.write() as session:
            return store.publish(session, team_id, "scoring", staged, {"rows_scored": 2}).id

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
