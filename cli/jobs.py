"""`deft jobs`: run, plan, ls, show, wait, pause, resume, cancel, log, report."""

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cli import watch
from cli.connect import connect
from cli.failures import JOB_FAILED, REFUSED, USAGE, fail
from cli.output import AsJson, is_terminal, print_facts, print_json, print_rows, say
from cli.plans import print_plan
from cli.results import print_comparison
from deft_client import Client

app = typer.Typer(help="Jobs: run, plan, look, wait, pause, resume, cancel.", no_args_is_help=True)

Json = dict[str, Any]
JobId = Annotated[str, typer.Argument(help="job_...")]


SpecFile = Annotated[
    Path | None, typer.Argument(metavar="[SPEC.json]", exists=True, dir_okay=False, help="The body of the job.")
]
Dataset = Annotated[str | None, typer.Option(help="A dataset id: what the job works on.")]
BaseModel = Annotated[str | None, typer.Option(help="A base model's name or id.")]
Keep = Annotated[float | None, typer.Option(help="Share of the scored pairs that is kept. [default: auto]")]
ScoreSample = Annotated[int | None, typer.Option(min=1, help="Score a sample of this many pairs.")]
MethodType = Annotated[str | None, typer.Option(help="dpo, pro or sft. [default: dpo]")]
Epochs = Annotated[int | None, typer.Option(min=1)]
Arms = Annotated[str | None, typer.Option(help="Comma-separated, for example deft,random.")]
RandomDraws = Annotated[int | None, typer.Option(min=1)]
Adapter = Annotated[str | None, typer.Option(help="An adapter id: what scoring and training start from.")]
Sft = Annotated[bool, typer.Option("--sft", help="Train an adapter by SFT first, and start from that.")]


@app.command()
def run(
    spec_file: SpecFile = None,
    dataset: Dataset = None,
    model: BaseModel = None,
    keep: Keep = None,
    score_sample: ScoreSample = None,
    method: MethodType = None,
    epochs: Epochs = None,
    arms: Arms = None,
    random_draws: RandomDraws = None,
    adapter: Adapter = None,
    sft: Sft = False,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Show it until it ends; exit 1 if it fails.")] = False,
    as_json: AsJson = False,
) -> None:
    """Post a job: a file with any spec, or a pipeline by flags; flags overwrite what the file says."""
    flags: Json = {"model": model, "score_sample": score_sample, "seed": seed, "name": name}
    flags |= {"random_draws": random_draws, "arms": arms.split(",") if arms else None, "adapter": adapter}
    body = _body(spec_file, dataset, flags, keep, method, epochs, sft=sft)
    with connect() as client:
        job = client.jobs.create(body)
        say(f"{job['id']} {job['status']}")
        if follow:
            _follow(client, job["id"], as_json)
        elif as_json:
            print_json(job)
        else:
            print(job["id"])
            say(f"next: deft jobs wait {job['id']}")


