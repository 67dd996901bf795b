"""`deft judgings`: list what judges said of evaluations, show one."""

import textwrap
from typing import Annotated, Any

import typer

from cli.artifacts import ArtifactId, newest_id
from cli.connect import connect
from cli.output import AsJson, print_facts, print_json, print_rows

app = typer.Typer(help="What language models said of answers, and how far to trust them.", no_args_is_help=True)

LINE_WIDTH = 110


@app.command("ls")
def ls(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List judgings, newest first."""
    with connect() as client:
        found = list(client.judgings.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [(one["id"], one.get("name"), one["created_at"], one["summary"].get("sentence")) for one in found]
    print_rows(("id", "name", "created", "what the judge said"), rows)


@app.command()
def show(artifact_id: ArtifactId, as_json: AsJson = False) -> None:
    """Show one judging: the sentence, what is known of the judge, then rates with n and intervals."""
    with connect() as client:
        found = client.judgings.get(newest_id(client, "judgings") if artifact_id == "last" else artifact_id)
    if as_json:
        print_json(found)
        return
    summary: dict[str, Any] = found["summary"]
    print(textwrap.fill(summary["sentence"], LINE_WIDTH, break_long_words=False, break_on_hyphens=False))
    first, people = summary["position_bias"], summary["agreement"]
    print_facts(
        [
            ("judge", summary["judge"]),
            ("may decide", "yes" if summary["may_decide"] else "no"),
            ("prefers the first answer in", None if first is None else _interval(first)),
            ("agrees with people in", None if people is None else _interval(people)),
            ("kappa on labelled answers", None if people is None else _share(people.get("kappa"))),
            ("replies that cannot be read", summary["parse_failures"]),
            ("tokens asked and answered", f"{summary['prompt_tokens']:,} and {summary['completion_tokens']:,}"),
        ]
    )
    rows = [(row["system"], row["metric"], row["slice"], _interval(row)) for row in summary["results"]]
    print_rows(("system", "metric", "slice", "value"), rows)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _interval(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return f"-, n={row['n']}"
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:.3f}, n={row['n']}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], n={row['n']}"
