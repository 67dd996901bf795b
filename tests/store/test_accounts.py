import hashlib
import threading

import pytest
from sqlalchemy import select

from deft.errors import InvalidInput, NotAuthenticated, NotFound
from store import accounts
from store.tables import ApiKey, Team


def test_the_first_start_makes_one_team_and_shows_its_key_once(database):
    with database.write() as session:
        team, key = accounts.bootstrap(session)
    assert key.startswith("deft_")
    assert len(key) == 5 + 43  # 32 bytes in base64 without padding
    with database.write() as session:
        again, none = accounts.bootstrap(session)
        assert (again.id, none) == (team.id, None)
    with database.read() as session:
        assert accounts.authenticate(session, key).team_id == team.id
        (row,) = accounts.list_keys(session, team.id)
    assert row.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert row.prefix == key[:12]
    assert key not in repr([getattr(row, column) for column in ApiKey.__table__.columns.keys()])  # noqa: SIM118


def test_processes_that_start_together_make_one_team(database):
    keys = []

    def start():
        with database.write() as session:
            keys.append(accounts.bootstrap(session)[1])

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(key is not None for key in keys) == 1
    with database.read() as session:
        assert len(session.scalars(select(Team)).all()) == 1


def test_the_operators_key_is_taken_and_added_later_too(database):
    given = "deft_" + "k" * 43
    with database.write() as session:
        team, first = accounts.bootstrap(session)
        assert accounts.bootstrap(session, given) == (team, given)
        assert accounts.bootstrap(session, given) == (team, None)
        assert accounts.authenticate(session, given).team_id == team.id
        assert accounts.authenticate(session, first).team_id == team.id
        with pytest.raises(InvalidInput):
            accounts.bootstrap(session, "deft_short")


@pytest.mark.parametrize("text", ["", "deft_", "x" * 10_000, "deft_\0", "deft_\ud800", "Bearer x"])
def test_no_other_text_is_a_key(database, team_id, text):
    with pytest.raises(NotAuthenticated), database.read() as session:
        accounts.authenticate(session, text)


def test_a_key_with_the_right_prefix_and_a_wrong_rest_is_refused(database, team_id):
    with database.write() as session:
        _, key = accounts.create_key(session, team_id, "ci")
        for wrong in (key[:-1], key + "x", key[:12], key[:-1] + ("a" if key[-1] != "a" else "b")):
            with pytest.raises(NotAuthenticated):
                accounts.authenticate(session, wrong)
        accounts.authenticate(session, key)


def test_a_revoked_key_is_refused_and_only_its_team_can_revoke_it(database, team_id, other_team_id):
    with database.write() as session:
        row, key = accounts.create_key(session, team_id, "ci")
        with pytest.raises(NotFound):
            accounts.revoke_key(session, other_team_id, row.id)
        accounts.authenticate(session, key)
        accounts.revoke_key(session, team_id, row.id)
        accounts.revoke_key(session, team_id, row.id)
    with pytest.raises(NotAuthenticated), database.read() as session:
        accounts.authenticate(session, key)
