"""Keeps the processes of `deft serve` running: starts them, starts one again that died, stops all. Knows no program.

Each program runs in a process group of its own that ends with this process, however it ends (`cli.starter`). A signal
from the terminal reaches this process alone, which passes it on as SIGTERM.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from cli.output import say

POLL_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0
"""A program that lived this long is started again at once when it dies."""

LOG_BYTES = 50_000_000
"""A log longer than this is put aside (one old one is kept) when its program starts."""


class Program:
    """One program: its command, where it writes, and its running process."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths = 0
        self.started_at = 0.0
        self.start_again_at = 0.0
        self._pipe: int | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the program in a process group that ends with this process."""
        reading, self._pipe = os.pipe()
        _put_aside(self.log)
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603 - our own programs
                    [sys.executable, "-m", "cli.starter", str(reading), str(os.getpid()), *self.command],
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(reading,),
                )
        finally:
            os.close(reading)
        self.started_at = time.monotonic()

    def has_died(self) -> bool:
        """Whether the program ran and has ended; then what is left of its group is ended as well."""
        if self.process is None or self.process.poll() is None:
            return False
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        return True

    def schedule_restart(self) -> float:
        """Return the seconds until the program should be started again: more with each early death."""
        lived = time.monotonic() - self.started_at
        self.deaths = 1 if lived > HEALTHY_AFTER_SECONDS else self.deaths + 1
        pause = min(FIRST_PAUSE_SECONDS * float(2 ** (self.deaths - 1)), LONGEST_PAUSE_SECONDS)
        self.start_again_at = time.monotonic() + pause
        return pause

    def terminate(self) -> None:
        """Ask the program to stop."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the program and its group now."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.has_died()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that the program wrote."""
        try:
            text = self.log.read_bytes()[-20_000:].decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class Supervisor:
    """The programs, and the request to stop."""

    def __init__(self, programs: list[Program], environment: Mapping[str, str], *, stop_seconds: float = 90.0) -> None:
        self.programs = programs
        self.environment = environment
        self.stop_seconds = stop_seconds
        self.stopping = threading.Event()
        self.hurrying = threading.Event()

    def listen(self) -> None:
        """Stop on SIGTERM, SIGINT or SIGHUP; a second one means now."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopping.is_set():
            self.hurrying.set()
        self.stopping.set()

    def start(self) -> None:
        """Start every program."""
        for program in self.programs:
            program.start(self.environment)

    def run(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Keep the programs running until asked to stop; *on_tick* is called between looks and may raise."""
        while not self.stopping.wait(POLL_SECONDS):
            for program in self.programs:
                self._look_after(program)
            on_tick()

    def _look_after(self, program: Program) -> None:
        if program.process is None:
            if time.monotonic() >= program.start_again_at:
                program.start(self.environment)
        elif program.has_died():
            status = program.process.returncode
            program.process = None
            pause = program.schedule_restart()
            say(f"{program.name} ended ({_ending(status)}); starting it again in {pause:g} s; its log: {program.log}")

    def stop(self) -> None:
        """Ask every program to stop, wait, and end what does not stop in time. No process is left."""
        for program in self.programs:
            program.terminate()
        deadline = time.monotonic() + self.stop_seconds
        while any(not _is_over(program) for program in self.programs):
            if self.hurrying.is_set() or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS / 4)
        for program in self.programs:
            program.kill()


def _is_over(program: Program) -> bool:
    return program.process is None or program.process.poll() is not None


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _put_aside(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
