import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli import serve
from cli.demo.server import Server
from deft.errors import Conflict, InvalidInput
from deft_client import Client, NotAuthenticated
from store.settings import Settings


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_free_port_is_found_and_a_taken_one_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serve.free_port("127.0.0.1", 0) not in (0, port)
        with pytest.raises(Conflict, match=f"port {port}.*--port 0"):
            serve.free_port("127.0.0.1", port)
    with pytest.raises(InvalidInput, match=r"192\.0\.2\.1"):
        serve.free_port("192.0.2.1", 0)


def test_the_children_get_the_settings_as_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_folder=tmp_path, port=4321, model_roots=[tmp_path / "a", tmp_path / "b"], slots=3)
    for name, value in serve.environment(settings).items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert (read.data_folder, read.port, read.slots) == (tmp_path, 4321, 3)
    assert read.model_roots == [tmp_path / "a", tmp_path / "b"]


def test_this_machine_reaches_a_server_that_listens_on_all_addresses() -> None:
    assert serve.local_address("0.0.0.0", 80) == "http://127.0.0.1:80"  # noqa: S104 - not bound
    assert serve.local_address("::", 80) == "http://[::1]:80"
    assert serve.local_address("10.0.0.7", 80) == "http://10.0.0.7:80"


@pytest.mark.flow
def test_serve_starts_refuses_a_second_one_restarts_what_dies_and_leaves_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path, is_to_stay=False)
    try:
        url, key = server.start()
        server_pid = server.process.pid
        with Client(url, key) as client, Client(url, "deft_wrong") as stranger:
            assert list(client.datasets.list()) == []
            with pytest.raises(NotAuthenticated):
                stranger.team()
        again = [sys.executable, "-m", "cli.main", "serve", "--data-folder", str(tmp_path / "data"), "--port", "0"]
        second = subprocess.run(again, capture_output=True, text=True, check=False)
        assert second.returncode == 3
        assert "data_folder_in_use" in second.stderr

        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(server_pid)}
        api_pid = next(pid for pid, command in commands.items() if b"uvicorn" in command and b"starter" not in command)
        os.kill(api_pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with Client(url, key, attempts=6) as client:
                if client.team()["key_id"] and not is_alive(api_pid):
                    break
        everything = [server_pid, *children_of(server_pid)]
        assert len(everything) >= 3
    finally:
        server.stop()
    assert server.process.returncode == 0
    deadline = time.monotonic() + 10  # the guards end at the end of file of their pipes, a moment later
    while any(is_alive(pid) for pid in everything) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in everything)
    assert not (tmp_path / "data" / "serve.json").exists()
    assert server.program.log_tail().endswith("stopped")
