"""The data folder of `deft serve`: private, on a local disk, used by one server at a time."""

import fcntl
import json
import os
from pathlib import Path

from cli.connect import KEY_FILE, SERVING_FILE
from deft.errors import Conflict, InvalidInput
from store.local_disk import refuse_network

LOCK_FILE = "serve.lock"


def prepare(folder: Path) -> Path:
    """Make *folder* (mode 0700) and return its absolute path.

    Raises:
        InvalidInput: it lies on a network file system, or cannot be made.
    """
    folder = folder.expanduser().absolute()
    refuse_network(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        message = f"{folder} cannot be the data folder: {error.strerror}; give another with --data-folder"
        raise InvalidInput(message, code="data_folder_unusable") from error
    return folder


class Lock:
    """The right to serve a data folder; held until the process ends or `release` is called."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            Conflict: another `deft serve` has it.
        """
        self.path = folder / LOCK_FILE
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.descriptor)
            raise Conflict(
                f"another `deft serve` (process {self.path.read_text() or '?'}) uses {folder}; "
                "stop it, or give this one its own --data-folder",
                code="data_folder_in_use",
            ) from error
        os.truncate(self.descriptor, 0)
        os.write(self.descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another server have the folder."""
        os.close(self.descriptor)


def write_private(path: Path, text: str) -> None:
    """Write *text* to *path* so that only this user can read it, in one step."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    staged.replace(path)


def store_key(folder: Path, key: str) -> None:
    """Keep the first API key for the command line of this machine."""
    write_private(folder / KEY_FILE, key + "\n")


def announce(folder: Path, url: str) -> None:
    """Write down where the server of *folder* listens, once it does."""
    write_private(folder / SERVING_FILE, json.dumps({"url": url, "pid": os.getpid()}) + "\n")


def withdraw(folder: Path) -> None:
    """Remove what `announce` wrote."""
    (folder / SERVING_FILE).unlink(missing_ok=True)
