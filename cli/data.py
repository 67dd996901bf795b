"""`deft data`: check a file here, push it, list datasets."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.connect import connect
from cli.failures import REFUSED, USAGE, explain, fail, print_findings
from cli.output import AsJson, print_facts, print_json, print_rows, say, size_text
from deft.errors import InvalidInput

app = typer.Typer(help="Preference data: check, push, list.", no_args_is_help=True)

Files = Annotated[
    list[Path], typer.Argument(exists=True, dir_okay=False, help="JSONL, JSON, CSV or Parquet; .gz, .zst.")
]
Format = Annotated[str | None, typer.Option("--format", help="Name the format instead of having it recognised.")]
Columns = Annotated[
    str | None,
    typer.Option("--map", help="Columns: prompt=question,chosen=good,rejected=bad", metavar="FIELD=COLUMN,..."),
]


def column_map(text: str | None) -> dict[str, str] | None:
    """Return `prompt=question,chosen=good` as a mapping (`source=` leaves it unread), or end with usage."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    if not all(field.strip() and mark for field, mark, _ in parts):
        fail(f"--map {text}: expected FIELD=COLUMN,..., for example prompt=question,chosen=good,rejected=bad", USAGE)
    return {field.strip(): column.strip() for field, _, column in parts}


@app.command()
def check(
    files: Files,
    file_format: Format = None,
    columns: Columns = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also duplicates, near duplicates, contradictions, length bias.")
    ] = False,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="With --deep: evaluation data that must not overlap."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="With --deep: a model's folder, to count cuts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every row here, without a server: what would be refused, where, and how to fix it."""
    options = {"format": file_format or "auto", "columns": column_map(columns), "on_bad_row": "skip"}
    with TemporaryDirectory() as scratch:
        try:
            summary = _imported(files, Path(scratch) / "dataset", options)
            if deep:
                summary["report"] = _deep_report(Path(scratch), evaluation, model, options)
        except InvalidInput as error:
            if as_json:
                print_json({"error": error.error_code, "message": error.message, "findings": _dicts(error)})
                raise typer.Exit(REFUSED) from error
            raise typer.Exit(explain(error)) from error
    rejected = int(summary.get("rejected", 0))
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)
        if deep:
            print_report(summary["report"])
        print_findings(summary.get("findings") or [], [path.name for path in files], print)
    if rejected:
        say(f"{rejected} rows would be refused; `deft data push --on-bad-row skip` leaves them out and reports them")
        raise typer.Exit(REFUSED)


def _imported(files: list[Path], out: Path, options: dict[str, Any]) -> dict[str, Any]:
    from deft.data.datasets import import_files

    return import_files(files, out, **options)


def _deep_report(
    scratch: Path, evaluation: list[Path] | None, model: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    from deft.data.check import check_dataset
    from deft.planning.tokenizer import load_planning_tokenizer

    if (scratch / "dataset" / "prompts.parquet").is_file():
        fail("--deep looks into pairs and lists; a prompt set has no responses", USAGE)
    if evaluation:
        _imported(evaluation, scratch / "evaluation", options)
    tokenizer = load_planning_tokenizer(model) if model else None
    return check_dataset(scratch / "dataset", scratch / "evaluation" if evaluation else None, tokenizer=tokenizer)


def print_report(report: dict[str, Any]) -> None:
    """Print what a data check found; the places it names are lines of the file."""
    length, cut, overlap = report["length"], report["truncation"], report["evaluation_overlap"]
    print_facts(
        [
            ("first user turns", report["first_user_turns"]),
            *((name.replace("_", " "), _rows_found(report[name])) for name in FOUND_IN_ROWS),
            ("chosen is longer / shorter", f"{length['chosen_longer']:.1%} / {length['chosen_shorter']:.1%} of pairs"),
            ("responses cut", f"{cut['share_of_responses_cut']:.1%} of {cut['rows_sampled']} rows" if cut else None),
            ("prompts cut", f"{cut['share_of_prompts_cut']:.1%}" if cut else None),
            ("overlap with evaluation", _rows_found(overlap) if overlap else None),
        ]
    )
    for warning in report["warnings"]:
        print(f"! {warning}")


FOUND_IN_ROWS = ("duplicates", "near_duplicates", "across_splits", "contradictions")


def _rows_found(found: dict[str, Any]) -> str:
    named = ", ".join(
        "=".join(map(str, place)) if isinstance(place, list) else str(place) for place in found["lines"][:5]
    )
    lines = f", lines {named}" if named else ""
    return f"{found['rows']} rows ({found['share']:.1%}){lines}"


def _dicts(error: InvalidInput) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in error.findings]


@app.command()
def push(
    files: Files,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    file_format: Format = None,
    columns: Columns = None,
    on_bad_row: Annotated[
        Literal["refuse", "skip"],
        typer.Option(help="refuse: nothing is stored; skip: bad rows are left out, on record."),
    ] = "refuse",
    as_json: AsJson = False,
) -> None:
    """Upload one file, or several as one dataset; every row is checked before this returns."""
    mapping = column_map(columns)
    with connect() as client, _upload_bar(files[0].name) as on_sent:
        dataset = client.datasets.upload(
            files if len(files) > 1 else files[0],
            name=name,
            format=file_format,
            columns=mapping,
            on_bad_row=on_bad_row,
            on_sent=on_sent,
        )
    if as_json:
        print_json(dataset)
        return
    print_facts([("dataset", dataset["id"])])
    _print_summary(dataset.get("summary") or {})
    print_findings((dataset.get("summary") or {}).get("findings") or [], [path.name for path in files])
    if (dataset.get("summary") or {}).get("format") == "labelled_answers":
        say(f'next: name it in a judge job: "mode": "safety", "labels": "{dataset["id"]}"')
    elif dataset.get("kind") == "prompt_set":
        say(f'next: name it in an evaluate or pipeline job: "prompt_sets": ["{dataset["id"]}"]')
    else:
        say(f"next: deft jobs run --dataset {dataset['id']} --model smollm2-135m --keep 0.25 --watch")


class _upload_bar:  # noqa: N801 - a context manager, used as a function
    """A bar for the upload when stderr is a terminal, else nothing."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        is_shown = sys.stderr.isatty()
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not is_shown)
        self.task = self.progress.add_task(f"uploading {name}", total=None)

    def __enter__(self) -> "_upload_bar":
        self.progress.start()
        return self

    def __call__(self, sent: int, total: int) -> None:
        words = "checking rows" if sent == total else None
        self.progress.update(self.task, completed=sent, total=total, description=words)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def _print_summary(summary: dict[str, Any]) -> None:
    splits = summary.get("splits") or {}
    print_facts(
        [
            ("format", summary.get("format")),
            ("rows", summary.get("rows")),
            ("rejected", summary.get("rejected")),
            ("splits", ", ".join(f"{split} {count}" for split, count in splits.items()) or None),
        ]
    )


@app.command("ls")
def ls(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List datasets, newest first."""
    with connect() as client:
        found = list(client.datasets.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["id"],
            one.get("name"),
            (one.get("summary") or {}).get("rows"),
            size_text(one.get("bytes") or 0),
            one["created_at"],
        )
        for one in found
    ]
    print_rows(("id", "name", "rows", "size", "created"), rows)
