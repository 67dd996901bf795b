"""`deft serve`: the whole service on one machine, without another server: SQLite, a folder, an embedded broker.

It prepares the data folder and runs the API and a worker as two child processes: the same programs as in production,
with other settings.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import data_folder
from cli.connect import data_folder as default_data_folder
from cli.connect import local_key
from cli.failures import SERVER, fail
from cli.output import say
from cli.supervisor import Program, Supervisor
from deft.errors import Conflict, InvalidInput
from deft_client import Client, Unreachable

if TYPE_CHECKING:
    from store.settings import Settings

READY_SECONDS = 60.0
STARTS_TRIED = 3


def models_cache() -> Path:
    """Return the folder of this user's cache that base models made by `deft demo` lie in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deft" / "models"


def serve(
    folder: Annotated[
        Path | None, typer.Option("--data-folder", help="Where everything is kept. [default: deft-data]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    models: Annotated[
        list[Path] | None, typer.Option("--models", help="A folder of base models; may be given several times.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs that run at a time. [default: 1]")] = None,
) -> None:
    """Run the whole service on this machine: API and worker, SQLite, a folder. Stop it with Ctrl-C."""
    private = data_folder.prepare(folder or default_data_folder())
    lock = data_folder.Lock(private)
    try:
        settings = _settings(private, host, port, models or [], slots)
        key = _prepare_store(settings)
        _run(settings, private, key)
    finally:
        lock.release()


def _settings(folder: Path, host: str | None, port: int | None, models: list[Path], slots: int | None) -> "Settings":
    """Return the settings of the environment with the command's options on top."""
    try:
        from store.settings import Settings
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed", SERVER, "fix: pip install 'deft-service[server,worker]'")
    base = Settings()
    own = folder / "models"
    own.mkdir(exist_ok=True)
    roots = [*base.model_roots, *models, own, models_cache()]
    listening_host = host or base.host
    return base.model_copy(
        update={
            "data_folder": folder,
            "host": listening_host,
            "port": free_port(listening_host, base.port if port is None else port),
            "model_roots": list(dict.fromkeys(root.expanduser().absolute() for root in roots if root.is_dir())),
            "slots": slots or base.slots,
        }
    )


def free_port(host: str, port: int) -> int:
    """Return *port*, or a free one for 0.

    Raises:
        Conflict: the port is taken.
        InvalidInput: this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (98, 48):  # EADDRINUSE on Linux, on macOS
                message = f"port {port} of {host} is taken; choose another with --port, or a free one with --port 0"
                raise Conflict(message, code="port_in_use") from error
            raise InvalidInput(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        return int(probe.getsockname()[1])


def _prepare_store(settings: "Settings") -> str | None:
    """Bring the database up to date, make the team and its key once, register models, empty the bell; return the key.

    None where the key was made earlier and is not kept in the data folder.
    """
    from store import accounts, bell, database
    from store import models as registry

    database.migrate(settings.resolved_database_url)
    opened = database.Database(settings.resolved_database_url)
    try:
        with opened.write() as session:
            given = settings.bootstrap_key
            team, key = accounts.bootstrap(session, given.get_secret_value() if given else None)
            kept = local_key(settings.data_folder)
            if key is None and kept is None and given is None:
                _, key = accounts.create_key(session, team.id, "deft serve")
        with opened.write() as session:
            registry.sync_roots(session, settings)
    finally:
        opened.dispose()
    if key is not None:
        data_folder.store_key(settings.data_folder, key)
        say(f"API key (also kept in {settings.data_folder / 'api-key'}): {key}")
    bell.prepare_embedded(settings)
    return key or kept


def environment(settings: "Settings") -> dict[str, str]:
    """Return this process's environment with *settings* in it, for the child processes."""
    return {
        **os.environ,
        "DEFT_DATA_FOLDER": str(settings.data_folder),
        "DEFT_HOST": settings.host,
        "DEFT_PORT": str(settings.port),
        "DEFT_MODEL_ROOTS": os.pathsep.join(map(str, settings.model_roots)),
        "DEFT_SLOTS": str(settings.slots),
        "PYTHONUNBUFFERED": "1",
    }


def programs(settings: "Settings") -> list[Program]:
    """Return the API and the worker, started as in production."""
    logs = settings.data_folder / "logs"
    python = sys.executable
    api = [python, "-m", "uvicorn", "--factory", "api.main:create", "--host", settings.host, "--port"]
    api += [str(settings.port), "--log-level", settings.log_level, "--timeout-graceful-shutdown", "5"]
    return [
        Program("api", api, logs / "api.log"),
        Program("worker", [python, "-m", "worker.main"], logs / "worker.log"),
    ]


def _run(settings: "Settings", folder: Path, key: str | None) -> None:
    url = local_address(settings.host, settings.port)
    running = programs(settings)
    supervisor = Supervisor(running, environment(settings))
    supervisor.listen()
    readiness = _wait_until_ready(url, running)

    def on_tick() -> None:
        if next(readiness, False):
            data_folder.announce(folder, url)
            _greet(url, folder, key)

    try:
        supervisor.start()
        supervisor.run(on_tick)
    finally:
        data_folder.withdraw(folder)
        say("stopping: a running job keeps its last checkpoint and goes on at the next start")
        supervisor.stop()
        say("stopped")


def _wait_until_ready(url: str, running: list[Program]) -> Iterator[bool]:
    """Yield False while the service is not ready, True once, then end.

    Raises:
        typer.Exit: it does not become ready.
    """
    deadline = time.monotonic() + READY_SECONDS
    with _patient_client(url) as client:
        while not _answers(client):
            broken = [one for one in running if one.deaths >= STARTS_TRIED]
            if broken or time.monotonic() > deadline:
                shown = broken or running
                logs = [f"--- the end of {one.log}\n{one.log_tail()}" for one in shown]
                names = " and ".join(one.name for one in shown)
                fail(f"the service did not become ready: look at the log of {names}", SERVER, *logs)
            yield False
    yield True


@contextmanager
def _patient_client(url: str) -> Iterator[Client]:
    with Client(url, "none", timeout_seconds=5.0, attempts=1) as client:
        yield client


def _answers(client: Client) -> bool:
    try:
        return client.is_ready()
    except Unreachable:
        return False


def local_address(host: str, port: int) -> str:
    """Return the address at which this machine reaches the service that listens on *host*."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _greet(url: str, folder: Path, key: str | None) -> None:
    say(f"ready at {url}   (data in {folder}, logs in {folder / 'logs'})")
    say(f"  export DEFT_URL={url} DEFT_API_KEY={key or '(the key printed at the first start)'}")
    say(f"  documentation of the API: {url}/docs")
