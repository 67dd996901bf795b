"""A pipeline is stored with its children, resolved against the dataset, or not at all."""

import json
from pathlib import Path

import pytest

from deft.datasets import import_files
from deft.errors import InvalidInput, NotFound
from deft.specs import PipelineSpec, Selection, SplitFractions
from store import jobs, pipelines
from store.artifacts import ArtifactFiles
from store.database import Database
from store.expansion import expand


@pytest.fixture
def pairs_id(database: Database, team_id: str, files: ArtifactFiles, tmp_path: Path) -> str:
    lines = [
        json.dumps({"prompt": f"question {n}?", "chosen": f" answer {n}", "rejected": f" no {n}"}) for n in range(60)
    ]
    source = tmp_path / "pairs.jsonl"
    source.write_text("\n".join(lines))
    staged = files.stage("dataset")
    summary = import_files([source], staged)
    with database.write() as session:
        return files.publish(session, team_id, "dataset", staged, summary).id


def spec(dataset_id: str, **fields: object) -> PipelineSpec:
    return PipelineSpec(dataset=dataset_id, model="tiny", **fields)  # type: ignore[arg-type]


def test_the_parent_says_what_every_choice_came_to(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    asked = spec(pairs_id, score_sample=40, selection=Selection(keep=0.25), random_draws=1)
    with database.write() as session:
        parent = expand(session, files, team_id, asked)
        stored, summary = parent.spec, parent.summary
        children = pipelines.children_of(session, parent.id)

    assert summary is not None
    assert (summary["examples_scored"], summary["examples_kept"]) == (40, 10)
    assert stored["selection"]["count"] == 10
    assert [child.name for child in children if child.status == "queued"] == ["score", "train:full"]
    assert {child.status for child in children if child.name not in ("score", "train:full")} == {"waiting"}
    assert model_id == children[0].model_id


def test_auto_keeps_everything_of_a_small_dataset(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    with database.write() as session:
        summary = expand(session, files, team_id, spec(pairs_id)).summary

    assert summary is not None
    assert summary["examples_kept"] == summary["examples_scored"]
    assert summary["keep_reason"]
    assert model_id


def test_without_held_out_rows_nothing_is_stored(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    asked = spec(pairs_id, split=SplitFractions(train=0.9, reward_model=0.1, evaluation=0.0))
    with pytest.raises(InvalidInput) as error, database.write() as session:
        expand(session, files, team_id, asked)

    assert error.value.findings[0].pointer == "/split/evaluation"
    with database.read() as session:
        assert jobs.page(session, team_id).items == []
    assert model_id


def test_a_dataset_of_another_team_is_not_found(
    database: Database, other_team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    with pytest.raises(NotFound) as error, database.write() as session:
        expand(session, files, other_team_id, spec(pairs_id))

    assert error.value.findings[0].pointer == "/dataset"
    assert model_id
