"""A pipeline is stored with its children, resolved against the dataset, or not at all."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from deft.data.datasets import import_files
from deft.errors import InvalidInput, NotFound
from deft.specs import PipelineSpec, ProMethod, Selection, SftStage, SplitFractions
from store import jobs, pipelines
from store.artifacts import ArtifactFiles
from store.database import Database
from store.expansion import expand, resolve
from store.tables import Job

Publish = Callable[[Sequence[str]], str]


@pytest.fixture
def publish(database: Database, team_id: str, files: ArtifactFiles, tmp_path: Path) -> Publish:
    """Upload one pair for each of the prompts, as the dataset whose id is returned."""

    def publish(prompts: Sequence[str]) -> str:
        lines = [json.dumps({"prompt": p, "chosen": f" yes {p}", "rejected": f" no {p}"}) for p in prompts]
        source = tmp_path / "pairs.jsonl"
        source.write_text("\n".join(lines))
        staged = files.stage("dataset")
        summary = import_files([source], staged)
        with database.write() as session:
            return files.publish(session, team_id, "dataset", staged, summary).id

    return publish


@pytest.fixture
def pairs_id(publish: Publish) -> str:
    return publish([f"question {n}?" for n in range(60)])


def stored(session: Session, files: ArtifactFiles, team_id: str, asked: PipelineSpec) -> Job:
    return expand(session, team_id, resolve(session, files, team_id, asked), shard_rows=1000)


def spec(dataset_id: str, **fields: object) -> PipelineSpec:
    return PipelineSpec(dataset=dataset_id, model="tiny", **fields)  # type: ignore[arg-type]


def test_the_parent_says_what_every_choice_came_to(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    asked = spec(pairs_id, score_sample=40, selection=Selection(keep=0.25), random_draws=1)
    with database.write() as session:
        parent = stored(session, files, team_id, asked)
        resolved, summary = parent.spec, parent.summary
        children = pipelines.children_of(session, parent.id)

    assert summary is not None
    assert (summary["examples_scored"], summary["examples_kept"]) == (40, 10)
    assert resolved["selection"]["count"] == 10
    ready = ["check_data", "score", "train:full"]
    assert [child.name for child in children if child.status == "queued"] == ready
    assert {child.status for child in children if child.name not in ready} == {"waiting"}
    assert [child.model_id for child in children[:2]] == [None, model_id]


def test_a_large_scoring_of_a_pipeline_is_divided(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    with database.write() as session:
        resolved = resolve(session, files, team_id, spec(pairs_id, score_sample=25, random_draws=1))
        parent = expand(session, team_id, resolved, shard_rows=10)
        _, score, *others = pipelines.children_of(session, parent.id)
        shards = pipelines.children_of(session, score.id)

    assert [shard.name for shard in shards] == ["count", "shard:1", "shard:2", "shard:3", "merge"]
    assert shards[3].spec["stop"] == 25
    assert "score" not in {job.name for job in others}
    assert model_id


def test_auto_keeps_everything_of_a_small_dataset(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    with database.write() as session:
        summary = stored(session, files, team_id, spec(pairs_id)).summary

    assert summary is not None
    assert summary["examples_kept"] == summary["examples_scored"]
    assert summary["keep_reason"]
    assert model_id


@pytest.mark.parametrize(("unscored", "source"), [([], "scores"), ([3], "ranks")])
def test_where_pros_rewards_come_from_is_settled_once_for_all_arms(
    unscored: list[int],
    source: str,
    database: Database,
    team_id: str,
    files: ArtifactFiles,
    model_id: str,
    tmp_path: Path,
) -> None:
    rows = [{"prompt": f"question {n}?", "responses": ["a", "b", "c"], "scores": [2, 1, 0]} for n in range(30)]
    for number in unscored:
        rows[number].pop("scores")
    (tmp_path / "lists.jsonl").write_text("\n".join(map(json.dumps, rows)))
    staged = files.stage("dataset")
    summary = import_files([tmp_path / "lists.jsonl"], staged)
    with database.write() as session:
        dataset_id = files.publish(session, team_id, "dataset", staged, summary).id
        split = SplitFractions(train=0.9, reward_model=0.0, evaluation=0.1)
        asked = spec(dataset_id, method=ProMethod(), split=split, evaluation_dataset=None)
        parent = stored(session, files, team_id, asked)
        children = pipelines.children_of(session, parent.id)
        if unscored:
            with pytest.raises(InvalidInput) as error:
                resolve(session, files, team_id, spec(dataset_id, method=ProMethod(rewards="scores"), split=split))
            assert error.value.findings[0].pointer == "/method/rewards"

    assert parent.spec["method"]["rewards"] == source
    assert {child.spec["method"]["rewards"] for child in children if "method" in child.spec} == {source}
    assert model_id


def test_without_held_out_rows_nothing_is_stored(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    asked = spec(pairs_id, split=SplitFractions(train=0.9, reward_model=0.1, evaluation=0.0))
    with pytest.raises(InvalidInput) as error, database.write() as session:
        stored(session, files, team_id, asked)

    assert error.value.findings[0].pointer == "/split/evaluation"
    with database.read() as session:
        assert jobs.page(session, team_id).items == []
    assert model_id


def test_a_dataset_of_another_team_is_not_found(
    database: Database, other_team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    with pytest.raises(NotFound) as error, database.write() as session:
        stored(session, files, other_team_id, spec(pairs_id))

    assert error.value.findings[0].pointer == "/dataset"
    assert model_id


def test_the_same_rows_under_another_id_are_not_held_out(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str, publish: Publish
) -> None:
    asked = spec(pairs_id, evaluation_dataset=publish([f"question {n}?" for n in range(60)]))
    with pytest.raises(InvalidInput, match="same rows") as error, database.read() as session:
        resolve(session, files, team_id, asked)

    assert error.value.findings[0].pointer == "/evaluation_dataset"
    assert model_id


def test_evaluation_rows_whose_prompts_are_trained_on_are_left_out_and_counted(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str, publish: Publish
) -> None:
    # Spelt otherwise; `everything` is trained on.
    held_out = publish(["QUESTION  7?", "question 8?", *(f"something else {n}?" for n in range(5))])
    everything = SplitFractions(train=1.0, reward_model=0.0, evaluation=0.0)
    with database.write() as session:
        asked = spec(pairs_id, evaluation_dataset=held_out, split=everything)
        parent = stored(session, files, team_id, asked)
        summary = parent.summary
        evaluate = next(child for child in pipelines.children_of(session, parent.id) if child.kind == "evaluate")

    assert summary is not None
    assert (summary["examples_held_out"], summary["examples_left_out_of_evaluation"]) == (5, 2)
    assert evaluate.spec["apart_from"]["dataset"] == pairs_id
    assert model_id


def test_an_evaluation_dataset_of_trained_prompts_alone_is_refused(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str, publish: Publish
) -> None:
    everything = SplitFractions(train=1.0, reward_model=0.0, evaluation=0.0)
    asked = spec(pairs_id, evaluation_dataset=publish(["question 1?", "question 2?"]), split=everything)
    with pytest.raises(InvalidInput, match="trained on") as error, database.read() as session:
        resolve(session, files, team_id, asked)

    assert error.value.findings[0].pointer == "/evaluation_dataset"
    assert error.value.findings[0].found.startswith("2 rows")
    assert model_id


def test_an_sft_stage_comes_first_and_what_starts_from_it_waits_for_it(
    database: Database, team_id: str, files: ArtifactFiles, model_id: str, pairs_id: str
) -> None:
    asked = spec(pairs_id, sft=SftStage(sample=12), score_sample=25, random_draws=1)
    with database.write() as session:
        resolved = resolve(session, files, team_id, asked)
        parent = expand(session, team_id, resolved, shard_rows=10)
        children = {child.name: child for child in pipelines.children_of(session, parent.id)}
        shards = pipelines.children_of(session, children["score"].id)
        named = {job.name: {each.name for each in jobs.inputs(session, team_id, job.id)} for job in shards}

    assert parent.summary is not None
    assert (parent.summary["examples_of_sft"], parent.summary["examples_scored"]) == (12, 25)
    assert [name for name, child in children.items() if child.status == "queued"] == ["check_data", "sft", "score"]
    assert {shard.name: shard.status for shard in shards} == {
        "count": "queued",
        **{f"shard:{number}": "waiting" for number in (1, 2, 3)},
        "merge": "waiting",
    }
    assert [name for name, inputs in named.items() if "adapter" in inputs] == ["shard:1", "shard:2", "shard:3"]
    assert children["train:deft"].spec["adapter"] == children["sft"].id
    assert model_id
