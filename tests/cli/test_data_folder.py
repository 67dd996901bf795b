import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli import data_folder
from deft.errors import Conflict, InvalidInput
from store import local_disk


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = data_folder.prepare(tmp_path / "a" / "data")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_network_file_system_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk, "file_system", lambda *_: "nfs4")
    with pytest.raises(InvalidInput, match=r"nfs4.*DEFT_DATABASE_URL"):
        data_folder.prepare(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_second_server_on_one_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from cli.data_folder import Lock; Lock(Path(sys.argv[1]))"
    lock = data_folder.Lock(tmp_path)
    second = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert f"process {os.getpid()}" in second.stderr
    with pytest.raises(Conflict):
        data_folder.Lock(tmp_path)
    lock.release()
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_key_and_address_are_for_this_user_alone(tmp_path: Path) -> None:
    data_folder.store_key(tmp_path, "deft_secret")
    data_folder.announce(tmp_path, "http://127.0.0.1:1")
    for name in ("api-key", "serve.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert (tmp_path / "api-key").read_text().strip() == "deft_secret"
    assert json.loads((tmp_path / "serve.json").read_text()) == {"url": "http://127.0.0.1:1", "pid": os.getpid()}
    data_folder.withdraw(tmp_path)
    data_folder.withdraw(tmp_path)
    assert not (tmp_path / "serve.json").exists()
