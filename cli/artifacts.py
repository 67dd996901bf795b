"""`deft subsets`, `adapters`, `tuned-models` and `reward-models`: list, and pull to this machine."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from cli.connect import connect
from cli.failures import REFUSED, fail
from cli.output import AsJson, print_json, print_rows, say, size_text
from deft_client import Client
from deft_client.artifacts import Artifacts

subsets = typer.Typer(help="Kept subsets with their ledger.", no_args_is_help=True)
adapters = typer.Typer(help="LoRA adapters.", no_args_is_help=True)
tuned_models = typer.Typer(help="Models whose weights were all tuned.", no_args_is_help=True)
reward_models = typer.Typer(help="Reward models.", no_args_is_help=True)

ArtifactId = Annotated[str, typer.Argument(help="An id, or `last` for the newest.")]
Folder = Annotated[Path | None, typer.Argument(help="Where to; by default a folder named by the id.")]
Limit = Annotated[int, typer.Option(min=1)]
Only = Annotated[list[str] | None, typer.Option("--only", help="Only this file; may be given several times.")]


@subsets.command("ls")
def list_subsets(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List subsets, newest first."""
    with connect() as client:
        _print_list(list(client.subsets.list(limit=limit)), ("kept", "end"), as_json)


@adapters.command("ls")
def list_adapters(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List adapters, newest first."""
    with connect() as client:
        _print_list(list(client.adapters.list(limit=limit)), ("steps", "omega"), as_json)


@tuned_models.command("ls")
def list_tuned_models(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List tuned models, newest first."""
    with connect() as client:
        _print_list(list(client.tuned_models.list(limit=limit)), ("steps", "omega"), as_json)


@reward_models.command("ls")
def list_reward_models(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List reward models, newest first."""
    with connect() as client:
        _print_list(list(client.reward_models.list(limit=limit)), ("rows", "sentence"), as_json)


@subsets.command("pull")
def pull_subset(artifact_id: ArtifactId, folder: Folder = None, only: Only = None) -> None:
    """Download a subset: kept rows and the ledger of every row, as JSONL and Parquet."""
    with connect() as client:
        _pull(client.subsets, artifact_id, folder, only)


@adapters.command("pull")
def pull_adapter(artifact_id: ArtifactId, folder: Folder = None, only: Only = None) -> None:
    """Download an adapter in the form that PEFT, vLLM and SGLang load."""
    with connect() as client:
        _pull(client.adapters, artifact_id, folder, only)


@tuned_models.command("pull")
def pull_tuned_model(artifact_id: ArtifactId, folder: Folder = None, only: Only = None) -> None:
    """Download a tuned model, a folder that transformers loads and that can be registered as a model."""
    with connect() as client:
        _pull(client.tuned_models, artifact_id, folder, only)


@reward_models.command("pull")
def pull_reward_model(artifact_id: ArtifactId, folder: Folder = None, only: Only = None) -> None:
    """Download a reward model, a sequence classifier with one label that transformers loads."""
    with connect() as client:
        _pull(client.reward_models, artifact_id, folder, only)


def _print_list(found: list[dict[str, Any]], facts: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = []
    for one in found:
        summary = one.get("summary") or {}
        known = [summary.get(fact) for fact in facts]
        rows.append((one["id"], one.get("name"), *known, size_text(one.get("bytes") or 0), one["created_at"]))
    print_rows(("id", "name", *facts, "size", "created"), rows)


def _pull(noun: Artifacts, artifact_id: str, folder: Path | None, only: list[str] | None) -> None:
    if artifact_id == "last":
        newest = next(iter(noun.list(limit=1)), None)
        if newest is None:
            fail(f"there are no {noun.noun} yet", REFUSED)
        artifact_id = newest["id"]
    target = folder or Path(artifact_id)
    with bars() as on_bytes:
        paths = noun.download(artifact_id, target, only=only, on_bytes=on_bytes)
    for path in paths:
        print(path)
    say(f"{len(paths)} files of {artifact_id} in {target}, each with the SHA-256 that the service recorded")


class bars:  # noqa: N801 - a context manager, used as a function
    """A bar for each file when stderr is a terminal, else nothing."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        self.progress.start()
        return self.advance

    def advance(self, path: str, done: int, total: int) -> None:
        """Show that *done* of *total* bytes of *path* are here."""
        if path not in self.tasks:
            self.tasks[path] = self.progress.add_task(path, total=total)
        self.progress.update(self.tasks[path], completed=done)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def newest_id(client: Client, noun: str) -> str:
    """Return the id of the newest artifact of *noun*; end with a message when there is none."""
    found = next(iter(getattr(client, noun).list(limit=1)), None)
    if found is None:
        fail(f"there are no {noun} yet", REFUSED)
    return str(found["id"])
