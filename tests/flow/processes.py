"""The whole service as real processes, in both its shapes, for tests that drive it over HTTP alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deft_client import Client

START_SECONDS = 180


class Processes:
    """Programs that one test started, their logs, and their end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], stdout=log, stderr=log, env=_environment(environment)
            )
        self.started.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in self.folder.glob("**/*.log"))

    def wait_for(self, is_there: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_there():
            dead = [process.args for process in self.started if process.poll() is not None]
            assert not dead, f"{dead} ended\n{self.logs()}"
            assert time.monotonic() < deadline, f"no {what}\n{self.logs()}"
            time.sleep(0.1)


def run(*arguments: str, **environment: str) -> str:
    """Run `python -m ARGUMENTS` to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=_environment(environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _environment(changes: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DEFT_")}
    return {**clean, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **changes}


def start_embedded(processes: Processes, models: Path) -> Client:
    """`deft serve`: SQLite, a folder and the embedded broker."""
    data = processes.folder / "data"
    processes.start("serve", "cli.main", "serve", "--data-folder", str(data), "--port", "0", "--models", str(models))
    serving = data / "serve.json"
    processes.wait_for(serving.exists, "announcement of `deft serve`")
    url = json.loads(serving.read_text())["url"]
    return Client(url, (data / "api-key").read_text().strip())


def start_production(processes: Processes, models: Path, database_url: str, broker_url: str, port: int) -> Client:
    """Postgres, Redis, and the API, the worker and the sweeper started one by one."""
    settings = {
        "DEFT_DATABASE_URL": database_url,
        "DEFT_BROKER_URL": broker_url,
        "DEFT_DATA_FOLDER": str(processes.folder / "data"),
        "DEFT_MODEL_ROOTS": str(models),
    }
    run("cli.main", "admin", "migrate", **settings)
    key = run("cli.main", "admin", "bootstrap-key", **settings).strip()
    processes.start("api", "uvicorn", "--factory", "api.main:create", "--port", str(port), **settings)
    processes.start("worker", "worker.main", **settings)
    processes.start("sweeper", "worker.sweeper", **settings)
    client = Client(f"http://127.0.0.1:{port}", key)
    processes.wait_for(lambda: _answers(client), "answer of the API")
    return client


def _answers(client: Client) -> bool:
    try:
        return client.is_ready()
    except Exception:  # noqa: BLE001 - whatever it is, it is not ready
        return False
