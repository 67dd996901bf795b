"""Column types and SQL expressions of our own: UTC instants, text that every database takes, the database's clock."""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcInstant(TypeDecorator[datetime]):
    """An instant, aware and in UTC in both directions.

    Postgres: timestamptz. SQLite: text of fixed width with microseconds, so that comparing texts compares instants.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive values; turn the rest to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant must be aware of its time zone")
        instant = value.astimezone(UTC)
        return instant.replace(tzinfo=None) if dialect.name == "sqlite" else instant

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - base
        """Return the value as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Text(TypeDecorator[str]):
    """Text. What UTF-8 or Postgres cannot hold (NUL, lone surrogates) becomes U+FFFD, instead of an error later."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - base
        """Replace what cannot be stored."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Return *text* with U+FFFD for what UTF-8 or Postgres cannot hold."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class database_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, *seconds* from now: it decides leases, never the clock of a worker.

    Postgres: `clock_timestamp()` (`now()` would stand still within a transaction). SQLite: the host's clock.
    """

    type = UtcInstant()
    inherit_cache = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = float(seconds)
        super().__init__()


@compiles(database_now, "postgresql")
def _on_postgres(element: database_now, compiler: SQLCompiler, **_: object) -> str:  # noqa: ARG001 - signature of compiles
    if not element.seconds:
        return "clock_timestamp()"
    return f"(clock_timestamp() + make_interval(secs => {element.seconds!r}))"


@compiles(database_now, "sqlite")
def _on_sqlite(element: database_now, compiler: SQLCompiler, **_: object) -> str:  # noqa: ARG001 - signature of compiles
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '{element.seconds:+.3f} seconds')"
