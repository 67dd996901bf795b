"""Several processes of one training on one machine: starting them, and a process's place among them. Torch-free.

`python -m deft ... --processes N` starts N of itself in its own process group, so that whoever ends the group (the
guard) ends all; torchrun, which gives each a session of its own, works as well where a person watches. Both tell each
process its place by the same variables. Only the first process tells, writes and hears; the others follow it. Another
one that fails leaves its failure beside the meeting, and the launcher tells it where the first one was left waiting.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

LEAVE_SECONDS = 20.0
"""How long the others may take to end once one has failed, or the first is through."""

_TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK")
_GPUS = "CUDA_VISIBLE_DEVICES"
_FILE = "file://"
_FAILURE = "failure.json"
_SPOKEN = (0, 1, 3)
"""Statuses with which `python -m deft` has said how it ended: done, failed, paused."""


class Place(NamedTuple):
    """A process's place: its *rank* of *size*, and its number on this machine."""

    rank: int
    local_rank: int
    size: int


class End(NamedTuple):
    """How all processes ended: the exit *status*, and the *failure* or *death* of one that nobody has told yet."""

    status: int
    failure: dict[str, Any] | None = None
    death: str | None = None


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return the place that *environment* tells, by torchrun's variables; None: this process is alone."""
    size = int(environment.get("WORLD_SIZE", "1"))
    if size < 2:
        return None
    return Place(int(environment["RANK"]), int(environment["LOCAL_RANK"]), size)


@contextmanager
def membership(place: Place | None, meeting: str) -> Iterator[None]:
    """Belong to the processes that meet at *meeting* while a training runs; None: do nothing.

    The process sees its own GPU only, and libraries of torch's no longer see that there are others: they would each
    set up their own way of sharing the work.
    """
    if place is None:
        yield
        return
    see_own_gpu(os.environ, place)
    from deft.training.ranks import joined  # torch, after the GPUs have been chosen

    with joined(place.rank, place.size, meeting):
        for name in _TOLD:
            os.environ.pop(name, None)
        yield


def see_own_gpu(environment: MutableMapping[str, str], place: Place) -> None:
    """Leave of the GPUs that *environment* shows only that of *place*; where it hides all, none."""
    if environment.get(_GPUS) == "":
        return
    shown = [name for name in environment.get(_GPUS, "").split(",") if name]
    environment[_GPUS] = shown[place.local_rank] if place.local_rank < len(shown) else str(place.local_rank)


def leave_failure(meeting: str | None, rank: int, failure: Mapping[str, Any]) -> None:
    """Leave the *failure* of process *rank* beside a *meeting* of `run_all`; the first one to be left stays."""
    if meeting is None or not meeting.startswith(_FILE):
        return
    message = failure["message"]
    named = message if message.startswith("in process ") else f"in process {rank}: {message}"
    own = Path(meeting.removeprefix(_FILE)).with_name(f"failure-{rank}.json")
    own.write_text(json.dumps({**failure, "message": named}), encoding="utf-8")
    with suppress(FileExistsError):
        os.link(own, own.with_name(_FAILURE))  # whole or not at all


def run_all(arguments: Sequence[str], processes: int) -> End:
    """Run `python -m deft` with *arguments* as *processes* processes; return the first one's exit status.

    SIGTERM is passed on to the first, which tells the others. When one fails and the first does not end by itself, all
    are ended and the status is 1, with the failure that the one has left; likewise when the first only saw it leave.
    One that was killed makes the status a shell's for its signal, unless the first has said how it ended by itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "deft", *arguments, "--meeting", f"{_FILE}{folder}/meeting"]
        children = [
            subprocess.Popen(command, env={**os.environ, **_variables(rank, processes)})  # noqa: S603 -- ourselves
            for rank in range(processes)
        ]
        signal.signal(signal.SIGTERM, lambda _number, _frame: children[0].send_signal(signal.SIGTERM))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the first process too
        end = _wait(children)
        left = Path(folder, _FAILURE)
        if children[0].returncode in _SPOKEN:
            return End(children[0].returncode)
        return End(1, json.loads(left.read_bytes())) if left.is_file() else end


def _variables(rank: int, size: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> End:
    """Wait until all have ended, not much longer than for the first of them to fail or the first one to be through."""
    leave_by: float | None = None
    while any(child.poll() is None for child in children):
        is_leaving = children[0].poll() is not None or any(child.poll() for child in children)
        if is_leaving and leave_by is None:
            leave_by = time.monotonic() + LEAVE_SECONDS
        if leave_by is not None and time.monotonic() > leave_by:
            return _killed(children) or End(_end(children))
        time.sleep(0.1)
    return _killed(children) or End(_status(children[0].returncode))


def _killed(children: Sequence[subprocess.Popen[bytes]]) -> End | None:
    """Return the end of all when one of *children* was killed, once the others are ended; None: none was."""
    for rank, child in enumerate(children):
        number = -(child.poll() or 0)
        if number > 0:
            _end(children)
            death = f"process {rank} of {len(children)} of this training was killed by signal {number}"
            return End(_status(-number), death=death)
    return None


def _end(children: Sequence[subprocess.Popen[bytes]]) -> int:
    ended = children[0].poll()
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
    return 1 if ended is None else _status(ended)


def _status(returncode: int) -> int:
    """Return what a shell calls the end of a process: 128 + the signal for one that was killed."""
    return returncode if returncode >= 0 else 128 - returncode
