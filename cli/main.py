"""`deft`: nouns, then verbs. Data goes to stdout, chatter to stderr; see `cli.failures` for the exit codes."""

import sys
from collections.abc import Sequence

import typer

from cli import admin, artifacts, data, evals, jobs, judgings, models, releases, studies
from cli.demo.command import demo
from cli.failures import HANDLED, explain
from cli.serve import serve

app = typer.Typer(
    name="deft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Align language models with DEFT. The service is found by DEFT_URL and DEFT_API_KEY, or in ./deft-data. "
    "Exit codes: 0 done, 1 a job failed, 2 usage, 3 refused input, 4 authentication, 5 server or no answer.",
)
app.command()(serve)
app.command()(demo)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(jobs.app, name="jobs")
app.add_typer(artifacts.subsets, name="subsets")
app.add_typer(artifacts.adapters, name="adapters")
app.add_typer(artifacts.tuned_models, name="tuned-models")
app.add_typer(artifacts.reward_models, name="reward-models")
app.add_typer(evals.app, name="evals")
app.add_typer(judgings.app, name="judgings")
app.add_typer(studies.app, name="studies")
app.add_typer(releases.policies, name="policies")
app.add_typer(releases.app, name="releases")
app.add_typer(admin.app, name="admin")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        app(arguments, prog_name="deft")
    except HANDLED as error:
        sys.exit(explain(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; saying so would fail as well
        sys.exit(1)


if __name__ == "__main__":
    main()
