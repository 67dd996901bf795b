"""What the demo says at its end: the comparison, what it does not show, where things are, what to type next."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from cli.demo.flow import Results
from cli.demo.options import MODEL_NAME, DemoOptions
from cli.demo.origin import Origin
from cli.demo.server import Server
from cli.results import comparison_of, footnotes, headline, print_comparison, table

NOT_SHOWN = (
    "This shows the machinery at work (a model of 135 million parameters, a small sample), not the method at 8B: "
    "nothing here confirms or refutes the results of the paper."
)


def print_report(origin: Origin, results: Results, found: Sequence[str], took: str) -> None:
    """Print the comparison and what it stands on, to stdout."""
    print()
    print_comparison(results.evaluation)
    print()
    print(NOT_SHOWN)
    print(f"Data: {origin.label}")
    for line in found:
        print(f"Checked: {line}")
    print(f"Took {took}.")


def commands(results: Results, options: DemoOptions, deft: str, url: str, key: str, server: Server) -> list[str]:
    """Return the next commands to type."""
    dataset_id, evaluation_id = results.dataset["id"], results.evaluation["id"]
    lines = ["", "Next:"]
    if server.is_to_stay:
        lines += [
            f"  the server goes on at {url} (process {server.process.pid}; stop it with: kill {server.process.pid})",
            f"  export DEFT_URL={url} DEFT_API_KEY={key}",
        ]
    else:
        lines += [
            f"  {deft} serve --data-folder {_near(server.folder)}        # the same server again, in another terminal",
            f"  export DEFT_DATA_FOLDER={_near(server.folder)}",
        ]
    return [
        *lines,
        f"  {deft} evals show {evaluation_id}",
        f"  {deft} jobs ls",
        f"  {deft} jobs run --dataset {dataset_id} --model {MODEL_NAME} --keep 0.25 --score-sample 160 --watch",
        f"  {deft} data check {options.out}/subset/kept.jsonl",
        "  make demo DATA=your-pairs.jsonl",
    ]


def write_report(
    out: Path, origin: Origin, options: DemoOptions, results: Results, found: Sequence[str], took: str
) -> None:
    """Write `README.md` (for people) and `demo.json` (for programs) beside the downloads."""
    comparison = comparison_of(results.evaluation)
    columns, rows = table(comparison)
    lines = ["# What `deft demo` found", "", *headline(comparison), "", NOT_SHOWN, "", f"Data: {origin.label}", ""]
    lines += _markdown(columns, rows)
    lines += ["", *footnotes(comparison), "", *(f"- {line}" for line in options.lines()), ""]
    lines += [*(f"- checked: {line}" for line in found), f"- took {took}", ""]
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")
    facts = {
        "origin": origin.label,
        "is_made_up": origin.is_made_up,
        "dataset": results.dataset["id"],
        "job": results.job["id"],
        "subset": results.subset_id,
        "adapter": results.adapter_id,
        "evaluation": results.evaluation["id"],
        "spec": options.spec(results.dataset["id"]),
        "comparison": comparison,
    }
    (out / "demo.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _near(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
