import time

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from deft.adapters.bases import BaseModel, base_model
from deft.errors import Unavailable
from worker import fetch

REVISION = "0" * 40


def test_a_fetched_model_appears_whole_and_holds_nothing_that_can_be_code(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(hub_id, *, revision, local_dir, allow_patterns):
        asked.update(hub_id=hub_id, revision=revision, allow_patterns=allow_patterns)
        assert not (tmp_path / "model").exists()
        (local_dir / ".cache").mkdir(parents=True)
        (local_dir / "config.json").write_text("{}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    fetch.fetch("team/model", REVISION, tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "deft-model.json"]
    assert base_model(tmp_path / "model") == BaseModel("team/model", REVISION, None)
    assert (asked["hub_id"], asked["revision"]) == ("team/model", REVISION)
    assert not any(pattern.endswith((".bin", ".py", ".pt", ".pkl", "*")) for pattern in asked["allow_patterns"][:5])


def test_a_hub_that_does_not_answer_is_said_clearly_and_leaves_no_model(tmp_path, monkeypatch):
    def snapshot_download(*_, **__):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(Unavailable, match="the Hugging Face Hub does not answer") as caught:
        fetch.fetch("team/model", REVISION, tmp_path / "model")
    assert caught.value.error_code == "hub_unavailable"
    assert not (tmp_path / "model").exists()


def test_another_worker_that_was_faster_is_no_error(tmp_path, monkeypatch):
    def snapshot_download(_hub_id, *, local_dir, **_):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text("{}")
        raise FileNotFoundError(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    fetch.fetch("team/model", REVISION, tmp_path / "model")
    assert (tmp_path / "model" / "config.json").exists()


def test_a_growing_download_is_a_sign_of_life_and_a_still_one_is_none(tmp_path, monkeypatch):
    class Report:
        told: list[int] = []  # noqa: RUF012 - of this test alone

        def progress(self, done, total, unit):
            self.told.append(done)

    monkeypatch.setattr(fetch, "WATCH_SECONDS", 0.02)
    partial = fetch.partial_folder(tmp_path / "model")
    partial.mkdir()
    fetch.Watch(partial, Report()).start()
    (partial / "a").write_bytes(b"x" * 2**21)
    time.sleep(0.3)
    (partial / "b").write_bytes(b"x" * 2**20)
    time.sleep(0.3)
    assert Report.told == [2, 3]
