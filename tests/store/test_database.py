import secrets
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from deft.errors import DatabaseRefused, InvalidInput, StorageFull, Unavailable
from store import accounts
from store import database as databases
from store.database import Database, alembic_config, migrate
from store.local_disk import file_system, refuse_network
from store.tables import Base, Team
from store.types import database_now


def test_the_migrations_make_exactly_the_tables(empty_database_url):
    migrate(empty_database_url)
    migrate(empty_database_url)  # a second time changes nothing
    database = Database(empty_database_url)
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        newest = max(path.name.partition("_")[0] for path in Path("migrations/versions").glob("0*.py"))
        assert set(session.scalars(text("SELECT version_num FROM alembic_version"))) == {newest}
    with database.write() as session:
        command.downgrade(alembic_config(session.connection()), "base")
    with database.read() as session:
        assert inspect(session.connection()).get_table_names() == ["alembic_version"]
    database.dispose()


def test_several_processes_may_migrate_at_once(empty_database_url):
    broken = []

    def run():
        try:
            migrate(empty_database_url)
        except BaseException as error:  # noqa: BLE001 - shown below
            broken.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    with Database(empty_database_url).read() as session:
        assert session.scalars(select(Team)).all() == []


@pytest.mark.services
def test_the_service_runs_as_a_role_without_rights(postgres_server, migrated_postgres):
    with Database(migrated_postgres).read() as session:
        row = session.execute(
            text(
                "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls "
                "FROM pg_roles WHERE rolname = current_user"
            )
        ).one()
    assert tuple(row) == (False,) * 5


def test_a_write_session_commits_on_a_clean_exit_and_only_then(database):
    with database.write() as session:
        session.add(Team(id="team_a", name="a"))
    with pytest.raises(KeyError), database.write() as session:
        session.add(Team(id="team_b", name="b"))
        session.flush()
        raise KeyError
    with database.read() as session:
        assert session.scalars(select(Team.name)).all() == ["a"]


def test_a_read_session_keeps_nothing(database):
    with pytest.raises(Unavailable) if database.is_sqlite else pytest.raises(KeyError), database.read() as session:
        session.add(Team(id="team_a", name="a"))
        session.flush()
        raise KeyError
    with database.read() as session:
        assert session.scalars(select(Team)).all() == []


def test_read_then_write_loses_no_update(database):
    with database.write() as session:
        session.add(Team(id="team_a", name="0"))

    def count():
        for _ in range(20):
            with database.write() as session:
                row = select(Team.name).where(Team.id == "team_a").with_for_update()
                number = int(session.execute(row).scalar_one())
                session.execute(update(Team).where(Team.id == "team_a").values(name=str(number + 1)))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.get(Team, "team_a").name == "80"


def test_sqlite_runs_as_measured(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    for opened in (database.write, database.read):
        with opened() as session:
            found = {
                p: session.execute(text(f"PRAGMA {p}")).scalar_one()
                for p in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
            }
        assert found == {"journal_mode": "wal", "busy_timeout": 30000, "foreign_keys": 1, "synchronous": 1}


def test_a_reader_does_not_wait_for_a_writer(database):
    with database.write() as writer:
        writer.add(Team(id="team_a", name="a"))
        writer.flush()
        with database.read() as reader:
            assert reader.scalars(select(Team)).all() == []


def test_instants_come_back_aware_in_utc_and_compare_as_instants(database):
    noon = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5)))
    with database.write() as session:
        session.add(Team(id="team_a", name="a", created_at=noon))
        session.add(Team(id="team_b", name="b"))
    with database.read() as session:
        found = session.get(Team, "team_a").created_at
        assert found == noon
        assert found.utcoffset() == timedelta(0)
        made = session.get(Team, "team_b").created_at
        assert abs(made - datetime.now(UTC)) < timedelta(seconds=60)
        assert session.scalars(select(Team.id).where(Team.created_at < database_now(-3600))).all() == ["team_a"]
        assert session.scalars(select(Team.id).where(Team.created_at > noon)).all() == ["team_b"]
        assert session.scalars(select(Team.id).where(Team.created_at > database_now(3600))).all() == []


