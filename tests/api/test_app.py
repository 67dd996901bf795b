"""The application as a whole: health, headers, the pages, the OpenAPI document, what it does when something breaks."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.services import make_services
from store.settings import Settings

ROOT = Path(__file__).parents[2]


def test_health_is_open_and_names_what_is_away(app: FastAPI, anyone: TestClient) -> None:
    assert anyone.get("/livez").json() == {"status": "ok"}
    ready = anyone.get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ok", "database": "ok", "storage": "ok", "broker": "ok"},
    )


def test_without_a_broker_it_is_ready_and_says_so(tmp_path: Path, database_url: str) -> None:
    settings = Settings(data_folder=tmp_path, database_url=database_url, broker_url="redis://127.0.0.1:1/0")
    with TestClient(create_app(settings)) as client:
        answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"], answer.json()["broker"]) == (200, "ok", "away")


AWAY = "postgresql://nobody:secret-word@127.0.0.1:1/nothing"


def test_without_a_database_it_is_alive_and_not_ready(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path, database_url=AWAY)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        assert client.get("/livez").status_code == 200
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, "away")
        asked = client.get("/v1/jobs", headers={"Authorization": "Bearer deft_x"})
    assert (asked.status_code, asked.json()["code"]) == (503, "unavailable")
    assert int(asked.headers["retry-after"]) > 0
    assert "secret-word" not in asked.text + ready.text


def test_without_storage_it_is_not_ready(client: TestClient) -> None:
    settings = client.app.state.services.settings  # type: ignore[attr-defined]
    settings.data_folder.mkdir(exist_ok=True)
    settings.staging_folder.write_text("a file where a folder should be")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["storage"]) == (503, "away")


def test_a_database_that_goes_away_within_a_request_is_a_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_args: object, **_filters: object) -> None:
        raise OperationalError("SELECT secret", {}, Exception("gone"))

    monkeypatch.setattr("store.jobs.page", lose)
    answer = client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "secret" not in answer.text


def test_what_nobody_expected_is_a_problem_without_its_inside(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_args: object, **_filters: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("store.jobs.page", break_down)
    answer = client.get("/v1/jobs", headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["request_id"]) == ("internal", "mine-1")
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text


@pytest.mark.parametrize("sent", ["a b", "x" * 65, "<script>", ""])
def test_a_request_id_that_is_no_id_is_replaced(client: TestClient, sent: str) -> None:
    made = client.get("/livez", headers={"X-Request-Id": sent}).headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", made)


@pytest.mark.parametrize("path", ["/livez", "/docs", "/openapi.json", "/docs/assets/swagger-ui.css", "/v1/jobs", "/no"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_the_page_asks_nobody_but_this_host(anyone: TestClient) -> None:
    page = anyone.get("/docs")
    assert page.status_code == 200
    assert re.findall(r"(?:https?:)?//[\w.]+", page.text) == []
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0], "no inline script but the page's own, by its hash"
    assert "http" not in policy
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert anyone.get(asset).status_code == 200, asset


def test_assets_lead_nowhere_else(anyone: TestClient) -> None:
    for path in ("/docs/assets/../../api/app.py", "/docs/assets/%2e%2e/%2e%2e/app.py", "/docs/assets/core.py"):
        assert anyone.get(path).status_code == 404


def test_the_committed_openapi_document_is_what_the_application_serves(app: FastAPI) -> None:
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert committed == json.loads(json.dumps(app.openapi())), "run: python -m api.openapi > docs/openapi.json"


def test_the_openapi_document_is_whole(app: FastAPI) -> None:
    document = app.openapi()
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 26
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        assert resolve(document, reference), reference
    for operation in operations:
        for status, answer in operation["responses"].items():
            if status >= "400" and operation["operationId"] != "get_readyz":
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema["$ref"].endswith("/Problem"), (operation["operationId"], status)


def resolve(document: dict[str, Any], reference: str) -> object:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


SERVE = """
import sys, tempfile
from pathlib import Path
from fastapi.testclient import TestClient
from api.main import create
from store.accounts import bootstrap
from store.database import Database, migrate
from store.settings import Settings
from tests.models import write_model_files

settings = Settings()
migrate(settings.resolved_database_url)
database = Database(settings.resolved_database_url)
with database.write() as session:
    key = bootstrap(session)[1]
with TestClient(create(), headers={"Authorization": f"Bearer {key}"}) as client:
    row = b'{"prompt": "a", "chosen": "b", "rejected": "c"}\\n'
    dataset = client.put("/v1/datasets", content=row, params={"filename": "a.jsonl"})
    assert dataset.status_code == 201, dataset.text
    body = {"kind": "pipeline", "dataset": dataset.json()["id"], "model": "none"}
    assert client.post("/v1/jobs", json=body).status_code == 404
    folder = write_model_files(settings.model_roots[0] / "tiny")
    assert client.post("/v1/models", json={"name": "tiny", "folder": str(folder)}).status_code == 201
    row = b"".join(row.replace(b"a", b"%d" % n) for n in range(40))
    dataset = client.put("/v1/datasets", content=row, params={"filename": "b.jsonl"})
    body = {"kind": "pipeline", "dataset": dataset.json()["id"], "model": "tiny"}
    plan = client.post("/v1/plans", json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["lengths"]["basis"] == "counted"
    assert client.get("/openapi.json").status_code == 200
heavy = {"torch", "transformers", "peft", "accelerate", "datasets"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""


def test_an_upload_and_a_plan_are_served_without_torch(tmp_path: Path) -> None:
    roots = str(tmp_path / "models")
    environment = {"DEFT_DATA_FOLDER": str(tmp_path), "DEFT_MODEL_ROOTS": roots, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_services_connect_to_nothing_by_themselves(tmp_path: Path) -> None:
    make_services(Settings(data_folder=tmp_path, database_url=AWAY, broker_url="redis://127.0.0.1:1/0"))
    assert list(tmp_path.iterdir()) == []
