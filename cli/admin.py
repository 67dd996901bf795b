"""`deft admin`: for the operator, on the machine that reaches the database (DEFT_DATABASE_URL, DEFT_DATA_FOLDER)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import SERVER, fail
from cli.output import AsJson, print_json, print_rows, say

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from store.settings import Settings

app = typer.Typer(help="For the operator: database, keys.", no_args_is_help=True)
keys = typer.Typer(help="API keys of the first team.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@app.command()
def migrate() -> None:
    """Bring the database to this version; safe to run again, and by several at once."""
    from store import database

    database.migrate(_settings().resolved_database_url)
    say("the database is up to date")


@app.command("bootstrap-key")
def bootstrap_key() -> None:
    """Make the first team and its key, and print the key: this once, since only its hash is stored."""
    from store import accounts

    settings = _settings()
    with _writing(settings) as session:
        given = settings.bootstrap_key
        _, key = accounts.bootstrap(session, given.get_secret_value() if given else None)
    if key is None:
        say("the key was made before and cannot be shown again; make another with: deft admin keys create NAME")
    else:
        print(key)


@keys.command()
def create(name: Annotated[str, typer.Argument(help="What the key is for.")]) -> None:
    """Make a key and print it, this once."""
    from store import accounts

    with _writing(_settings()) as session:
        team, _ = accounts.bootstrap(session)
        row, key = accounts.create_key(session, team.id, name)
        say(f"{row.id}  {name}")
    print(key)


@keys.command("ls")
def list_keys(as_json: AsJson = False) -> None:
    """List keys by their first characters, revoked ones too."""
    from store import accounts

    with _writing(_settings()) as session:
        team, _ = accounts.bootstrap(session)
        found = [
            (key.id, key.name, key.prefix, str(key.created_at), str(key.revoked_at) if key.revoked_at else None)
            for key in accounts.list_keys(session, team.id)
        ]
    columns = ("id", "name", "begins_with", "created_at", "revoked_at")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in found])
    else:
        print_rows(columns, found)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="key_...")]) -> None:
    """Make a key useless from the next request on."""
    from store import accounts

    with _writing(_settings()) as session:
        team, _ = accounts.bootstrap(session)
        accounts.revoke_key(session, team.id, key_id)
    say(f"{key_id} is revoked")


def _settings() -> "Settings":
    try:
        from store.settings import Settings
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed", SERVER, "fix: pip install 'deft-service[server]'")
    return Settings()


@contextmanager
def _writing(settings: "Settings") -> Iterator["Session"]:
    from store import database

    opened = database.Database(settings.resolved_database_url)
    try:
        with opened.write() as session:
            yield session
    finally:
        opened.dispose()
