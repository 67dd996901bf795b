"""`deft evals`: list evaluations, show one, rank adapters, compare two."""

from typing import Annotated, Any

import typer

from cli.artifacts import ArtifactId, newest_id
from cli.connect import connect
from cli.failures import USAGE, fail
from cli.output import AsJson, print_json, print_rows, say
from cli.results import comparison_of, print_comparison

app = typer.Typer(help="Evaluations and their comparison.", no_args_is_help=True)


@app.command("ls")
def ls(
    model: Annotated[str | None, typer.Option(help="Of this base model.")] = None,
    metric: Annotated[str | None, typer.Option(help="Those with this metric; its scores are printed.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List evaluations, newest first; with a metric, its scores."""
    with connect() as client:
        found = list(client.evaluations.list(limit=limit, model=model, metric=metric))
    if as_json:
        print_json(found)
    elif metric is not None:
        rows = [(one["id"], *_score(score)) for one in found for score in one["scores"]]
        print_rows(("id", "system", "value", "low", "high", "n", "settings"), rows)
    else:
        rows = [(one["id"], one.get("name"), one["created_at"], comparison_of(one).get("sentence")) for one in found]
        print_rows(("id", "name", "created", "what the evidence supports"), rows)


def _score(score: dict[str, Any]) -> tuple[Any, ...]:
    values = (score[name] for name in ("system", "value", "low", "high", "n"))
    return (*values, (score["settings_hash"] or "")[:12])


@app.command()
def leaderboard(
    metric: Annotated[str, typer.Option()] = "preference_accuracy",
    model: Annotated[str | None, typer.Option(help="Of this base model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the team's adapters by one metric, only among evaluations of like settings."""
    with connect() as client:
        found = client.leaderboard(metric, model=model)
    if as_json:
        print_json(found)
        return
    for board in found["boards"]:
        say(f"settings {board['settings_hash'][:12]}")
        rows = [
            (place["rank"], _ranks(place), place["adapter_id"], place["value"], place["low"], place["high"], place["n"])
            for place in board["places"]
        ]
        print_rows(("rank", "could be", "adapter", metric, "low", "high", "n"), rows)


def _ranks(place: dict[str, Any]) -> str:
    best, worst = place["best_rank"], place["worst_rank"]
    return "-" if best is None else str(best) if best == worst else f"{best}-{worst}"


@app.command()
def compare(
    left: Annotated[str, typer.Argument(metavar="EVALUATION:SYSTEM")],
    right: Annotated[str, typer.Argument(metavar="EVALUATION:SYSTEM")],
    left_judging: Annotated[str | None, typer.Option(help="jg_...: its numbers take part.")] = None,
    right_judging: Annotated[str | None, typer.Option(help="jg_...: its numbers take part.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where settings differ; the result is marked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two systems of two evaluations that were made alike."""
    sides = {"left": _side(left, left_judging), "right": _side(right, right_judging)}
    with connect() as client:
        found = client.comparisons.create({**sides, "force": force})
    if as_json:
        print_json(found)
        return
    if found["is_forced"]:
        say(f"forced: {', '.join(found['differing_settings'])} differ")
    rows = [
        (name, *(one[side]["value"] for side in ("left", "right")), one["difference"], one["low"], one["high"])
        for name, one in found["metrics"].items()
    ]
    print_rows(("metric", "left", "right", "difference", "low", "high"), rows)


def _side(text: str, judging: str | None) -> dict[str, str]:
    evaluation, mark, system = text.partition(":")
    if not mark:
        fail(f"{text} names no system", USAGE, "fix: write EVALUATION:SYSTEM, for example ev_...:deft")
    return {"evaluation": evaluation, "system": system, **({} if judging is None else {"judging": judging})}


@app.command()
def show(artifact_id: ArtifactId, as_json: AsJson = False) -> None:
    """Show one evaluation: the sentence, then arms by metrics with n and intervals."""
    with connect() as client:
        found = client.evaluations.get(newest_id(client, "evaluations") if artifact_id == "last" else artifact_id)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)
