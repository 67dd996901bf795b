"""Databases for tests: SQLite always; real Postgres, as an ordinary role, for tests marked `services`.

Use in a conftest: `from tests.databases import database, database_url, empty_database_url, postgres_server, template`.
DEFT_TEST_POSTGRES_URL names a superuser's connection, from which a role and a database are made and dropped.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from store.database import Database, migrate
from store.tables import Base

POSTGRES = os.environ.get("DEFT_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.services)]


class PostgresServer:
    """A real server and an ordinary role on it that may own databases of its own, nothing else."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin
        self._role = f"deft_test_{secrets.token_hex(4)}"
        self._made: list[str] = []
        self._execute(f"CREATE ROLE {self._role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD 'deft'")
        # No test cuts the power, so none needs to wait for the disk at each commit.
        self._execute(f"ALTER ROLE {self._role} SET synchronous_commit = off")

    def new_database(self) -> str:
        """Return the URL of a new empty database that belongs to the role."""
        name = f"{self._role}_{len(self._made)}"
        self._execute(f"CREATE DATABASE {name} OWNER {self._role}")
        self._made.append(name)
        url = self._admin.set(database=name, username=self._role, password="deft")  # noqa: S106 - a test's role
        return url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Drop everything that was made."""
        for name in self._made:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._execute(f"DROP ROLE {self._role}")

    def _execute(self, statement: str) -> None:
        engine = create_engine(self._admin, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    admin = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    try:
        server = PostgresServer(admin)
    except OperationalError as error:
        reason = f"no Postgres at {admin.host}:{admin.port}: {type(error).__name__}"
        if os.environ.get("DEFT_TEST_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield server
    server.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "deft.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    migrate(url)
    return url


@pytest.fixture(params=BACKENDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, on each backend."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database without rows, on each backend."""
    if request.param == "sqlite":
        path = tmp_path / "deft.sqlite3"
        shutil.copy(request.getfixturevalue("template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("migrated_postgres")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):  # TRUNCATE makes new files, and waits for the disk
            connection.execute(table.delete())
    engine.dispose()
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database without rows, on each backend."""
    opened = Database(database_url)
    yield opened
    opened.dispose()
