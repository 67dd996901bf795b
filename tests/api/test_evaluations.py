"""An evaluation carries its metrics and its comparison; a number that is none is null."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings

METRICS = [
    {"system": "deft", "arm": "deft", "metric": "margin", "slice": "all", "value": 0.25, "n": 8, "low": 0, "high": 1},
    {"system": "base", "arm": "base", "metric": "kl", "slice": "all", "value": float("nan"), "n": 0},
]


@pytest.fixture
def evaluation(database: Database, settings: Settings, team_id: str) -> tuple[str, Path]:
    files = ArtifactFiles(settings)
    staged = files.stage("evaluation")
    (staged / "metrics.json").write_text(json.dumps(METRICS))
    (staged / "comparison.json").write_text('{"sentence": "within noise"}')
    with database.write() as session:
        row = files.publish(session, team_id, "evaluation", staged, {"systems": 1})
    return row.id, files.folder(row)


def test_an_evaluation_has_its_metrics_and_comparison(client: TestClient, evaluation: tuple[str, Path]) -> None:
    document = client.get(f"/v1/evaluations/{evaluation[0]}").json()
    assert document["metrics"] == [METRICS[0], {**METRICS[1], "value": None}]
    assert document["comparison"] == {"sentence": "within noise"}
    assert [file["path"] for file in document["files"]] == ["comparison.json", "metrics.json"]
    assert [each["id"] for each in client.get("/v1/evaluations").json()["data"]] == [evaluation[0]]


@pytest.mark.parametrize("content", [None, "{"])
def test_an_evaluation_that_cannot_be_read_is_corrupt(
    client: TestClient, evaluation: tuple[str, Path], content: str | None
) -> None:
    path = evaluation[1] / "metrics.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    answer = client.get(f"/v1/evaluations/{evaluation[0]}")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_corrupt")
