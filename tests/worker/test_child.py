import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worker import child

STANDIN = Path(__file__).parent.parent / "standin.py"


@pytest.fixture
def standin(tmp_path, monkeypatch):
    monkeypatch.setenv("STANDIN_SCRATCH", str(tmp_path))
    started = []

    def start(plan: str) -> child.Child:
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps({"kind": "select", "scoring": "sc_1", "name": plan}))
        order = child.Order(spec, {}, tmp_path / "out", tmp_path / "checkpoints")
        arguments = child.command(order)
        arguments[1:3] = [str(STANDIN)]
        started.append(child.start(arguments))
        return started[-1]

    yield start
    for process in started:
        process.end()


def test_several_processes_are_asked_for_only_where_there_are_to_be_some(tmp_path):
    order = child.Order(tmp_path / "spec.json", {}, tmp_path / "out", tmp_path / "checkpoints")
    assert "--processes" not in child.command(order)
    assert child.command(order._replace(processes=4))[-2:] == ["--processes", "4"]


def test_a_cache_is_named_only_where_there_is_one(tmp_path):
    order = child.Order(tmp_path / "spec.json", {}, tmp_path / "out", tmp_path / "checkpoints")
    assert "--cache" not in child.command(order)
    assert child.command(order._replace(cache=tmp_path))[-2:] == ["--cache", str(tmp_path)]


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def collect(process: child.Child, seconds=10.0):
    events = []
    end = time.monotonic() + seconds
    while process.is_running and time.monotonic() < end:
        events += process.events(0.05)
    status = process.end()
    return status, events + process.last_events()


def test_a_child_tells_what_it_does_and_ends_with_done(standin, tmp_path):
    status, events = collect(standin("a steps=6"))
    names = [event["event"] for event in events]
    assert status == 0
    assert names[0] == "phase"
    assert names[-1] == "done"
    assert events[-1]["summary"]["steps"] == 6
    assert [e["step"] for e in events if e["event"] == "checkpoint"] == [5]
    assert (tmp_path / "out" / "result.txt").read_text() == events[-1]["summary"]["value"]


def test_an_exception_is_reported_with_its_type_and_a_traceback_on_the_log(standin):
    process = standin("a raise=2")
    status, events = collect(process)
    assert status == 1
    assert events[-1]["failure"] == {
        "category": "system",
        "code": "internal",
        "message": "RuntimeError: the stand-in was told to raise",
        "findings": [],
        "retryable": False,
    }
    assert "Traceback (most recent call last)" in process.log.text()


def test_a_child_that_is_killed_reports_nothing_and_shows_the_signal(standin):
    status, events = collect(standin("a die=2"))
    assert status == -signal.SIGKILL
    assert not {"done", "failed"} & {event["event"] for event in events}


def test_a_child_asked_to_stop_checkpoints_and_exits_75(standin):
    process = standin("a steps=500 seconds=0.02 every=1000")
    assert wait_for(lambda: any(e["event"] == "progress" for e in process.events(0.1)))
    process.ask_to_stop()
    status, events = collect(process)
    assert status == child.INTERRUPTED
    assert [e["event"] for e in events][-1] == "checkpoint"


def test_ending_a_child_ends_its_grandchild(standin, tmp_path):
    process = standin("a steps=500 seconds=0.05 grandchild=1")
    diary = tmp_path / "a.jsonl"
    assert wait_for(lambda: diary.exists() and "grandchild" in diary.read_text())
    grandchild = json.loads(diary.read_text().splitlines()[1])["grandchild"]
    assert is_alive(grandchild)
    process.end()
    assert wait_for(lambda: not is_alive(grandchild), 2)


def test_when_the_parent_is_killed_child_and_grandchild_die_within_two_seconds(tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"kind": "select", "scoring": "sc_1", "name": "a steps=900 seconds=0.1 grandchild=1"}))
    code = (
        "import time; from pathlib import Path; from worker import child;"
        f"t = Path({str(tmp_path)!r}); o = child.Order(t / 'spec.json', {{}}, t / 'out', t / 'checkpoints');"
        f"c = child.command(o); c[1:3] = [{str(STANDIN)!r}]; child.start(c); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "STANDIN_SCRATCH": str(tmp_path)})
    diary = tmp_path / "a.jsonl"
    try:
        assert wait_for(lambda: diary.exists() and "grandchild" in diary.read_text())
        entry = json.loads(diary.read_text().splitlines()[1])
        assert is_alive(entry["pid"])
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: not is_alive(entry["pid"]) and not is_alive(entry["grandchild"]), 2)


def test_a_flood_of_log_keeps_its_end_within_bounds(standin):
    process = standin("a log=3000000")
    status, _ = collect(process)
    text = process.log.text()
    assert status == 0
    assert process.log.written > 2_900_000
    assert len(text) <= child.LOG_BYTES
    assert set(text.splitlines()) == {"y" * 99}


def test_prints_of_a_library_do_not_break_the_event_stream():
    code = "import deft.__main__ as m, sys, os; s = m._claim_standard_output(); print('loose'); os.write(1, b'raw');"
    code += "s.write('{}'); s.flush()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}"
    assert "loose" in done.stderr
    assert "raw" in done.stderr


@pytest.mark.parametrize(
    "line", [b"", b"no json", b"[1]", b'{"event": "other"}', b'{"event": ["done"]}', b"[" * 100_000, b"\xff\xfe"]
)
def test_lines_that_are_no_known_event_are_ignored(line):
    assert child.parse_event(line) is None


def test_a_line_over_the_cap_is_dropped_and_the_next_one_read(monkeypatch):
    monkeypatch.setattr(child, "EVENT_BYTES", 100)
    read_end, write_end = os.pipe()
    os.write(write_end, b"a\n" + b"b" * 101 + b"\nc\n" + b"d" * 50)
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        assert list(child.whole_lines(stream)) == [b"a", b"c"]


def test_a_very_long_line_is_dropped_without_being_held(monkeypatch):
    monkeypatch.setattr(child, "EVENT_BYTES", 10)
    monkeypatch.setattr(child, "READ_BYTES", 8)
    read_end, write_end = os.pipe()
    os.write(write_end, b"a\n" + b"b" * 1000 + b"\nc\n")
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        assert list(child.whole_lines(stream)) == [b"a", b"c"]
