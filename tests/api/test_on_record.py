"""Specs whose inputs show that they cannot succeed are refused alike by `/v1/plans` and `/v1/jobs`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import save_file
from sqlalchemy import select, update

from deft.models.files import config_hash, weights_hash
from deft.specs import ArtifactKind, TokenOptions
from deft.starts import adapter_hash
from store import models
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from store.tables import Artifact, Job, Model
from tests.api.conftest import jsonl, made_up_pairs
from tests.models import TINY_CONFIG, write_model_files

Body = dict[str, Any]
Publish = Callable[[ArtifactKind, Path, Body], str]
PATHS = ("/v1/plans", "/v1/jobs")


def refusal(client: TestClient, body: Body) -> tuple[str, str]:
    """Return code and pointer with which both addresses refuse *body*."""
    answers = [client.post(path, json=body) for path in PATHS]
    problems = [{**answer.json(), "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [422, 422], answers[0].text
    assert problems[0] == problems[1]
    first = problems[0]["errors"][0]
    assert first["found"], "it says what was found"
    assert first["fix"]
    return first["code"], first["pointer"]


def accepted(client: TestClient, body: Body) -> None:
    answers = [client.post(path, json=body) for path in PATHS]
    assert [answer.status_code for answer in answers] == [200, 202], [answer.text[:500] for answer in answers]


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def publish(files: ArtifactFiles, database: Database, team_id: str, tmp_path: Path) -> Publish:
    """Make an artifact of a kind from a copy of a folder, with a summary, and return its id."""

    def make(kind: ArtifactKind, folder: Path, summary: Body) -> str:
        staged = files.stage(kind)
        shutil.copytree(folder, staged, dirs_exist_ok=True)
        with database.write() as session:
            return files.publish(session, team_id, kind, staged, summary).id

    return make


@pytest.fixture
def dataset(client: TestClient) -> str:
    """100 rows, of the sources `a` and `b`, all of the aspect `kind` but every third."""
    rows = [
        {**row, "source": "ab"[number % 2], **({"aspect": "kind"} if number % 3 else {})}
        for number, row in enumerate(made_up_pairs(100))
    ]
    answer = client.put("/v1/datasets", content=jsonl(rows), params={"filename": "a.jsonl"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
def model_folder(model: str, settings: Settings) -> Path:
    return settings.model_roots[0] / model


@pytest.fixture
def scoring(dataset: str, model_folder: Path, publish: Publish, settings: Settings, tmp_path: Path) -> str:
    """A scoring of the rows of source `a`, under the bare model in float32, with the default token options."""
    folder = scoring_folder(tmp_path / "scoring", settings.artifact_folder / dataset, model_folder)
    return publish("scoring", folder, json.loads((folder / "scoring.json").read_text()))


def scoring_folder(folder: Path, dataset: Path, model: Path, **changes: Any) -> Path:
    folder.mkdir()
    shutil.copy(dataset / "examples.parquet", folder)
    rows = list(range(0, 100, 2))
    pq.write_table(pa.table({"row": pa.array(rows, pa.int64())}), folder / "scores.parquet")
    np.save(folder / "hidden.npy", np.zeros((len(rows), 2), np.float32))
    (folder / "projection.safetensors").write_bytes(b"vectors")
    write_distribution(folder)
    told = {"dtype": "float32", "rows_scored": len(rows), "aspects": {"": 34, "kind": 66}}
    hashes = {"base_weights_hash": weights_hash(model), "config_hash": config_hash(model), "adapter_hash": None}
    summary = {**told, **hashes, **changes}
    (folder / "scoring.json").write_text(json.dumps(summary))
    return folder


def write_distribution(folder: Path, *, tokenizer: str = "0" * 64, tokens: int = TINY_CONFIG["vocab_size"]) -> None:
    facts = {"options": TokenOptions().model_dump_json(), "tokenizer_sha256": tokenizer}
    save_file({"q_diff": np.zeros(tokens)}, str(folder / "distribution.safetensors"), metadata=facts)


def adapter_folder(folder: Path, base_hash: str, targets: object = ("q_proj",)) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"target_modules": targets}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    record = {"base_weights_hash": base_hash, "base": {"weights_hash": base_hash}}
    (folder / "training.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("kind", ["train", "measure_omega"])
def test_a_dataset_without_a_scoring_has_no_q_diff(
    client: TestClient, dataset: str, model: str, scoring: str, kind: str
) -> None:
    body = {"kind": kind, "data": dataset, "model": model}
    assert refusal(client, body) == ("no_distribution", "/scoring")
    accepted(client, {**body, "scoring": scoring})


def test_a_training_without_the_term_needs_no_q_diff_and_a_subset_has_its_own(
    client: TestClient, dataset: str, model: str, scoring: str
) -> None:
    body = {"kind": "train", "data": dataset, "model": model}
    accepted(client, {**body, "deft": None})
    accepted(client, {**body, "deft": {"omega": 0}})
    made_later = client.post("/v1/jobs", json={"kind": "select", "scoring": scoring}).json()["id"]
    accepted(client, {**body, "data": made_later})
    to_come = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset, "model": model}).json()["id"]
    accepted(client, {**body, "scoring": to_come})


def test_a_quota_of_a_source_that_no_scored_row_has_is_refused(client: TestClient, dataset: str, scoring: str) -> None:
    body = {"kind": "select", "scoring": scoring}
    for quota in ({"a": 0.5, "b": 0.5}, {"": 1.0}):  # all rows of `b` were left out of the scoring
        assert refusal(client, {**body, "selection": {"quota": quota}}) == ("unknown_source", "/selection/quota")
    accepted(client, {**body, "selection": {"quota": {"a": 1.0}}})
    accepted(client, {**body, "selection": {"quota": "equal"}})


def test_a_pipeline_looks_for_the_sources_of_its_quota_in_the_train_split(
    client: TestClient, dataset: str, model: str
) -> None:
    body = {"kind": "pipeline", "dataset": dataset, "model": model}
    quota = {"selection": {"quota": {"a": 0.5, "c": 0.5}}}
    assert refusal(client, {**body, **quota}) == ("unknown_source", "/selection/quota")
    accepted(client, {**body, "selection": {"quota": {"a": 0.5, "b": 0.5}}})
    accepted(client, {**body, **quota, "arms": ["full"]})


@pytest.mark.parametrize(
    ("weights", "code"), [({"kind": 1.0, "odd": 1.0}, "unknown_aspect"), ({"kind": 0.0}, "no_weight")]
)
def test_weights_that_do_not_fit_the_aspects_are_refused(
    client: TestClient, dataset: str, model: str, scoring: str, weights: Body, code: str
) -> None:
    named: list[Body] = [
        {"kind": "score", "dataset": dataset, "model": model},
        {"kind": "pipeline", "dataset": dataset, "model": model},
        {"kind": "select", "scoring": scoring},
    ]
    for body in named:
        assert refusal(client, {**body, "aspects": weights}) == (code, "/aspects")
        accepted(client, {**body, "aspects": {"kind": 1.0, "": 0.5}})


def test_rows_without_aspects_take_no_weights(client: TestClient, upload: Callable[..., Body], model: str) -> None:
    body = {"kind": "score", "dataset": upload(10)["id"], "model": model, "aspects": {"": 1.0}}
    assert refusal(client, body) == ("unknown_aspect", "/aspects")
    assert client.post("/v1/plans", json=body).json()["errors"][0]["found"] == "the empty name"


def test_a_scoring_without_states_takes_no_other_q_diff(
    client: TestClient,
    dataset: str,
    model_folder: Path,
    scoring: str,
    publish: Publish,
    settings: Settings,
    tmp_path: Path,
) -> None:
    folder = scoring_folder(tmp_path / "capped", settings.artifact_folder / dataset, model_folder)
    (folder / "hidden.npy").unlink()
    without_states = publish("scoring", folder, json.loads((folder / "scoring.json").read_text()))
    (folder / "projection.safetensors").unlink()
    capped = publish("scoring", folder, json.loads((folder / "scoring.json").read_text()))
    body = {"kind": "select", "scoring": capped}
    assert refusal(client, {**body, "distribution": scoring}) == ("not_linear", "/scoring")
    assert refusal(client, {**body, "aspects": {"kind": 1.0}}) == ("not_linear", "/scoring")
    accepted(client, body)
    body = {"kind": "select", "scoring": scoring}
    assert refusal(client, {**body, "distribution": capped}) == ("not_linear", "/distribution")
    accepted(client, {**body, "distribution": without_states})


@pytest.mark.parametrize("changes", [{"tokenizer": "1" * 64}, {"tokens": 300}])
def test_a_selection_takes_no_q_diff_of_another_tokenizer(
    client: TestClient,
    dataset: str,
    model_folder: Path,
    scoring: str,
    publish: Publish,
    settings: Settings,
    tmp_path: Path,
    changes: Body,
) -> None:
    folder = scoring_folder(tmp_path / "other", settings.artifact_folder / dataset, model_folder)
    same = publish("scoring", folder, {})
    write_distribution(folder, **changes)
    body = {"kind": "select", "scoring": scoring}
    other = {**body, "distribution": publish("scoring", folder, {})}
    assert refusal(client, other) == ("distribution_of_another_tokenizer", "/distribution")
    accepted(client, {**body, "distribution": same})


def test_no_reward_is_taken_from_a_q_diff_over_other_tokens_than_the_model_has(
    client: TestClient,
    dataset: str,
    model: str,
    model_folder: Path,
    scoring: str,
    publish: Publish,
    settings: Settings,
    tmp_path: Path,
) -> None:
    folder = scoring_folder(tmp_path / "other", settings.artifact_folder / dataset, model_folder)
    write_distribution(folder, tokens=300)
    other = publish("scoring", folder, {})
    rows, made = {"rows": {"split": "all"}}, {"model": model, "data": dataset}
    rewarded = {"options": {"metrics": ["r_d_accuracy"]}}
    bodies: list[Body] = [
        {"kind": "train", **made},
        {"kind": "measure_omega", **made},
        {"kind": "evaluate", "dataset": dataset, "model": model, "systems": [], **rows, **rewarded},
    ]
    for body in bodies:
        assert refusal(client, {**body, "scoring": other}) == ("distribution_of_another_tokenizer", "/scoring")
        accepted(client, {**body, "scoring": scoring})
    accepted(client, {**bodies[0], "scoring": other, "deft": None})
    accepted(client, {**bodies[2], "scoring": other, "options": {"metrics": ["preference_accuracy"]}})


EXTENDED: dict[str, tuple[Body, str]] = {
    "another precision": ({"precision": "bf16"}, "dtype"),
    "another quantisation": ({"quantisation": "nf4"}, "dtype"),
    "other token options": ({"tokens": {"max_total_tokens": 500}}, "options"),
}


@pytest.mark.parametrize("what", EXTENDED)
def test_a_scoring_with_other_settings_is_not_extended(
    client: TestClient, dataset: str, model: str, scoring: str, what: str
) -> None:
    fields, name = EXTENDED[what]
    body = {"kind": "score", "dataset": dataset, "model": model, "extends": scoring}
    assert refusal(client, {**body, **fields}) == ("cannot_extend", "/extends")
    assert name in client.post("/v1/plans", json={**body, **fields}).json()["errors"][0]["found"]
    for precision in ("auto", "fp32"):
        accepted(client, {**body, "precision": precision})


def test_a_scoring_without_states_or_of_another_start_is_not_extended(
    client: TestClient,
    dataset: str,
    model: str,
    model_folder: Path,
    publish: Publish,
    settings: Settings,
    tmp_path: Path,
) -> None:
    own, rows = weights_hash(model_folder), settings.artifact_folder / dataset
    body = {"kind": "score", "dataset": dataset, "model": model}
    capped = scoring_folder(tmp_path / "capped", rows, model_folder)
    (capped / "hidden.npy").unlink()
    other = scoring_folder(tmp_path / "other", rows, model_folder, base_weights_hash="f" * 64)
    resized = scoring_folder(tmp_path / "resized", rows, model_folder, config_hash="f" * 64)
    adapter = adapter_folder(tmp_path / "adapter", own)
    tuned = scoring_folder(tmp_path / "tuned", rows, model_folder, adapter_hash=adapter_hash(adapter))
    ids = {folder.name: publish("scoring", folder, {}) for folder in (capped, other, resized, tuned)}
    for name in ids:
        assert refusal(client, {**body, "extends": ids[name]}) == ("cannot_extend", "/extends"), name
    accepted(client, {**body, "extends": ids["tuned"], "adapter": publish("adapter", adapter, {})})


def test_an_adapter_of_another_base_is_refused_wherever_it_is_named(
    client: TestClient, dataset: str, model: str, model_folder: Path, scoring: str, publish: Publish, tmp_path: Path
) -> None:
    own = publish("adapter", adapter_folder(tmp_path / "own", weights_hash(model_folder)), {})
    other = publish("adapter", adapter_folder(tmp_path / "other", "f" * 64), {})
    evaluated = {"kind": "evaluate", "dataset": dataset, "rows": {"split": "all"}}
    bodies: dict[str, Callable[[str], Body]] = {
        "/adapter": lambda name: {"kind": "score", "dataset": dataset, "adapter": name},
        "/adapter ": lambda name: {"kind": "train", "data": dataset, "scoring": scoring, "adapter": name},
        "/adapter  ": lambda name: {"kind": "measure_omega", "data": dataset, "scoring": scoring, "adapter": name},
        "/adapter   ": lambda name: {"kind": "pipeline", "dataset": dataset, "adapter": name},
        "/systems/0/adapter": lambda name: {**evaluated, "systems": [{"name": "x", "arm": "x", "adapter": name}]},
    }
    for pointer, body in bodies.items():
        assert refusal(client, {**body(other), "model": model}) == ("adapter_of_another_base", pointer.strip())
        accepted(client, {**body(own), "model": model})


def test_a_model_without_a_hash_is_known_by_what_its_last_job_recorded(
    client: TestClient, dataset: str, model: str, scoring: str, publish: Publish, database: Database, tmp_path: Path
) -> None:
    adapter = publish("adapter", adapter_folder(tmp_path / "other", "f" * 64), {})
    body = {"kind": "score", "dataset": dataset, "model": model}
    with database.write() as session:
        session.execute(update(Model).values(weights_hash=None))  # as of weights that are too large to be hashed
    accepted(client, {**body, "adapter": adapter})
    job = client.post("/v1/jobs", json=body).json()["id"]
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(status="succeeded", artifact_id=scoring))
    assert refusal(client, {**body, "adapter": adapter}) == ("adapter_of_another_base", "/adapter")


def test_registering_again_tells_the_weights_as_they_are(
    model: str, model_folder: Path, database: Database, settings: Settings
) -> None:
    with database.write() as session:
        session.execute(update(Model).values(weights_hash=None))
    with database.write() as session:
        models.sync_roots(session, settings)
        assert session.scalars(select(Model.weights_hash)).one() == weights_hash(model_folder)
    write_model_files(model_folder, {"vocab_size": 300})
    with database.write() as session:
        row = models.register(session, None, model, roots=settings.model_roots, folder=model_folder)
        assert row.weights_hash == weights_hash(model_folder)


@pytest.mark.parametrize("targets", [".*q_proj", None])
def test_no_training_starts_from_an_adapter_without_a_list_of_modules(
    client: TestClient,
    dataset: str,
    model: str,
    model_folder: Path,
    scoring: str,
    publish: Publish,
    tmp_path: Path,
    targets: object,
) -> None:
    adapter = publish("adapter", adapter_folder(tmp_path / "a", weights_hash(model_folder), targets), {})
    body = {"kind": "train", "data": dataset, "scoring": scoring, "model": model, "adapter": adapter}
    assert refusal(client, body) == ("adapter_not_portable", "/adapter")
    pipeline = {"kind": "pipeline", "dataset": dataset, "model": model, "adapter": adapter}
    assert refusal(client, pipeline) == ("adapter_not_portable", "/adapter")


def test_what_has_still_to_be_made_is_not_looked_at(
    client: TestClient, dataset: str, model: str, database: Database
) -> None:
    score = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset, "model": model}).json()["id"]
    selection = {"selection": {"quota": {"nowhere": 1.0}}, "aspects": {"nowhere": 1.0}}
    accepted(client, {"kind": "select", "scoring": score, **selection})
    accepted(client, {"kind": "score", "dataset": dataset, "model": model, "extends": score, "precision": "bf16"})
    with database.read() as session:
        assert session.scalars(select(Artifact.kind).distinct()).all() == ["dataset"]
