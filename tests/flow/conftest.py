from collections.abc import Iterator
from pathlib import Path

import pytest

from deft_client import Client
from tests.databases import migrated_postgres, postgres_server  # noqa: F401 - fixtures
from tests.faults.house import RedisServer, free_port, need_redis_server
from tests.flow.processes import Processes, start_embedded, start_production
from tests.models import save_tiny_llama


@pytest.fixture(params=["embedded", pytest.param("production", marks=pytest.mark.services)])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """A client of the running service, in each of its two shapes, with the model `tiny-llama`."""
    models = tmp_path / "models"
    save_tiny_llama(models / "tiny-llama")
    processes = Processes(tmp_path)
    try:
        if request.param == "embedded":
            yield start_embedded(processes, models)
        else:
            yield from _production(request, processes, models)
    finally:
        processes.stop()


def _production(request: pytest.FixtureRequest, processes: Processes, models: Path) -> Iterator[Client]:
    need_redis_server()
    server = request.getfixturevalue("postgres_server")
    redis = RedisServer(processes.folder)
    try:
        client = start_production(processes, models, server.new_database(), redis.url, free_port())
        client.models.register("tiny-llama", folder=str(models / "tiny-llama"))
        yield client
    finally:
        redis.stop()
