"""`deft evals`: list evaluations, show one."""

from typing import Annotated

import typer

from cli.artifacts import ArtifactId, newest_id
from cli.connect import connect
from cli.output import AsJson, print_json, print_rows
from cli.results import comparison_of, print_comparison

app = typer.Typer(help="Evaluations and their comparison.", no_args_is_help=True)


@app.command("ls")
def ls(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List evaluations, newest first."""
    with connect() as client:
        found = list(client.evaluations.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [(one["id"], one.get("name"), one["created_at"], comparison_of(one).get("sentence")) for one in found]
    print_rows(("id", "name", "created", "what the evidence supports"), rows)


@app.command()
def show(artifact_id: ArtifactId, as_json: AsJson = False) -> None:
    """Show one evaluation: the sentence, then arms by metrics with n and intervals."""
    with connect() as client:
        found = client.evaluations.get(newest_id(client, "evaluations") if artifact_id == "last" else artifact_id)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)
