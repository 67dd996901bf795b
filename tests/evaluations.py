"""Evaluations for tests, made without a model: a dataset, a job's row, and the files that such a job writes."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.data.datasets import import_files
from deft.specs import spec_json
from deft.specs.data import Rows
from store import scores
from store.artifacts import ArtifactFiles
from store.database import Database
from store.ids import new_id
from store.tables import Job, JobInput

Json = dict[str, Any]
SYSTEMS = ("good", "bad")


@dataclass(frozen=True)
class Evaluated:
    """What was made: ids of the evaluation, its dataset, its job, and its adapters by system."""

    id: str
    dataset: str
    job: str
    adapters: dict[str, str]


def publish_dataset(database: Database, files: ArtifactFiles, team_id: str, rows: Sequence[Json]) -> str:
    staged, path = files.stage("dataset"), files.stage("upload") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = import_files([path], staged)
    with database.write() as session:
        return files.publish(session, team_id, "dataset", staged, summary).id


TRAINED_ON = [{"prompt": "A question of the training data?", "chosen": "yes", "rejected": "no"}]


def publish_adapter(
    database: Database, files: ArtifactFiles, team_id: str, key_id: str | None = None, data: str | None = None
) -> str:
    """Publish a folder that stands for an adapter, made by a train job in a pipeline that *key_id* posted.

    It was trained on all rows of *data*, or else on a row that is in no evaluation here.
    """
    data = data or publish_dataset(database, files, team_id, TRAINED_ON)
    staged = files.stage("adapter")
    (staged / "adapter_model.safetensors").write_bytes(b"weights")
    with database.write() as session:
        parent = add_job(session, team_id, "pipeline", {}, key_id=key_id)
        child = add_job(session, team_id, "train", {"rows": spec_json(Rows())}, parent_id=parent)
        session.add(_input(team_id, child, "data", data))
        return files.publish(session, team_id, "adapter", staged, {}, job=child).id


def add_job(session: Any, team_id: str, kind: str, spec: Json, **more: Any) -> str:
    job_id = new_id("job")
    session.add(Job(id=job_id, team_id=team_id, kind=kind, spec=spec, spec_hash="0", status="succeeded", **more))
    session.flush()
    return job_id


def publish_evaluation(
    database: Database,
    files: ArtifactFiles,
    team_id: str,
    *,
    rows: int = 8,
    answers: Mapping[str, Sequence[str]] | None = None,
    prompts: Sequence[Any] | None = None,
    metrics: Sequence[Json] = (),
    differences: Sequence[Json] = (),
    settings: Json | None = None,
    adapters: Mapping[str, str] | None = None,
    sources: Sequence[str] | None = None,
    sets: Sequence[Json] = (),
    asked: Sequence[Json] = (),
    write: Callable[[Path], None] | None = None,
) -> Evaluated:
    """Publish an evaluation of *adapters*; *write* writes files over those made here."""
    prompts = prompts or [f"Question {n}?" for n in range(rows)]
    data = [
        {"prompt": p, "chosen": "yes", "rejected": "no", **({"source": sources[n]} if sources else {})}
        if isinstance(p, str)
        else {"prompt": p, "chosen": say("yes"), "rejected": say("no")}
        for n, p in enumerate(prompts)
    ]
    dataset = publish_dataset(database, files, team_id, data)
    if adapters is None:
        adapters = {name: publish_adapter(database, files, team_id) for name in SYSTEMS}
    made = dict(adapters)
    answers = answers or {name: [f"{name} answer {n}" for n in range(len(prompts))] for name in made}
    staged = files.stage("evaluation")
    lines = [{"row": n, "system": s, "text": text} for s, texts in answers.items() for n, text in enumerate(texts)]
    lines += sets
    (staged / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    (staged / "generations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (staged / "metrics.json").write_text(json.dumps(list(metrics)))
    (staged / "comparison.json").write_text(json.dumps({"differences": list(differences)}))
    (staged / "evaluation.json").write_text(json.dumps({"settings": settings or {}}))
    if write is not None:
        write(staged)
    with database.write() as session:
        systems = [{"name": name, "arm": name, "adapter": made[name]} for name in made]
        spec = {"systems": systems, "rows": spec_json(Rows()), "apart_from": None}
        job = add_job(session, team_id, "evaluate", spec)
        inputs = {"dataset": dataset, **{f"adapter.{n}": made[name] for n, name in enumerate(made)}}
        session.add_all(_input(team_id, job, name, artifact_id) for name, artifact_id in inputs.items())
        row = files.publish(session, team_id, "evaluation", staged, {}, job=job)
        scores.record(session, row, files.folder(row))
    return Evaluated(row.id, dataset, job, made)


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _input(team_id: str, job: str, name: str, artifact_id: str) -> JobInput:
    return JobInput(
        job_id=job, name=name, team_id=team_id, pointer=f"/{name}", reference=artifact_id, artifact_id=artifact_id
    )


def score(system: str, metric: str, value: float, low: float, high: float, **more: Any) -> Json:
    row = {"system": system, "arm": system, "metric": metric, "slice": "all", "value": value, "low": low, "high": high}
    return {**row, "n": 100, "is_trained_on": False, "settings_hash": "h1", **more}
