"""The child process of one attempt: start it, hear it, ask it to stop, end it. Knows no database and no Celery.

The seam behind which another way of running an operation can stand (torchrun, a Kubernetes Job): whoever uses it only
starts, reads events, asks for a stop and waits. Standard output carries events, one JSON object a line; standard error
is a log of which a bounded tail is kept. The child leads a session of its own, holds the read end of a pipe whose other
end is ours alone, and takes its whole group with it when we are gone (`deft.guard`).
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

EVENT_BYTES = 4 * 2**20
"""Longest event line that is read; a longer one is dropped whole."""

WAITING_EVENTS = 1000
"""Events read ahead of whoever takes them; then the pipe fills and the child waits."""

LOG_BYTES = 64 * 2**10
READ_BYTES = 64 * 2**10

INTERRUPTED = 75
"""Exit status of a child that has stopped at a safe point."""

KNOWN_EVENTS = frozenset({"phase", "progress", "metrics", "checkpoint", "note", "done", "failed", "review"})

Event = dict[str, Any]


class Order(NamedTuple):
    """What a child is to do: the spec's file, input folders, the empty output folder, its checkpoint folder.

    *accepted* are codes of pauses that a person has accepted. It is to be done by *processes* of it, one a GPU.
    *cache* is where jobs of one team keep for each other what may be lost.
    """

    spec: Path
    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path
    accepted: tuple[str, ...] = ()
    processes: int = 1
    cache: Path | None = None


def command(order: Order) -> list[str]:
    """Return the command line of the operation in *order*; start() adds the guard's two arguments."""
    inputs = [part for name, folder in order.inputs.items() for part in ("--input", f"{name}={folder}")]
    accepted = [part for code in order.accepted for part in ("--accept", code)]
    return [
        *(sys.executable, "-m", "deft", str(order.spec), *inputs, *accepted),
        *("--out", str(order.out), "--checkpoints", str(order.checkpoints), "--events"),
        *(("--cache", str(order.cache)) if order.cache is not None else ()),
        *(("--processes", str(order.processes)) if order.processes > 1 else ()),
    ]


class Tail:
    """The last bytes of a log, whole lines only once it has overflowed."""

    def __init__(self, limit: int = LOG_BYTES) -> None:
        self._limit = limit
        self._parts: deque[bytes] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.written = 0

    def add(self, part: bytes) -> None:
        """Append *part*, dropping from the front what no longer fits."""
        with self._lock:
            self._parts.append(part)
            self._bytes += len(part)
            self.written += len(part)
            while self._bytes - len(self._parts[0]) >= self._limit:
                self._bytes -= len(self._parts.popleft())

    def text(self) -> str:
        """Return the tail as text; bytes that are no UTF-8, and NUL, which no database takes, are replaced."""
        with self._lock:
            whole, is_cut = b"".join(self._parts), self.written > self._limit
        kept = whole[-self._limit :]
        if is_cut:
            kept = kept[kept.find(b"\n") + 1 :]
        return kept.decode("utf-8", errors="replace").replace("\x00", "\ufffd")


class Child:
    """A running child process."""

    def __init__(self, process: subprocess.Popen[bytes], guard: int) -> None:
        self._process = process
        self._guard = guard
        self._events: queue.Queue[Event] = queue.Queue(WAITING_EVENTS)
        self.is_asked_to_stop = False
        self.log = Tail()
        self._readers = [
            threading.Thread(target=self._read_events, name="child-events", daemon=True),
            threading.Thread(target=self._read_log, name="child-log", daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def events(self, seconds: float) -> list[Event]:
        """Return the events that have come, waiting up to *seconds* for the first."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=seconds) if seconds > 0 else self._events.get_nowait())
            while len(events) < WAITING_EVENTS:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        return events

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the child alone: it stops at its next safe point."""
        self.is_asked_to_stop = True
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Kill whatever is left of its group, reap it and return its exit status (negative: the signal)."""
        end_group(self.pid)
        status = self._process.wait()
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1
        return status

    def last_events(self, seconds: float = 5.0) -> list[Event]:
        """Return the events not yet taken, once its output is read to the end; call after end()."""
        events: list[Event] = []
        while any(reader.is_alive() for reader in self._readers) and seconds > 0:
            events += self.events(0.05)
            seconds -= 0.05
        if not any(reader.is_alive() for reader in self._readers):  # else a stranger still holds the other end
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
        return events + self.events(0)

    def _read_events(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - Popen was given a pipe
        for line in whole_lines(stream):
            event = parse_event(line)
            if event is not None:
                self._events.put(event)

    def _read_log(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # noqa: S101 - Popen was given a pipe
        while part := os.read(stream.fileno(), READ_BYTES):
            self.log.add(part)


def start(arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Child:
    """Start *arguments* as a child tied to this process and return it.

    Raises:
        OSError: it cannot be started.
    """
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            [*arguments, "--guard-fd", str(read_end), "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=(read_end,),
            env=None if environment is None else dict(environment),
        )
    except OSError:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return Child(process, write_end)


def end_group(group: int) -> None:
    """Send SIGKILL to every process of *group*; none left is fine."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return


def whole_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of *stream* without their ends; one longer than EVENT_BYTES is dropped, a cut last one too."""
    rest, is_dropping = bytearray(), False
    while part := os.read(stream.fileno(), READ_BYTES):
        rest += part
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if not is_dropping and len(line) <= EVENT_BYTES:
                yield line
            is_dropping = False
        if len(rest) > EVENT_BYTES:
            rest, is_dropping = bytearray(), True


def parse_event(line: bytes) -> Event | None:
    """Return the event in *line*, or None when it is not one that we know."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    return event if event["event"] in KNOWN_EVENTS else None


def environment_for_child(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a child may know of *environment*: nothing of the service's own settings and secrets.

    Nor the address and key of an endpoint: only the child of a job that names one gets them, of that one.

    OpenMP's threads sleep while they wait, unless the environment says otherwise: on CPUs that something else uses too,
    spinning made a training step five times slower.
    """
    known = {name: value for name, value in environment.items() if not name.startswith(("DEFT_", "OPENAI_"))}
    return {"OMP_WAIT_POLICY": "PASSIVE", **known}


def describe_death(status: int) -> str:
    """Return in words how a child ended with exit *status* that left no last word."""
    if status == INTERRUPTED:
        return "the process was stopped from outside"
    if status < 0:
        return f"the process was killed by signal {-status}"
    if 128 < status < 128 + signal.NSIG:
        return (
            f"one of the processes that shared the job was killed by signal {status - 128} (the log's end says which)"
        )
    return f"the process ended with status {status} and without a report"