@app.command()
def plan(
    spec_file: SpecFile = None,
    dataset: Dataset = None,
    model: BaseModel = None,
    keep: Keep = None,
    score_sample: ScoreSample = None,
    method: MethodType = None,
    epochs: Epochs = None,
    arms: Arms = None,
    random_draws: RandomDraws = None,
    adapter: Adapter = None,
    sft: Sft = False,
    flops_per_second: Annotated[
        float | None, typer.Option(min=1, help="What your device reaches; times for it then come first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a job would come to (rows, tokens, memory, time, wait) without posting it; flags as for run."""
    flags: Json = {"model": model, "score_sample": score_sample}
    flags |= {"random_draws": random_draws, "arms": arms.split(",") if arms else None, "adapter": adapter}
    body = _body(spec_file, dataset, flags, keep, method, epochs, sft=sft)
    with connect() as client:
        found = client.plan(body, flops_per_second=flops_per_second)
    if as_json:
        print_json(found)
    else:
        print_plan(found)


def _body(
    spec_file: Path | None,
    dataset: str | None,
    flags: Json,
    keep: float | None,
    method: str | None,
    epochs: int | None,
    *,
    sft: bool,
) -> Json:
    """Return the body that file and flags come to."""
    if not spec_file and not (dataset and flags["model"]):
        fail("a pipeline needs --dataset and --model, or name a SPEC.json", USAGE)
    body: Json = _read_spec(spec_file) if spec_file else {"kind": "pipeline"}
    data = "data" if body.get("kind") in ("train", "measure_omega") else "dataset"
    body |= {key: value for key, value in {data: dataset, **flags}.items() if value is not None}
    given = body.get("method")
    if method is not None and not (isinstance(given, dict) and given.get("type") == method):
        body["method"] = {"type": method}
    if sft and body.get("sft") is None:
        body["sft"] = {}
    if keep is not None:
        body["selection"] = {**body.get("selection", {}), "keep": keep}
    if epochs is not None:
        body["optimisation"] = {**body.get("optimisation", {}), "epochs": epochs}
    return body


def _read_spec(path: Path) -> Json:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        fail(f"{path}: not JSON: {error}", REFUSED)
    if not isinstance(body, dict):
        fail(f"{path}: found a {type(body).__name__}, expected an object", REFUSED)
    return body


@app.command("wait")
def wait(job_id: JobId, as_json: AsJson = False) -> None:
    """Show the job until it ends; exit 1 if it did not succeed."""
    with connect() as client:
        _follow(client, job_id, as_json)


def _follow(client: Client, job_id: str, as_json: bool) -> None:
    try:
        job = watch.watch(client, job_id)
    except KeyboardInterrupt:
        say(f"{job_id} goes on; look again with: deft jobs wait {job_id}; stop it with: deft jobs cancel {job_id}")
        raise typer.Exit(130) from None
    if as_json:
        print_json(job)
    if job["status"] != "succeeded":
        _end_failed(client, job)
    if not as_json:
        _print_outcome(client, job)


def _end_failed(client: Client, job: Json) -> NoReturn:
    watch.explain_failure(client, job)
    raise typer.Exit(JOB_FAILED)


def _print_outcome(client: Client, job: Json) -> None:
    artifact = job.get("artifact") or {}
    print_facts(
        [("job", job["id"]), ("status", job["status"]), (artifact.get("kind") or "artifact", artifact.get("id"))]
    )
    if artifact.get("kind") == "evaluation":
        print()
        print_comparison(client.evaluations.get(artifact["id"]))


@app.command("ls")
def ls(
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connect() as client:
        found = list(client.jobs.list(status=status, kind=kind, limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (job["id"], job.get("name"), job["kind"], job["status"], job.get("phase"), job["created_at"]) for job in found
    ]
    print_rows(("id", "name", "kind", "status", "phase", "created"), rows)


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job with its children."""
    with connect() as client:
        job = client.jobs.get(job_id)
    if as_json:
        print_json(job)
        return
    failure = job.get("failure") or {}
    print_facts(
        [
            *((key, job.get(key)) for key in ("id", "name", "kind", "status", "phase", "attempt", "waiting_reason")),
            ("queue position", job.get("queue_position")),
            ("failure", f"{failure['category']}/{failure['code']}: {failure['message']}" if failure else None),
            ("paused for", (job.get("pause") or {}).get("message")),
            ("artifact", (job.get("artifact") or {}).get("id")),
            *((key, job.get(key)) for key in ("created_at", "started_at", "finished_at", "spec_hash")),
        ]
    )
    if job.get("children"):
        rows = [(child["id"], child.get("name"), child["status"], child.get("phase")) for child in job["children"]]
        print_rows(("child", "name", "status", "phase"), rows)
    elif is_terminal():
        print(json.dumps(job.get("spec"), indent=2))


@app.command()
def log(job_id: JobId) -> None:
    """Print the last lines of a job's log."""
    with connect() as client:
        print(client.jobs.log(job_id))


@app.command()
def report(
    job_id: JobId,
    folder: Annotated[Path | None, typer.Argument(help="Where to; by default a folder named by the id.")] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="The raw numbers behind it as well, as one zip.")
    ] = False,
) -> None:
    """Download the report of a pipeline: one HTML page, and the same as JSON."""
    with connect() as client:
        for path in client.jobs.save_report(job_id, folder or Path(job_id), evidence=evidence):
            print(path)


@app.command()
def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Ask a job to pause at its next safe point; a pipeline pauses with all its jobs."""
    with connect() as client:
        _print_status(client.jobs.pause(job_id), as_json)


@app.command()
def resume(job_id: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on from its last checkpoint, accepting what it paused for."""
    with connect() as client:
        _print_status(client.jobs.resume(job_id), as_json)


@app.command()
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Ask a job to stop at its next safe point."""
    with connect() as client:
        _print_status(client.jobs.cancel(job_id), as_json)


def _print_status(job: Json, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        print(f"{job['id']}  {job['status']}")
