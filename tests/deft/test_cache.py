"""What jobs keep for each other: nothing half-written or damaged is read, and what was used longest ago goes first."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from deft import cache

CONTEXT = {"base": "b"}


def kept(root: Path) -> list[bytes]:
    return list(cache.contents(cache.folder_of(root, CONTEXT)))


def filled(root: Path, content: bytes = b"numbers") -> Path:
    """Keep *content* below *root* and return its file."""
    folder = cache.folder_of(root, CONTEXT)
    cache.put(folder, content)
    (path,) = folder.iterdir()
    return path


def test_what_is_put_is_found_under_its_context_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    assert kept(tmp_path) == [b"numbers"]
    assert list(cache.contents(cache.folder_of(tmp_path, {"base": "c"}))) == []


def test_a_journal_goes_on_in_a_line_of_its_own(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "journal.jsonl"
    cache.append(journal, b"one\ntwo\n")
    journal.write_bytes(journal.read_bytes()[:-2])
    cache.append(journal, b"three\n")
    assert journal.read_bytes() == b"one\ntw\nthree\n"
    assert journal.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b""])
def test_a_damaged_file_is_not_believed_and_goes(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert kept(tmp_path) == []
    assert not path.exists()


def test_a_process_killed_while_it_writes_leaves_nothing_to_believe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(cache, "sync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        filled(tmp_path)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".tmp"]
    assert kept(tmp_path) == []


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "newest")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "f.safetensors").write_bytes(b"x" * 100)
        os.utime(folder / "f.safetensors", (number, number))
    (tmp_path / "old" / ".1-a.tmp").write_bytes(b"")
    os.utime(tmp_path / "old" / ".1-a.tmp", (0, 0))
    cache.forget_oldest(tmp_path, largest=200)
    assert sorted(path.parent.name for path in tmp_path.rglob("*") if path.is_file()) == ["new", "newest"]


def test_a_file_that_goes_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    path = filled(tmp_path)
    (path.parent / "gone.safetensors").symlink_to(tmp_path / "nothing")  # in the list of files, and not there
    (path.parent / ".1-a.tmp").symlink_to(tmp_path / "nothing")
    cache.forget_oldest(tmp_path, largest=0)
    assert not path.exists()


def test_what_is_read_counts_as_used(tmp_path: Path) -> None:
    path = filled(tmp_path)
    os.utime(path, (0, 0))
    other = tmp_path / "other" / "f.safetensors"
    other.parent.mkdir()
    other.write_bytes(b"x")
    os.utime(other, (1, 1))
    assert kept(tmp_path) == [b"numbers"]
    cache.forget_oldest(tmp_path, largest=path.stat().st_size)
    assert [path.exists(), other.exists()] == [True, False]
