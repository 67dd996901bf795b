"""The service's store and real worker processes around a stand-in operation, for tests that kill things."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

from deft.specs import SelectSpec
from store import accounts, bell, jobs, wishes
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from store.tables import Artifact, Job

WORKER = Path(__file__).with_name("standin_worker.py")


SLACK = 3  # of every promised time, for machines that do other things as well


def wait_for(condition: Callable[[], Any], seconds: float, what: str = "the condition") -> Any:
    end = time.monotonic() + seconds * SLACK
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come about within {SLACK} x {seconds} s")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def need_redis_server() -> None:
    """Skip, or fail where the services are required, on a machine without a redis-server to start."""
    if shutil.which("redis-server") is not None:
        return
    if os.environ.get("DEFT_TEST_REQUIRE_SERVICES") == "1":
        pytest.fail("there is no redis-server on the path")
    pytest.skip("there is no redis-server on the path")


class RedisServer:
    """A Redis of the tests' own, on a free port, that may be emptied, stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        arguments = [
            "redis-server",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
        ]
        self._process = subprocess.Popen(arguments, cwd=self._folder, stdout=subprocess.DEVNULL)
        wait_for(lambda: self.command("ping") == "PONG", 10, "an answer of redis-server")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, *words: str) -> str:
        done = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()


class House:
    """A data folder, a database and a broker; workers come and go."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, **settings: object) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        quick = {"lease_seconds": 2.0, "renew_seconds": 0.5, "sweep_seconds": 0.5, "stop_grace_seconds": 10.0}
        values = {**quick, **settings}
        self.settings = Settings(
            data_folder=folder / "data", database_url=database_url, broker_url=broker_url, **values
        )
        bell.prepare_embedded(self.settings)
        self.database = Database(database_url)
        self.files = ArtifactFiles(self.settings)
        self.celery = bell.make_celery(self.settings)
        self.environment = {
            **os.environ,
            "STANDIN_SCRATCH": str(self.scratch),
            "DEFT_DATA_FOLDER": str(folder / "data"),
            "DEFT_DATABASE_URL": database_url,
            "DEFT_BROKER_URL": broker_url,
            **{f"DEFT_{name.upper()}": str(value) for name, value in values.items()},
        }
        self.workers: list[subprocess.Popen[bytes]] = []
        with self.database.write() as session:
            self.team_id = accounts.bootstrap(session)[0].id
            staged = self.files.stage("scoring")
            (staged / "scores.parquet").write_text("made up")
            self.scoring_id = self.files.publish(session, self.team_id, "scoring", staged, {}).id

    def submit(self, plan: str, *, ring: bool = True) -> str:
        with self.database.write() as session:
            job_id = jobs.create(session, self.team_id, SelectSpec(scoring=self.scoring_id, name=plan)).id
        if ring:
            bell.ring(self.celery, job_id, "cpu")
        return job_id

    def start_worker(self, **changes: object) -> subprocess.Popen[bytes]:
        environment = {**self.environment, **{f"DEFT_{name.upper()}": str(value) for name, value in changes.items()}}
        log = (self.folder / f"worker-{len(self.workers)}.log").open("wb")
        worker = subprocess.Popen([sys.executable, str(WORKER)], env=environment, stdout=log, stderr=log)
        log.close()
        self.workers.append(worker)
        return worker

    def freeze(self, worker: subprocess.Popen[bytes], job_id: str) -> None:
        """Stop *worker* wherever it is, but in the middle of a write, whose locks would hold up everybody else."""
        for _ in range(100):
            worker.send_signal(signal.SIGSTOP)
            if self._is_unlocked(job_id):
                return
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        raise AssertionError("the worker was writing each time that it was stopped")

    def _is_unlocked(self, job_id: str) -> bool:
        is_sqlite = self.settings.database_url.startswith("sqlite")
        waits = {"connect_args": {"timeout": 0.5}} if is_sqlite else {}
        row = f"SELECT id FROM jobs WHERE id = '{job_id}' FOR UPDATE NOWAIT"  # noqa: S608 - an id of our own
        lock = "BEGIN IMMEDIATE" if is_sqlite else row
        try:
            with create_engine(self.settings.database_url, poolclass=NullPool, **waits).connect() as connection:
                connection.exec_driver_sql(lock)
                connection.exec_driver_sql("ROLLBACK")
        except OperationalError:
            return False
        return True

    def log_of(self, worker: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"worker-{self.workers.index(worker)}.log").read_text()

    def job(self, job_id: str) -> Job:
        with self.database.read() as session:
            return jobs.get(session, self.team_id, job_id)

    def cancel(self, job_id: str) -> None:
        with self.database.write() as session:
            wishes.request_cancel(session, self.team_id, job_id)

    def pause(self, job_id: str) -> None:
        with self.database.write() as session:
            wishes.request_pause(session, self.team_id, job_id)

    def resume(self, job_id: str) -> None:
        with self.database.write() as session:
            wishes.request_resume(session, self.team_id, job_id)

    def wait_status(self, job_id: str, *statuses: str, seconds: float = 20) -> Job:
        def reached() -> Job | None:
            job = self.job(job_id)
            return job if job.status in statuses else None

        return wait_for(reached, seconds, f"{job_id} {'/'.join(statuses)}, is {self.job(job_id).status}")

    def events(self, job_id: str) -> list[dict[str, Any]]:
        with self.database.read() as session:
            page = jobs.events_page(session, self.team_id, job_id, limit=100)
            return [{"type": event.type, **event.data} for event in page.items]

    def outputs(self, job_id: str) -> list[Artifact]:
        with self.database.read() as session:
            return list(session.query(Artifact).where(Artifact.job_id == job_id))

    def diary(self, name: str) -> list[dict[str, Any]]:
        path = self.scratch / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def entry(self, name: str, what: str, seconds: float = 15) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((entry for entry in self.diary(name) if entry["what"] == what), None)

        return wait_for(found, seconds, f"{what} of {name}")

    def result(self, job_id: str) -> str:
        [artifact] = self.outputs(job_id)
        return (self.files.open_checked(artifact) / "result.txt").read_text()

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self.database.dispose()
