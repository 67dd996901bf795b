"""Where the service is: DEFT_URL and DEFT_API_KEY, else the `deft serve` of this machine's data folder."""

import json
import os
from pathlib import Path

from deft_client import Client

DEFAULT_DATA_FOLDER = Path("deft-data")
KEY_FILE = "api-key"
SERVING_FILE = "serve.json"


def data_folder() -> Path:
    """Return the data folder of this machine: DEFT_DATA_FOLDER, else ./deft-data."""
    return Path(os.environ.get("DEFT_DATA_FOLDER") or DEFAULT_DATA_FOLDER)


def connect() -> Client:
    """Return a client for the service that the environment, or else the local data folder, names."""
    folder = data_folder()
    url = os.environ.get("DEFT_URL")
    if url:
        return Client(url, os.environ.get("DEFT_API_KEY"))
    return Client(local_url(folder), os.environ.get("DEFT_API_KEY") or local_key(folder))


def local_url(folder: Path) -> str | None:
    """Return the address that the `deft serve` of *folder* wrote down; None when there is none."""
    try:
        serving = json.loads((folder / SERVING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(serving["url"]) if isinstance(serving, dict) and "url" in serving else None


def local_key(folder: Path) -> str | None:
    """Return the API key that `deft serve` keeps in *folder*; None when there is none."""
    try:
        return (folder / KEY_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
