"""`deft models`: list base models, register one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import connect
from cli.failures import USAGE, fail
from cli.output import AsJson, print_json, print_rows, size_text

app = typer.Typer(help="Base models.", no_args_is_help=True)


@app.command("ls")
def ls(limit: Annotated[int, typer.Option(min=1)] = 50, as_json: AsJson = False) -> None:
    """List the base models that jobs may name."""
    with connect() as client:
        found = list(client.models.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["name"], one.get("hub_id") or "a folder of the server", one.get("revision"), _size(one))
        for one in found
    ]
    print_rows(("id", "name", "source", "revision", "weights"), rows)


def _size(model: dict[str, Any]) -> str:
    count = model.get("weights_bytes")
    return size_text(count) if count else "-"


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="The name that jobs will use.")],
    folder: Annotated[Path | None, typer.Option(help="A folder on the server, below one of its model roots.")] = None,
    hub_id: Annotated[
        str | None, typer.Option("--hub-id", help="A model of the Hub, for example Qwen/Qwen2.5-0.5B")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="The commit of the Hub model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register a base model."""
    if (folder is None) == (hub_id is None):
        fail("name either --folder, or --hub-id with --revision", USAGE)
    with connect() as client:
        model = client.models.register(name, folder=folder, hub_id=hub_id, revision=revision)
    if as_json:
        print_json(model)
    else:
        print(f"{model['id']}  {model['name']}")
