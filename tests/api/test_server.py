"""The application on a real uvicorn: what datasets and our client download, and bodies that lie about their length."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft_client import Client
from store import accounts
from store.artifacts import ArtifactFiles
from store.database import Database, migrate
from store.settings import Settings
from tests.api.conftest import jsonl, made_up_pairs

ROOT = Path(__file__).parents[2]
ROWS = [{"prompt": f"What is {n}?", "chosen": "A number.", "deft_r_d": n / 7, "deft_kept": True} for n in range(3000)]


class Server(NamedTuple):
    url: str
    key: str
    subset_id: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = Settings(data_folder=tmp_path_factory.mktemp("server"), max_upload_bytes=200_000, max_body_bytes=10_000)
    migrate(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    with database.write() as session:
        team, key = accounts.bootstrap(session)
    subset_id = published_subset(settings, database, team.id)
    port = free_port()
    environment = {
        **os.environ,
        "DEFT_DATA_FOLDER": str(settings.data_folder),
        "DEFT_MAX_UPLOAD_BYTES": "200000",
        "DEFT_MAX_BODY_BYTES": "10000",
    }
    arguments = ["--factory", "api.main:create", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *arguments], cwd=ROOT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/livez", process)
        yield Server(f"http://127.0.0.1:{port}", str(key), subset_id)
    finally:
        process.terminate()
        process.wait(20)
        database.dispose()


def published_subset(settings: Settings, database: Database, team_id: str) -> str:
    files = ArtifactFiles(settings)
    staged = files.stage("subset")
    pq.write_table(pa.Table.from_pylist(ROWS), staged / "kept.parquet", compression="zstd", row_group_size=500)
    (staged / "kept.jsonl").write_bytes(jsonl(ROWS))
    with database.write() as session:
        return files.publish(session, team_id, "subset", staged, {"kept": len(ROWS)}).id


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "uvicorn ended"
        try:
            httpx2.get(url, trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("uvicorn does not answer")


@pytest.mark.parametrize(("builder", "name"), [("parquet", "kept.parquet"), ("json", "kept.jsonl")])
def test_datasets_opens_a_file_where_it_lies(server: Server, builder: str, name: str, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(
        builder,
        data_files=f"{server.url}/v1/subsets/{server.subset_id}/files/{name}",
        storage_options={"headers": {"Authorization": f"Bearer {server.key}"}},
        cache_dir=str(tmp_path),
        split="train",
    )
    assert loaded.to_list() == ROWS


def test_our_client_brings_a_subset_and_goes_on_after_a_cut(server: Server, tmp_path: Path) -> None:
    with Client(server.url, server.key) as client:
        files = {Path(path).name: Path(path) for path in client.subsets.download(server.subset_id, tmp_path / "whole")}
        whole = files["kept.parquet"].read_bytes()
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "kept.parquet.part").write_bytes(whole[:1000])
        client.subsets.download(server.subset_id, tmp_path / "cut", only=["kept.parquet"])
    assert (tmp_path / "cut" / "kept.parquet").read_bytes() == whole
    assert pq.read_table(files["kept.parquet"]).to_pylist() == ROWS


def test_our_client_uploads_a_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(jsonl(made_up_pairs(20)))
    with Client(server.url, server.key) as client:
        dataset = client.datasets.upload(path, name="twenty")
        assert (dataset["name"], dataset["summary"]["rows"]) == ("twenty", 20)
        assert [each["id"] for each in client.datasets.list()] == [dataset["id"]]


def talk(server: Server, head: str, *, body: bytes = b"", endless: bool = False) -> tuple[int, int]:
    """Send a raw request and return the answer's status and how many bytes of a body were taken until then."""
    host, port = server.url.removeprefix("http://").split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=20) as wire:
        wire.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode() + body)
        wire.settimeout(0.02)
        answer = b""
        while not answer and sent < 50_000_000:
            with suppress(TimeoutError):
                answer = wire.recv(65536)
            if endless and not answer:
                wire.settimeout(20)
                try:
                    wire.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                    sent += 0x10000
                except OSError:
                    answer = answer or wire.recv(65536)
                wire.settimeout(0.02)
    return int(answer.split(b" ")[1]), sent


CHUNKED = "Transfer-Encoding: chunked\r\nContent-Type: {}"


@pytest.mark.parametrize(
    ("head", "limit"),
    [
        ("PUT /v1/datasets?filename=a.jsonl HTTP/1.1\r\n" + CHUNKED.format("application/octet-stream"), 200_000),
        ("POST /v1/jobs HTTP/1.1\r\n" + CHUNKED.format("application/json"), 10_000),
    ],
)
def test_an_endless_body_is_refused_at_its_cap(server: Server, head: str, limit: int) -> None:
    status, sent = talk(server, head, endless=True)
    assert status == 413
    assert sent <= limit + (1 << 20)


def test_an_endless_body_without_a_key_is_refused_at_once(server: Server) -> None:
    nobody = server._replace(key="deft_no")
    head = "PUT /v1/datasets?filename=a.jsonl HTTP/1.1\r\n" + CHUNKED.format("application/octet-stream")
    status, sent = talk(nobody, head, endless=True)
    assert status == 401
    assert sent <= 1 << 20


def test_an_upload_that_breaks_off_is_no_dataset(server: Server) -> None:
    before = listed(server)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        head = "PUT /v1/datasets?filename=a.jsonl HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        wire.sendall(f"{head}Authorization: Bearer {server.key}\r\n\r\n".encode() + jsonl(made_up_pairs(5)))
        time.sleep(0.2)
    time.sleep(0.5)
    assert listed(server) == before


def listed(server: Server) -> list[Any]:
    headers = {"Authorization": f"Bearer {server.key}"}
    answer = httpx2.get(f"{server.url}/v1/datasets", headers=headers, trust_env=False)
    found: list[Any] = json.loads(answer.content)["data"]
    return found
