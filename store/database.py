"""Engines and sessions: SQLite or Postgres by URL, one synchronous `Session` type, the database's clock, migrations.

It must not know what the tables mean.
"""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from sqlite3 import SQLITE_ERROR
from sqlite3 import Connection as SqliteConnection
from sqlite3 import OperationalError as SqliteOperationalError

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from deft.errors import DatabaseRefused, DeftError, StorageFull, Unavailable, shown
from store.local_disk import refuse_network
from store.types import database_now

QUEUE_LOCK = 0x64656674  # "deft": the advisory lock of Postgres that `lock_queue` takes
MIGRATION_LOCK = QUEUE_LOCK + 1
OUTAGES = ("08", "28", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE that tell of the server and its locks, not of what was asked: the same may be taken later."""

READ_ONLY = "25006"
"""SQLSTATE of a write that meets a standby, as in a failover; SQLAlchemy calls it an internal error."""

_ORDER = "deft_lock_order"
_POSTGRES = {
    "connect_timeout": 5,
    "options": "-c timezone=utc -c lock_timeout=30000 -c idle_in_transaction_session_timeout=60000",
}


class Database:
    """The database at *url*: `write()` and `read()` are the two ways in.

    SQLite: WAL; a write session takes the write lock with its first statement (BEGIN IMMEDIATE), a read session sees
    one snapshot and cannot write. Postgres: READ COMMITTED for both.
    """

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            _prepare_sqlite_file(parsed)
            self._writer = _sqlite_engine(parsed, is_writer=True)
            self._reader = _sqlite_engine(parsed, is_writer=False)
        else:
            self._writer = self._reader = _postgres_engine(parsed)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session that commits on a clean exit and rolls back on an exception; its objects stay readable.

        Raises:
            Unavailable: the database does not answer, or its locks were not to be had in time. Nothing was written,
                unless the connection was lost during the commit itself: read again before doing it twice.
            StorageFull: no space is left for the database.
            DatabaseRefused: it will never take this, for example a name that is too long for its index.
        """
        with _translated(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session for reading; it never commits.

        Raises:
            Unavailable: the database does not answer.
            DatabaseRefused: it will never answer this.
        """
        with _translated(), Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    def now(self, session: Session) -> datetime:
        """Return the time by the database's clock, in UTC."""
        return session.execute(select(database_now())).scalar_one()

    def dispose(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._reader.dispose()


def lock_queue(session: Session) -> None:
    """Let at most one transaction at a time move jobs between states; held until the transaction ends.

    On SQLite every write transaction is alone anyway. On Postgres it is an advisory lock, to be taken before any row
    of a job is written: one lock and one order, so that a finishing child, its parent and the jobs that wait for it
    cannot deadlock with a cancel or a sweep.

    Raises:
        RuntimeError: the session has written a job without it: what a worker tells and how it ends its job are two
            transactions. Said on SQLite too, where it could not deadlock.
    """
    if session.info.get(_ORDER) == "locked":
        return
    if session.info.get(_ORDER) == "written":
        raise RuntimeError("lock the queue before writing a job: use a transaction of its own")
    session.info[_ORDER] = "locked"
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": QUEUE_LOCK})


def note_job_written(session: Session) -> None:
    """Note that the session holds a lock on a job's row: `lock_queue` is then too late."""
    session.info.setdefault(_ORDER, "written")


def migrate(url: str) -> None:
    """Bring the schema of the database at *url* to this version, in one transaction; several may call it at once.

    Raises:
        Unavailable: the database does not answer.
    """
    database = Database(url)
    try:
        with _translated(), database._writer.begin() as connection:
            if not database.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            command.upgrade(alembic_config(connection), "head")
    finally:
        database.dispose()


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, made here so that migrations are found in a checkout and in a wheel alike."""
    found = importlib.util.find_spec("migrations")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("the package `migrations` is not installed")
    config = Config()
    config.set_main_option("script_location", str(next(iter(found.submodule_search_locations))).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise _ours(getattr(error, "orig", None) or error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the connection to the database was lost") from error
        if getattr(error.orig, "sqlstate", None) == READ_ONLY:
            raise Unavailable("the database takes no writes now") from error
        raise


def _ours(error: BaseException) -> DeftError:
    """Return the *error* of a driver (or the pool's) as ours.

    Drivers call both an outage and a refusal of what was asked an operational error.
    """
    state = getattr(error, "sqlstate", None)  # None: the connection is lost, or it is SQLite
    if state == "53100" or "disk is full" in str(error):
        return StorageFull("no space is left for the database")
    is_fault_of_sql = getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_ERROR
    if is_fault_of_sql or (state is not None and not state.startswith(OUTAGES)):
        first_line = str(error).partition("\n")[0]  # the others may repeat a row
        return DatabaseRefused(f"the database refuses this: {type(error).__name__}: {shown(first_line)}")
    return Unavailable("the database does not answer")


def _parsed(url: str) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ValueError("SQLite needs a file: sqlite:///path/to/deft.sqlite3")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(f"the database must be SQLite or Postgres, not {backend}")


def _postgres_engine(url: URL) -> Engine:
    return create_engine(
        url,
        connect_args=_POSTGRES,
        pool_size=8,
        max_overflow=24,
        pool_timeout=10,
        pool_pre_ping=True,
        json_serializer=_to_json,
    )


def _prepare_sqlite_file(url: URL) -> None:
    assert url.database is not None  # noqa: S101 - _parsed refuses such URLs
    folder = Path(url.database).parent
    refuse_network(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _sqlite_engine(url: URL, *, is_writer: bool) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=24, pool_timeout=30, json_serializer=_to_json)

    @event.listens_for(engine, "connect")
    def _configure(connection: SqliteConnection, _record: object) -> None:
        connection.isolation_level = None  # the driver opens no transaction of its own
        connection.execute("PRAGMA busy_timeout=30000")
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        if not is_writer:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def _use_wal(connection: SqliteConnection) -> None:
    # Changing the journal needs the file alone and does not wait for it, whatever busy_timeout says.
    for _ in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except SqliteOperationalError:
            time.sleep(0.05)
        else:
            return
    raise Unavailable("the SQLite file stayed locked by another process")


_to_json = partial(json.dumps, allow_nan=False, separators=(",", ":"))
