"""PRO on ranked lists over HTTP, from PRO's own files to an adapter and an evaluation, with every process real."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from deft_client import Client

pytestmark = pytest.mark.flow

WORDS = ["the", "tea", "kettle", "garden", "letter", "map", "river", "never", "sorry", "yes"]


def pro_records(count: int) -> list[dict[str, Any]]:
    """Made-up lists of two to four responses in PRO's published form, with weights."""
    draw = random.Random(7)  # noqa: S311 - made-up data
    rows = []
    for number in range(count):
        size = 2 + number % 3
        prefix = [f"<|prompter|>{number} {' '.join(draw.choices(WORDS, k=4))}?", "<|assistant|>"]
        suffix = [f"{rank} {' '.join(draw.choices(WORDS, k=draw.randint(2, 8)))}" for rank in range(size)]
        reward = sorted((draw.uniform(-3, 3) for _ in range(size)), reverse=True)
        rows.append(
            {"prefix": [prefix] * size, "suffix": suffix, "reward": reward, "sft_index": 0, "weight": 1 + number % 2}
        )
    return rows


def pipeline(dataset_id: str) -> dict[str, Any]:
    return {
        "kind": "pipeline",
        "dataset": dataset_id,
        "model": "tiny-llama",
        "split": {"train": 0.7, "reward_model": 0.0, "evaluation": 0.3},
        "score_sample": 24,
        "selection": {"keep": 0.5, "by": "margin"},
        "method": {"type": "pro"},
        "arms": ["deft"],
        "optimisation": {"batch_size": 4, "learning_rate": 1e-3},
        "evaluation": {"pairs": 8, "prompts": 0, "bootstrap": 200},
    }


@pytest.mark.parametrize("client", ["embedded"], indirect=True)
def test_lists_in_pros_own_form_are_trained_on_with_pro_and_judged(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text("\n".join(map(json.dumps, pro_records(60))))
    dataset = client.datasets.upload(path)
    assert dataset["summary"]["format"] == "pro.ranked"
    assert dataset["summary"]["responses"] == {"2": 20, "3": 20, "4": 20}

    job = client.jobs.create(pipeline(dataset["id"]))
    assert job["spec"]["method"] == {"type": "pro", "sft_weight": 0.05, "rewards": "scores"}
    job = client.jobs.wait(job["id"], timeout_seconds=300)
    children = {child["name"]: client.jobs.get(child["id"]) for child in job["children"]}
    assert job["status"] == "succeeded", [(name, child["failure"]) for name, child in children.items()]

    client.subsets.download(children["select:lowest"]["artifact"]["id"], tmp_path / "subset")
    kept = pq.read_table(tmp_path / "subset" / "kept.parquet").to_pylist()
    ledger = pq.read_table(tmp_path / "subset" / "ledger.parquet").to_pylist()
    margins = {
        r["deft_source_line"]: r["deft_r_d"] - r["deft_r_d_rejected"] for r in ledger if r["deft_r_d"] is not None
    }
    assert {row["deft_source_line"] for row in kept} == set(sorted(margins, key=margins.__getitem__)[:12])
    assert all(len(row["suffix"]) == len(row["reward"]) for row in kept)

    training = client.adapters.get(children["train:deft"]["artifact"]["id"])["summary"]
    assert (training["method"], training["rewards"], training["examples"]) == ("pro", "scores", 12)
    assert training["responses"] == sum(len(row["suffix"]) for row in kept)
    assert training["rows_with_weight"] == 12
    assert training["omega"] > 0
    phases = [e["data"] for e in client.jobs.events(children["train:deft"]["id"]) if e["type"] == "phase"]
    assert phases
    assert not any("reference" in json.dumps(phase) for phase in phases)
    told = client.jobs.metrics(children["train:deft"]["id"])["data"]
    assert {"rewards/accuracies", "deft/ranking_loss", "deft/sft_loss"} <= set(told[-1]["values"])

    metrics = client.evaluations.get(job["artifact"]["id"])["metrics"]
    values = {row["metric"]: row for row in metrics if row["system"] == "deft"}
    assert {"preference_accuracy", "ranking_accuracy", "margin", "r_d_accuracy"} <= values.keys()
    assert values["preference_accuracy"]["n"] > 8