def test_a_naive_instant_is_refused(database):
    with pytest.raises(StatementError, match="aware"), database.write() as session:
        session.add(Team(id="team_a", name="a", created_at=datetime(2026, 1, 1)))


def test_the_databases_clock_moves_within_a_transaction(database):
    with database.write() as session:
        first = database.now(session)
        while (second := database.now(session)) == first:
            pass
    assert first < second < first + timedelta(seconds=30)


def test_text_that_postgres_cannot_hold_is_replaced_not_an_error(database):
    with database.write() as session:
        session.add(Team(id="team_a", name="a\0b\ud800c😀"))
    with database.read() as session:
        assert session.get(Team, "team_a").name == "a\ufffdb\ufffdc😀"
        assert session.scalars(select(Team).where(Team.id == "\0")).all() == []


def test_numbers_that_json_lacks_are_refused(database):
    from store.tables import Artifact

    with database.write() as session:
        accounts.bootstrap(session)
    with pytest.raises((StatementError, DBAPIError, ValueError)), database.write() as session:
        team_id = accounts.bootstrap(session)[0].id
        row = {"sha256": "", "bytes": 0, "files": [], "summary": {"x": float("nan")}}
        session.add(Artifact(id="ds_x", team_id=team_id, kind="dataset", **row))


def test_a_database_that_does_not_answer_is_unavailable():
    with pytest.raises(Unavailable), Database("postgresql://nobody@127.0.0.1:1/none").read() as session:
        session.execute(text("SELECT 1"))


def test_what_the_database_will_never_take_is_no_outage(database):
    name = secrets.token_hex(8000)  # more than an index of Postgres holds, whatever it is compressed to
    with pytest.raises(DatabaseRefused) as refusal, database.write() as session:
        if database.is_sqlite:
            session.execute(text("INSERT INTO nowhere VALUES (1)"))
        session.add(Team(id="team_a", name=name))
        session.flush()
    assert ("no such table" if database.is_sqlite else "ProgramLimitExceeded") in refusal.value.message
    assert name[:20] not in refusal.value.message
    with database.read() as session:
        assert session.scalars(select(Team)).all() == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("53100", StorageFull),
        ("53300", Unavailable),
        ("54000", DatabaseRefused),
        ("55P03", Unavailable),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("57P03", Unavailable),
    ],
)
def test_postgres_says_whether_it_may_be_tried_again(state, kind):
    error = psycopg.errors.lookup(state)("the statement that failed: disk and row")
    assert isinstance(error, psycopg.OperationalError)
    assert type(databases._ours(error)) is kind


def test_a_standby_that_takes_no_writes_may_be_tried_again(database):
    if database.is_sqlite:
        return
    with pytest.raises(Unavailable, match="takes no writes"), database.write() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.add(Team(id="team_a", name="a"))
        session.flush()


def test_a_connection_that_is_lost_has_no_state():
    assert type(databases._ours(psycopg.OperationalError("server closed the connection unexpectedly"))) is Unavailable


def test_a_locked_sqlite_file_may_be_tried_again(tmp_path):
    path = tmp_path / "x.sqlite3"
    holder, other = (sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        other.execute("BEGIN IMMEDIATE")
    assert type(databases._ours(caught.value)) is Unavailable


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_other_databases_are_refused(url):
    with pytest.raises(ValueError, match=r"SQLite|must be"):
        Database(url)


def test_a_network_file_system_is_refused_naming_the_cure(tmp_path: Path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/sda rw\n23 22 0:40 / {tmp_path}/share\\040d rw shared:1 - nfs4 server:/x rw\n"
    )
    refuse_network(tmp_path / "local", mounts)
    with pytest.raises(InvalidInput, match="DEFT_DATA_FOLDER"):
        refuse_network(tmp_path / "share d" / "data", mounts)
    assert file_system(tmp_path, tmp_path / "absent") is None


def test_constraints_have_names_by_one_rule(database):
    engine = create_engine(make_url("sqlite://"))
    Base.metadata.create_all(engine)
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name is not None
