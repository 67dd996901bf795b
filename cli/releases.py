"""`deft policies` and `deft releases`: the promotion gate."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import connect
from cli.failures import JOB_FAILED, REFUSED, fail
from cli.output import AsJson, print_facts, print_json, print_rows, say

policies = typer.Typer(help="Rules of the promotion gate.", no_args_is_help=True)
app = typer.Typer(help="Adapters at the promotion gate.", no_args_is_help=True)

Json = dict[str, Any]
ReleaseId = Annotated[str, typer.Argument(help="rel_...")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]


@policies.command("create")
def create_policy(
    spec_file: Annotated[Path, typer.Argument(metavar="POLICY.json", exists=True, dir_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Make a policy from a file: name, gain, forgetting, safety, approvals, expires_days."""
    try:
        spec = json.loads(spec_file.read_text(encoding="utf-8"))
    except ValueError as error:
        fail(f"{spec_file} is no JSON: {error}", REFUSED)
    with connect() as client:
        policy = client.policies.create(spec)
    if as_json:
        print_json(policy)
    else:
        print(policy["id"])


@policies.command("ls")
def list_policies(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List policies, newest first."""
    with connect() as client:
        found = list(client.policies.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (one["id"], one["name"], one["spec"]["gain"]["at_least"], one["spec"]["safety"]["at_most"]) for one in found
    ]
    print_rows(("id", "name", "gain at least", "safety at most"), rows)


@app.command()
def request(
    adapter: Annotated[str, typer.Argument(help="ad_... or tm_...")],
    evaluation: Annotated[str, typer.Option(help="ev_...")],
    policy: Annotated[str, typer.Option(help="A policy's id or name.")],
    judging: Annotated[str | None, typer.Option(help="jg_...: where the policy asks what a judge says.")] = None,
    safety_judging: Annotated[
        str | None, typer.Option(help="jg_...: where its safety clause asks for another judging.")
    ] = None,
    study: Annotated[str | None, typer.Option(help="st_...: where the policy asks what people say.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold an adapter to a policy; exit 1 where it is held."""
    named = {"judging": judging, "safety_judging": safety_judging, "study": study}
    more = {name: value for name, value in named.items() if value is not None}
    with connect() as client:
        release = client.releases.create({"adapter": adapter, "evaluation": evaluation, "policy": policy, **more})
    _show(release, as_json)
    if release["status"] != "released":
        raise typer.Exit(JOB_FAILED)


@app.command("ls")
def list_releases(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List releases, newest first."""
    with connect() as client:
        found = list(client.releases.list(limit=limit))
    if as_json:
        print_json(found)
        return
    rows = [(one["id"], one["status"], one["adapter_id"], one["policy_id"], one["expires_at"]) for one in found]
    print_rows(("id", "status", "adapter", "policy", "expires"), rows)


@app.command()
def show(release_id: ReleaseId, as_json: AsJson = False) -> None:
    """Show a release: what holds it, every clause, the record."""
    with connect() as client:
        _show(client.releases.get(release_id), as_json)


@app.command()
def approve(release_id: ReleaseId, note: Annotated[str | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """Agree to a release whose clauses are met; not with the trainer's key."""
    with connect() as client:
        _show(client.releases.approve(release_id, note), as_json)


@app.command()
def override(release_id: ReleaseId, reason: Reason, as_json: AsJson = False) -> None:
    """Release in spite of what holds it; not with the trainer's key."""
    with connect() as client:
        _show(client.releases.override(release_id, reason), as_json)


@app.command()
def recall(release_id: ReleaseId, reason: Reason, as_json: AsJson = False) -> None:
    """Take a release back; prints who has fetched the adapter, which is handed out no more."""
    with connect() as client:
        release = client.releases.recall(release_id, reason)
    if as_json:
        print_json(release)
        return
    say(f"{release_id} is {release['status']}")
    columns = ("key_id", "key_name", "path", "times", "first_at", "last_at")
    print_rows(columns, [[one[name] for name in columns] for one in release["downloads"]])


def _show(release: Json, as_json: bool) -> None:
    if as_json:
        print_json(release)
        return
    print(f"{release['id']}  {release['status']}")
    for one in release["failing"]:
        print(f"held by {one['clause']}: {one['reason']}")
    approvals = f"{len(release['approved_by'])} of {release['approvals_wanted']}"
    print_facts([("approvals", approvals), ("expires", release["expires_at"]), ("recalled", release["recalled_at"])])
    columns = ("clause", "metric", "slice", "comparison", "limit", "bound", "is_met")
    print_rows(columns, [[one[name] for name in columns] for one in release["clauses"]])
