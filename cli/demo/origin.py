"""Where the demo's preference pairs come from; the first that is there: a file given, a data folder, the Hub, made up.

It downloads at most one file, over HTTPS, at a pinned commit.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from cli.demo import made_up
from cli.failures import REFUSED, fail
from cli.output import say, size_text

HUB_COMMIT = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
HUB_URL = f"https://huggingface.co/datasets/Anthropic/hh-rlhf/resolve/{HUB_COMMIT}/harmless-base/train.jsonl.gz"
HUB_SECONDS = 3.0
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".jsonl.zst", ".json.zst")
REPOSITORY = Path(__file__).resolve().parents[2]

NO_REAL_DATA = "NOT REAL DATA: pairs made up by this project; what is measured on them means nothing"


@dataclass(frozen=True)
class Origin:
    """The files to upload and one line that says what they are."""

    files: list[Path]
    label: str
    is_made_up: bool = False


def find(given: Path | None, scratch: Path, *, fetch: Callable[[Path], bool] | None = None) -> Origin:
    """Return the demo's data: *given*, else DEFT_DEMO_DATA, else ../shared/data, else the Hub, else made up.

    Raises:
        typer.Exit: a file or folder that was asked for is not there or holds no data.
    """
    if given is not None:
        return _asked_for(given, f"--data {given}")
    named = os.environ.get("DEFT_DEMO_DATA")
    if named:
        return _asked_for(Path(named), f"DEFT_DEMO_DATA={named}")
    return _in_folder(REPOSITORY.parent / "shared" / "data") or _from_hub(scratch, fetch or download) or _made(scratch)


def _asked_for(place: Path, asked: str) -> Origin:
    if place.is_file():
        return Origin([place], f"{place} ({size_text(place.stat().st_size)})")
    found = _in_folder(place)
    if found is None:
        fail(f"{asked}: there is no preference data", REFUSED, f"fix: name a file of one of: {', '.join(SUFFIXES)}")
    return found


def _in_folder(folder: Path) -> Origin | None:
    """Return HH-RLHF as published when *folder* has it, else the first file of data that lies in it."""
    published = sorted((folder / "raw" / "hh-rlhf").glob("*.jsonl.gz"))
    if published:
        names = ", ".join(path.name for path in published)
        return Origin(published, f"HH-RLHF in its published form: {names} of {published[0].parent}")
    files = sorted(path for path in folder.glob("*") if path.is_file() and path.name.endswith(SUFFIXES))
    return Origin(files[:1], f"{files[0]} ({size_text(files[0].stat().st_size)})") if files else None


def _from_hub(scratch: Path, fetch: Callable[[Path], bool]) -> Origin | None:
    target = scratch / f"hh-rlhf-harmless-base-train-{HUB_COMMIT[:8]}.jsonl.gz"
    is_offline = bool(os.environ.get("HF_HUB_OFFLINE"))
    if not target.exists() and (is_offline or not fetch(target)):
        return None
    return Origin([target], f"the Hub's Anthropic/hh-rlhf, harmless-base/train.jsonl.gz at commit {HUB_COMMIT}")


def _made(scratch: Path) -> Origin:
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = scratch / "made-up-pairs.jsonl"
    made_up.write(target)
    return Origin([target], NO_REAL_DATA, is_made_up=True)


def download(target: Path, url: str = HUB_URL, transport: httpx2.BaseTransport | None = None) -> bool:
    """Fetch *url* to *target*; False when nothing answers within 3 s or the transfer breaks."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = target.with_name(target.name + ".part")
    timeout = httpx2.Timeout(HUB_SECONDS)
    try:
        with (
            httpx2.Client(timeout=timeout, follow_redirects=True, transport=transport) as http,
            http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != 200:
                return False
            say(f"fetching {url}")
            with part.open("wb") as file:
                for chunk in response.iter_raw():
                    file.write(chunk)
    except httpx2.HTTPError:
        part.unlink(missing_ok=True)
        return False
    part.replace(target)
    return True
