import pytest

from tests.databases import (  # noqa: F401 - fixtures
    BACKENDS,
    database_url,
    empty_database_url,
    migrated_postgres,
    postgres_server,
    template,
)
from tests.faults.house import House, RedisServer, need_redis_server


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    need_redis_server()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def make_house(tmp_path, request, database_url):  # noqa: F811 - the fixture
    """Makes the service: SQLite with the embedded broker, or Postgres with Redis."""
    is_embedded = database_url.startswith("sqlite")
    broker = "filesystem://" if is_embedded else request.getfixturevalue("redis").url
    made = []

    def make(**settings):
        made.append(House(tmp_path, database_url, broker, **settings))
        return made[-1]

    yield make
    for house in made:
        house.close()
    if not is_embedded:
        request.getfixturevalue("redis").command("flushall")


@pytest.fixture
def house(make_house):
    return make_house()
