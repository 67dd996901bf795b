"""`deft studies`: make a blind comparison by people, invite raters, look at the results, export, make a dataset."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.artifacts import newest_id
from cli.connect import connect
from cli.failures import USAGE, fail
from cli.output import AsJson, print_facts, print_json, print_rows, say

app = typer.Typer(help="Human studies: blind comparisons of two systems.", no_args_is_help=True)

Json = dict[str, Any]
StudyId = Annotated[str, typer.Argument(help="st_..., or `last` for the newest.")]


@app.command()
def create(
    evaluation: Annotated[str, typer.Argument(help="ev_..., or `last` for the newest.")],
    first: Annotated[str, typer.Argument(help="A system of the evaluation; the win rate is its.")],
    second: Annotated[str, typer.Argument(help="The system that it is compared with.")],
    items: Annotated[int | None, typer.Option(min=1, help="Prompts that are judged. [default: 100]")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share that several raters judge. [default: 0.3]")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    guidelines: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A text file.")] = None,
    content_warning: Annotated[str | None, typer.Option(help="Said above items, which stay covered first.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a study of the stored answers of two systems."""
    text = None if guidelines is None else guidelines.read_text(encoding="utf-8")
    asked: Json = {"items": items, "overlap": overlap, "seed": seed, "guidelines": text, "name": name}
    asked |= {"content_warning": content_warning, "systems": [first, second]}
    with connect() as client:
        asked["evaluation"] = newest_id(client, "evaluations") if evaluation == "last" else evaluation
        study = client.studies.create({key: value for key, value in asked.items() if value is not None})
    if as_json:
        print_json(study)
        return
    print(study["id"])
    say(f"next: deft studies invite {study['id']} NAME")


@app.command("ls")
def ls(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List studies, newest first."""
    with connect() as client:
        found = list(client.studies.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["name"], " - ".join(one["spec"]["systems"]), _judged(one), one["created_at"]) for one in found
    ]
    print_rows(("id", "name", "systems", "judged", "created"), rows)


def _judged(study: Json) -> str:
    counts = study["counts"]
    return f"{counts['judgements']}/{counts['judgements_wanted']}"


@app.command()
def invite(study_id: StudyId, names: Annotated[list[str], typer.Argument(help="One rater each.")]) -> None:
    """Invite raters and print the address of each, this once; whoever has it can judge."""
    with connect() as client:
        study = newest_id(client, "studies") if study_id == "last" else study_id
        for name in names:
            invited = client.studies.invite(study, name)
            print(f"{invited['id']}\t{name}\t{client.url}{invited['url']}")


@app.command()
def revoke(study_id: StudyId, rater_id: Annotated[str, typer.Argument(help="rater_...")]) -> None:
    """Make a rater's address useless; what they judged stays."""
    with connect() as client:
        client.studies.revoke(newest_id(client, "studies") if study_id == "last" else study_id, rater_id)
    say(f"{rater_id} is revoked")


@app.command()
def close(study_id: StudyId) -> None:
    """End the judging."""
    with connect() as client:
        study = client.studies.close(newest_id(client, "studies") if study_id == "last" else study_id)
    say(f"{study['id']} is closed")


@app.command()
def results(study_id: StudyId, as_json: AsJson = False) -> None:
    """Show what a study has found so far."""
    with connect() as client:
        found = client.studies.results(newest_id(client, "studies") if study_id == "last" else study_id)
    if as_json:
        print_json(found)
        return
    print(found["sentence"])
    print_facts(_facts(found))
    columns = ("rater", "judged", "skipped", "failed", "of", "left out", "median s")
    names = ("rater_id", "judged", "skipped", "attention_failed", "attention_seen", "is_left_out", "median_seconds")
    print_rows(columns, [[one[name] for name in names] for one in found["raters"]])


def _facts(found: Json) -> list[tuple[str, Any]]:
    agreement, side = found["agreement"], found["first_side"]
    raters = f"over {agreement['items']} items with several raters"
    return [
        ("judged", f"{found['judged_pairs']} of {found['pairs']} pairs, {found['identical']} identical"),
        ("verdicts", ", ".join(f"{name} {count}" for name, count in found["verdicts"].items())),
        ("skipped", found["skipped"]),
        (
            "Krippendorff's alpha",
            f"{_interval(agreement, 'alpha')} {raters}" if agreement["alpha"] is not None else None,
        ),
        ("side 1 preferred", _interval(side, "value") if side["value"] is not None else None),
        ("attention failed", f"{found['attention_failed']} of {found['attention_seen']}"),
    ]


def _interval(found: Json, name: str) -> str:
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{found[name]:.3f}{interval}"


@app.command()
def export(
    study_id: StudyId,
    path: Annotated[Path, typer.Argument(help="FILE.csv (without texts) or FILE.jsonl.")],
) -> None:
    """Write every judgement to a file."""
    if path.suffix not in (".csv", ".jsonl"):
        found = f"`{path.suffix}`" if path.suffix else "no ending"
        fail(f"{path.name} has {found}, expected .csv or .jsonl", USAGE, "fix: name the file .csv or .jsonl")
    form: Literal["csv", "jsonl"] = "csv" if path.suffix == ".csv" else "jsonl"
    with connect() as client:
        study = newest_id(client, "studies") if study_id == "last" else study_id
        print(client.studies.export(study, path, form=form))


@app.command()
def dataset(
    study_id: StudyId,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    min_judgements: Annotated[int, typer.Option(min=1, help="Leave out items with fewer judgements.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a preference dataset of what most raters of each item preferred."""
    with connect() as client:
        study = newest_id(client, "studies") if study_id == "last" else study_id
        made = client.studies.make_dataset(study, name=name, min_judgements=min_judgements)
    if as_json:
        print_json(made)
        return
    print(made["id"])
    say(f"{made['summary']['rows']} rows; left out: {made['summary']['provenance']['items_left_out']}")
