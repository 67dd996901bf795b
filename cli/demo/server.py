"""The demo's own `deft serve`: a real child process with its own data folder and a free port."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cli.connect import KEY_FILE, SERVING_FILE
from cli.demo.failure import DemoFailed
from cli.output import say
from cli.supervisor import Program

READY_SECONDS = 90.0
STOP_SECONDS = 100.0
UPLOAD_BYTES = 2 * 1024**3
MARGIN_BYTES = 1024**2


class Server:
    """A `deft serve` on *folder* that ends with this process, unless it is to go on *by itself* afterwards."""

    def __init__(self, folder: Path, models: Path, *, is_to_stay: bool) -> None:
        self.folder = folder
        self.log = folder / "logs" / "serve.log"
        self.is_to_stay = is_to_stay
        arguments = ["--data-folder", str(folder), "--port", "0", "--models", str(models)]
        self.command = [sys.executable, "-m", "cli.main", "serve", *arguments]
        self.program = Program("deft serve", self.command, self.log)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running server's process."""
        if self.program.process is None:
            raise DemoFailed("the server was not started")
        return self.program.process

    def start(self, *, upload_bytes: int = 0) -> tuple[str, str]:
        """Start the server, wait until it is ready, and return its address and API key; it takes *upload_bytes*.

        Raises:
            DemoFailed: it ended, or is not ready in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log.parent.mkdir(exist_ok=True)
        self.log.unlink(missing_ok=True)
        environment = {"DEFT_MAX_UPLOAD_BYTES": str(max(UPLOAD_BYTES, upload_bytes + MARGIN_BYTES)), **os.environ}
        if self.is_to_stay:
            self.program.process = self._start_alone(environment)
        else:
            self.program.start(environment)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            self.check()
            serving = _read(self.folder / SERVING_FILE)
            if serving.get("pid") == self.process.pid:
                return str(serving["url"]), (self.folder / KEY_FILE).read_text(encoding="utf-8").strip()
            time.sleep(0.1)
        raise DemoFailed(f"the server was not ready within {READY_SECONDS:g} s:\n{self.program.log_tail()}")

    def _start_alone(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own program
                self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `DemoFailed` when the server has ended."""
        if self.process.poll() is not None:
            raise DemoFailed(f"deft serve ended with exit code {self.process.returncode}:\n{self.program.log_tail()}")

    def stop(self) -> None:
        """Stop the server and what it started."""
        if self.program.process is None:
            return
        if self.process.poll() is None:
            say("stopping the demo's server (a running job stops at its next safe point)")
        self.program.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.program.kill()
        self.program.has_died()


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
