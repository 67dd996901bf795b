"""The application on its own database and data folder, a client with a key, and made-up preference rows."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.services import make_services
from store import accounts, models
from store.bell import prepare_embedded
from store.database import Database
from store.settings import Settings
from store.tables import Team
from tests.databases import database, migrated_postgres, postgres_server, template  # noqa: F401 - fixtures
from tests.models import write_model_files

Rows = list[dict[str, Any]]


@pytest.fixture
def database_url(template: Path, tmp_path: Path) -> str:  # noqa: F811 - the fixture
    """SQLite; a module that imports `tests.databases.database_url` runs on Postgres too."""
    path = tmp_path / "deft.sqlite3"
    shutil.copy(template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        data_folder=tmp_path / "data",
        database_url=database_url,
        model_roots=[tmp_path / "models"],
        max_upload_bytes=300_000,
        max_body_bytes=20_000,
    )


@pytest.fixture(scope="session")
def only_app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(data_folder=tmp_path_factory.mktemp("unused")))


@pytest.fixture
def app(only_app: FastAPI, settings: Settings) -> FastAPI:
    """The application with services of its own; it is put together once, since that takes longer than most tests."""
    prepare_embedded(settings)
    only_app.state.services = make_services(settings)
    return only_app


@pytest.fixture
def key(database: Database) -> str:  # noqa: F811 - the fixture
    with database.write() as session:
        text = accounts.bootstrap(session)[1]
    assert text is not None
    return text


@pytest.fixture
def team_id(database: Database, key: str) -> str:  # noqa: F811 - the fixture
    with database.read() as session:
        return accounts.authenticate(session, key).team_id


@pytest.fixture
def stranger_key(database: Database) -> str:  # noqa: F811 - the fixture
    with database.write() as session:
        session.add(Team(id="team_stranger", name="stranger"))
        session.flush()
        return accounts.create_key(session, "team_stranger", "test")[1]


@pytest.fixture
def anyone(app: FastAPI) -> Iterator[TestClient]:
    """A client without a key."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(app: FastAPI, key: str) -> Iterator[TestClient]:
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def stranger(app: FastAPI, stranger_key: str) -> Iterator[TestClient]:
    with TestClient(app, headers={"Authorization": f"Bearer {stranger_key}"}) as client:
        yield client


@pytest.fixture
def model(database: Database, settings: Settings) -> str:  # noqa: F811 - the fixture
    """A registered model, by name; its files only look like a model's."""
    folder = write_model_files(settings.model_roots[0] / "tiny")
    with database.write() as session:
        return models.register(session, None, "tiny", roots=settings.model_roots, folder=folder).name


def made_up_pairs(count: int) -> Rows:
    return [
        {"prompt": f"What is {n} plus {n}?", "chosen": f"It is {n + n}.", "rejected": f"{n}, I think."}
        for n in range(count)
    ]


def jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def upload(client: TestClient) -> Callable[..., dict[str, Any]]:
    """Upload *count* made-up pairs and return the dataset."""

    def send(count: int = 3, **params: str) -> dict[str, Any]:
        answer = client.put(
            "/v1/datasets", content=jsonl(made_up_pairs(count)), params={"filename": "a.jsonl", **params}
        )
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    return send
