"""What all attempts of one worker process share. Knows no Celery and no job."""

import os
import secrets
import socket
import threading
from dataclasses import dataclass, field

from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings


@dataclass(frozen=True)
class Workplace:
    """Settings, database and files; *owner* names this process; *stopping* is set when it is asked to end."""

    settings: Settings
    database: Database
    files: ArtifactFiles
    owner: str
    stopping: threading.Event = field(default_factory=threading.Event)


def open_workplace(settings: Settings) -> Workplace:
    """Return the workplace of this process."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return Workplace(settings, Database(settings.resolved_database_url), ArtifactFiles(settings), owner)
