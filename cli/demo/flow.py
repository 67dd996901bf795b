"""The demo's line through the service: upload, one pipeline job, comparison, downloads, checks. Knows only HTTP."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import watch
from cli.demo import checks
from cli.demo.failure import DemoFailed
from cli.demo.options import DemoOptions
from cli.demo.origin import Origin
from cli.failures import print_findings
from cli.output import duration_text, say, size_text
from deft_client import Client

Json = dict[str, Any]

NAME = "demo"
EVALUATION_FILES = ("comparison.json", "metrics.json")


@dataclass(frozen=True)
class Results:
    """What the service made of the demo's data."""

    dataset: Json
    job: Json
    subset_id: str
    adapter_id: str
    evaluation: Json


@dataclass(frozen=True)
class Checks:
    """How downloads are checked; each takes a folder and returns a line, or raises `DemoFailed`."""

    subset: Callable[[Path], str] = checks.subset
    adapter: Callable[[Path, Path], str] = checks.adapter


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say that a step begins and how long it took."""
    started_at = time.monotonic()
    say(f"== {title}")
    yield
    say(f"   ({duration_text(time.monotonic() - started_at)})")


def cancel_earlier_runs(client: Client) -> None:
    """Cancel the pipelines of demo runs that were broken off, so that they do not compete with this one."""
    for status in ("waiting", "queued", "running"):
        for job in client.jobs.list(status=status, kind="pipeline"):
            if job.get("name") == NAME:
                client.jobs.cancel(job["id"])
                say(f"   cancelled {job['id']}, left over from an earlier demo")


def upload(client: Client, origin: Origin) -> Json:
    """Upload the pairs and print what the service made of them."""
    dataset = client.datasets.upload(
        origin.files if len(origin.files) > 1 else origin.files[0], name=NAME, on_bad_row="skip"
    )
    summary = dataset.get("summary") or {}
    rows, rejected = summary.get("rows", "?"), summary.get("rejected", 0)
    say(f"   {dataset['id']}: {rows} pairs accepted, {rejected} rows rejected; format {summary.get('format', '?')}")
    if summary.get("splits"):
        say("   splits: " + ", ".join(f"{name} {count}" for name, count in summary["splits"].items()))
    if rejected:
        say("   the first rejected rows (all of them are in the dataset's rejected_rows.jsonl):")
        print_findings(
            (summary.get("findings") or [])[:3], [path.name for path in origin.files], lambda line: say(f"   {line}")
        )
    return dataset


def run_pipeline(client: Client, dataset: Json, options: DemoOptions, on_look: Callable[[], None]) -> Results:
    """Post the one job, show it until it ends, and return what it made.

    Raises:
        DemoFailed: the job did not succeed.
    """
    job = client.jobs.create(options.spec(dataset["id"]))
    say(f"   {job['id']} with {len(job.get('children') or [])} child jobs")
    try:
        job = watch.watch(client, job["id"], on_look=on_look)
    except KeyboardInterrupt:
        client.jobs.cancel(job["id"])  # or it would go on when this data folder is served again
        raise
    if job["status"] != "succeeded":
        watch.explain_failure(client, job)
        raise DemoFailed(f"the pipeline {job['id']} {job['status']}")
    return Results(
        dataset=dataset,
        job=job,
        subset_id=_made_by(client, job, "select:lowest"),
        adapter_id=_made_by(client, job, "train:deft"),
        evaluation=client.evaluations.get(job["artifact"]["id"]),
    )


def _made_by(client: Client, job: Json, child_name: str) -> str:
    for child in job.get("children") or []:
        if child.get("name") == child_name:
            artifact = client.jobs.get(child["id"]).get("artifact") or {}
            return str(artifact["id"])
    raise DemoFailed(f"the pipeline has no child job {child_name}")


def download(client: Client, results: Results, out: Path) -> None:
    """Download the kept subset with its ledger, the adapter of the arm `deft`, and the comparison."""
    paths = [
        *client.subsets.download(results.subset_id, out / "subset"),
        *client.adapters.download(results.adapter_id, out / "adapter"),
        *client.evaluations.download(results.evaluation["id"], out / "evaluation", only=EVALUATION_FILES),
    ]
    for path in paths:
        say(f"   {path}  {size_text(path.stat().st_size)}")


def check(out: Path, base: Path, how: Checks) -> list[str]:
    """Check the downloads in fresh processes and return what was found, a line each."""
    found = [f"subset: {how.subset(out / 'subset')}", f"adapter: {how.adapter(out / 'adapter', base)}"]
    for line in found:
        say(f"   {line}")
    return found
