from collections.abc import Callable
from pathlib import Path

import pytest

from store import accounts, models
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from store.tables import Team
from tests.databases import (  # noqa: F401 - fixtures
    database,
    database_url,
    empty_database_url,
    migrated_postgres,
    postgres_server,
    template,
)
from tests.models import write_model_files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_folder=tmp_path / "data", model_roots=[tmp_path / "models"])


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def team_id(database: Database) -> str:  # noqa: F811 - the fixture
    with database.write() as session:
        return accounts.bootstrap(session)[0].id


@pytest.fixture
def other_team_id(database: Database, team_id: str) -> str:  # noqa: F811 - the fixture
    with database.write() as session:
        session.add(Team(id="team_other", name="other"))
    return "team_other"


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        return write_model_files(tmp_path / "models" / name)

    return make


@pytest.fixture
def model_id(database: Database, team_id: str, settings: Settings, make_model: Callable[[str], Path]) -> str:  # noqa: F811
    folder = make_model("tiny")
    with database.write() as session:
        return models.register(session, None, "tiny", roots=settings.model_roots, folder=folder).id


@pytest.fixture
def dataset_id(database: Database, team_id: str, files: ArtifactFiles) -> str:  # noqa: F811 - the fixture
    staged = files.stage("dataset")
    (staged / "dataset.json").write_text("{}")
    with database.write() as session:
        return files.publish(session, team_id, "dataset", staged, {"rows": 4}, name="four rows").id
