"""`python -m worker.fetch HUB_ID REVISION FOLDER`: bring a pinned model of the Hugging Face Hub to this machine.

A child process of the worker like an operation, with the same events, so that a cancel or a stop ends it at any byte.
Only files that cannot hold code are taken: safetensors, JSON, text. It knows no database.
"""

import argparse
import json
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from deft.adapters.bases import RECORD
from deft.errors import DeftError, ModelNotUsable, Unavailable
from deft.failures import failure_of, known_error
from deft.folders import sync
from deft.guard import die_with_parent, dismiss
from deft.listeners import EventLines, StopRequest

WATCH_SECONDS = 5.0
TAKEN = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch and tell the worker by events how it went; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m worker.fetch")
    parser.add_argument("hub_id")
    parser.add_argument("revision")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--guard-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    options = parser.parse_args(arguments)
    guard = die_with_parent(options.guard_fd, options.parent_pid)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is half fetched is kept by the Hub's client and continued
    report = EventLines(sys.stdout, StopRequest())
    report.phase("fetching_model")
    Watch(partial_folder(options.folder), report).start()
    try:
        fetch(options.hub_id, options.revision, options.folder)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever it is becomes the job's failure
        traceback.print_exc()
        report.send("failed", failure=failure_of(error))
        return 1
    finally:
        dismiss(guard)
    report.send("done", summary={})
    return 0


def partial_folder(folder: Path) -> Path:
    """Return where files lie until all are there; kept when it breaks off, so that the next try goes on from there."""
    return folder.with_name(folder.name + ".partial")


class Watch(threading.Thread):
    """Tells how much has come, whenever more has: a fetch that stands still says nothing and is ended as hung."""

    def __init__(self, folder: Path, report: EventLines) -> None:
        super().__init__(name="watch", daemon=True)
        self._folder = folder
        self._report = report

    def run(self) -> None:
        """Look every WATCH_SECONDS, until the process ends."""
        told = 0
        while True:
            time.sleep(WATCH_SECONDS)
            mebibytes = size_of(self._folder) // 2**20
            if mebibytes > told:
                told = mebibytes
                self._report.progress(told, told, "MiB")  # the total is not known


def size_of(folder: Path) -> int:
    """Return the bytes below *folder*, whose files come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def fetch(hub_id: str, revision: str, folder: Path) -> None:
    """Put the files of *hub_id* at commit *revision* into *folder*, whole or not at all.

    Raises:
        ModelNotUsable: the Hub has no such model or revision, or it needs a licence to be accepted.
        Unavailable: the Hub does not answer.
    """
    from huggingface_hub import snapshot_download

    if folder.is_dir():
        return
    partial = partial_folder(folder)
    try:
        snapshot_download(hub_id, revision=revision, local_dir=partial, allow_patterns=TAKEN)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        (partial / RECORD).write_text(json.dumps({"name": hub_id, "revision": revision}), encoding="utf-8")
        partial.rename(folder)
    except Exception as error:
        if not folder.is_dir():  # else another worker, fetching the same, was faster
            raise hub_error(error, hub_id, revision) from error
    sync(folder.parent)


def hub_error(error: Exception, hub_id: str, revision: str) -> DeftError:
    """Return what the Hub client raised as one of our errors."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    known = known_error(error)
    if known is not None:
        return known
    if isinstance(error, GatedRepoError):
        return ModelNotUsable(f"{hub_id} asks for its licence to be accepted: set HF_TOKEN where the worker runs")
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return ModelNotUsable(f"the Hub has no {hub_id} at revision {revision}, or it is private")
    return Unavailable(
        f"{hub_id} cannot be fetched: the Hugging Face Hub does not answer ({type(error).__name__}); "
        "register a folder below DEFT_MODEL_ROOTS instead, or try again later",
        code="hub_unavailable",
    )


if __name__ == "__main__":
    sys.exit(main())
