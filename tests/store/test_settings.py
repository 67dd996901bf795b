from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from store.settings import Settings


def test_the_environment_is_read_when_settings_are_made(monkeypatch):
    monkeypatch.setenv("DEFT_DATA_FOLDER", "/srv/deft")
    monkeypatch.setenv("DEFT_MODEL_ROOTS", "/models:/more models")
    monkeypatch.setenv("DEFT_RESOURCE_CLASSES", "cpu")
    monkeypatch.setenv("DEFT_SLOTS", "4")
    settings = Settings()
    assert settings.data_folder == Path("/srv/deft")
    assert settings.model_roots == [Path("/models"), Path("/more models")]
    assert settings.resource_classes == ["cpu"]
    assert settings.slots == 4
    assert settings.resolved_database_url == "sqlite:////srv/deft/deft.sqlite3"
    assert settings.artifact_folder.parent == settings.staging_folder.parent == Path("/srv/deft")


def test_several_processes_of_a_training_need_all_gpus_of_the_worker():
    assert Settings(train_processes=8).train_processes == 8
    with pytest.raises(ValidationError, match="DEFT_SLOTS=1"):
        Settings(train_processes=2, slots=2)


def test_a_gpu_node_takes_the_jobs_of_gpu_one_at_a_time():
    assert Settings(resource_classes="cpu,gpu-node").job_classes == ["cpu", "gpu"]
    for other in ({"slots": 2}, {"train_processes": 2}, {"resource_classes": "gpu,gpu-node"}):
        with pytest.raises(ValidationError, match="all GPUs to one job"):
            Settings(**{"resource_classes": "gpu-node", **other})


def test_one_machine_needs_no_settings(monkeypatch):
    settings = Settings()
    assert (settings.broker_url, settings.database_url, settings.slots) == ("filesystem://", None, 1)
    assert settings.resource_classes == ["cpu", "gpu"]
    assert settings.host == "127.0.0.1"
    assert settings.data_folder == Path("deft-data").absolute()


@pytest.mark.parametrize(
    ("name", "value"), [("SLOTS", "0"), ("RESOURCE_CLASSES", "tpu"), ("MAX_BODY_BYTES", "-1"), ("LEASE_SECONDS", "0")]
)
def test_nonsense_is_refused_at_the_start(monkeypatch, name, value):
    monkeypatch.setenv(f"DEFT_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_the_bootstrap_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("DEFT_BOOTSTRAP_KEY", "deft_secret")
    assert "deft_secret" not in repr(Settings())


def test_the_page_of_settings_names_every_variable():
    page = Path("docs/settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`DEFT_{name.upper()}`" not in page] == []


def test_endpoints_come_as_json_and_their_keys_are_not_shown(monkeypatch):
    monkeypatch.setenv("DEFT_ENDPOINTS", '{"judge": {"url": "https://judge.example/v1", "key": "sk-secret"}}')
    settings = Settings()
    assert settings.endpoints["judge"].key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize("value", ['{"judge": {"url": "file:///etc/passwd"}}', '{"a b": {"url": "http://x"}}', "judge"])
def test_endpoints_that_are_none_are_refused_at_the_start(monkeypatch, value):
    monkeypatch.setenv("DEFT_ENDPOINTS", value)
    with pytest.raises((ValidationError, SettingsError)):
        Settings()
