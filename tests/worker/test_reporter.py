import math
from types import SimpleNamespace

import pytest

from deft.errors import ArtifactCorrupt, Unavailable
from store import telling
from store.claims import LeaseLost
from worker.reporter import Reporter


class Database:
    """A stand-in that can be away; a write that fails leaves nothing."""

    def __init__(self):
        self.is_away = False
        self.writes = 0

    def write(self):
        if self.is_away:
            raise Unavailable
        self.writes += 1
        return self

    def __enter__(self):
        return "session"

    def __exit__(self, *_):
        return False


@pytest.fixture
def told(monkeypatch):
    """What reached the store, in order."""
    calls = []
    for name in ("phase", "progress", "metrics", "note", "log", "checkpoint"):
        monkeypatch.setattr(telling, f"report_{name}", lambda _s, _c, *a, name=name: calls.append((name, *a)))
    return calls


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def reporter(database, tmp_path):
    return Reporter(database, SimpleNamespace(job_id="job_1"), checkpoints=tmp_path, log=lambda: "a line")


def test_a_burst_becomes_one_write_with_the_latest_progress_and_every_metric(reporter, database, told):
    for step in range(1, 101):
        reporter.take({"event": "progress", "done": step, "total": 100, "unit": "steps"})
        reporter.take({"event": "metrics", "step": step, "values": {"loss": 0.5}})
        reporter.flush_if_due()
    reporter.flush()
    assert database.writes <= 3
    assert [call for call in told if call[0] == "progress"][-1] == ("progress", 100, 100, "steps")
    assert [call[1] for call in told if call[0] == "metrics"] == list(range(1, 101))
    assert told.count(("log", "a line")) == 1


def test_what_was_gathered_waits_while_the_database_is_away(reporter, database, told):
    database.is_away = True
    reporter.take({"event": "note", "message": "kept"})
    reporter.flush_if_due()
    assert told == []
    database.is_away = False
    reporter.flush()
    assert ("note", "kept") in told


@pytest.mark.parametrize(
    "event",
    [
        {"event": "progress", "done": "1", "total": 2, "unit": "rows"},
        {"event": "progress", "done": -1, "total": 2, "unit": "rows"},
        {"event": "progress", "done": 2**70, "total": 2, "unit": "rows"},
        {"event": "progress", "done": True, "total": 2, "unit": "rows"},
        {"event": "metrics", "step": 1, "values": [1]},
        {"event": "metrics"},
        {"event": "phase", "phase": ""},
        {"event": "note", "message": None},
        {"event": "checkpoint", "step": 1, "folder": "/etc"},
        {"event": "checkpoint", "step": 1},
    ],
)
def test_events_of_the_wrong_shape_are_dropped(reporter, told, event):
    reporter.take(event)
    reporter.flush()
    assert [call for call in told if call[0] != "log"] == [] or told[0] == ("metrics", 1, {})


def test_metrics_keep_numbers_only_and_null_is_not_a_number(reporter, told):
    values = {"a": 1, "b": None, "c": "x", "d": True, "e": 10**400, "f": 0.25}
    reporter.take({"event": "metrics", "step": 3, "values": values})
    reporter.flush()
    _, step, kept = next(call for call in told if call[0] == "metrics")
    assert step == 3
    assert math.isnan(kept.pop("b"))
    assert kept == {"a": 1.0, "f": 0.25}


def test_a_checkpoint_is_recorded_and_one_that_is_gone_does_no_harm(reporter, told, tmp_path, monkeypatch):
    reporter.take({"event": "checkpoint", "step": 5, "folder": str(tmp_path / "step-5")})
    reporter.flush()
    assert ("checkpoint", 5, tmp_path / "step-5") in told

    def gone(*_):
        raise ArtifactCorrupt

    monkeypatch.setattr(telling, "report_checkpoint", gone)
    reporter.take({"event": "checkpoint", "step": 10, "folder": str(tmp_path / "step-10")})
    reporter.take({"event": "note", "message": "after"})
    reporter.flush()
    assert told[-1] == ("note", "after")


def test_a_lost_lease_is_passed_on(reporter, monkeypatch):
    def lost(*_):
        raise LeaseLost("job_1")

    monkeypatch.setattr(telling, "report_note", lost)
    reporter.take({"event": "note", "message": "x"})
    with pytest.raises(LeaseLost):
        reporter.flush_if_due()


def test_the_last_word_is_kept_and_a_failure_of_any_shape_made_whole(reporter):
    assert reporter.word is None
    reporter.take({"event": "failed", "failure": {"category": "odd", "code": 7, "findings": "no"}})
    assert reporter.word == "failed"
    assert reporter.failure() == {
        "category": "system",
        "code": "7",
        "message": "the operation failed without a message",
        "findings": [],
        "retryable": False,
    }
    reporter.begin()
    assert reporter.word is None
    reporter.take({"event": "done", "summary": ["not an object"]})
    assert reporter.summary() == {}
