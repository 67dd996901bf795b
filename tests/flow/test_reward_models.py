"""A reward model over HTTP, from an upload to the evaluation that it judges, with every process real."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deft_client import Client
from tests.models import save_tiny_encoder

pytestmark = pytest.mark.flow


def pairs(count: int, word: str) -> str:
    rows = [
        {"prompt": f"{word} {n}?", "chosen": f"yes {n}", "rejected": f"no {n * 3}", "source": "ab"[n % 2]}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def reward_model(dataset_id: str) -> dict[str, Any]:
    fractions = {"train": 0.3, "reward_model": 0.4, "evaluation": 0.3}
    return {
        "kind": "train_reward_model",
        "dataset": dataset_id,
        "model": "tiny-encoder",
        "rows": {"split": "reward_model", "fractions": fractions},
        "tokens": {"max_prompt_tokens": 64, "max_total_tokens": 128},
        "optimisation": {"learning_rate": 3e-3, "epochs": 2},
        "bootstrap": 200,
    }


def evaluation(dataset_id: str, general_id: str, made_by: str) -> dict[str, Any]:
    return {
        "kind": "evaluate",
        "dataset": dataset_id,
        "model": "tiny-llama",
        "reward_models": [made_by],
        "general_dataset": general_id,
        "options": {"pairs": 8, "prompts": 4, "max_new_tokens": 8, "bootstrap": 200},
    }


@pytest.mark.parametrize("client", ["embedded"], indirect=True)
def test_a_reward_model_is_trained_and_judges_an_evaluation_that_waits_for_it(client: Client, tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "models" / "tiny-encoder")
    client.models.register("tiny-encoder", folder=str(folder))
    ids = []
    for name, count in (("questions", 120), ("general", 10)):
        (tmp_path / f"{name}.jsonl").write_text(pairs(count, name))
        ids.append(client.datasets.upload(tmp_path / f"{name}.jsonl")["id"])
    training = client.jobs.create(reward_model(ids[0]))
    judged = client.jobs.create(evaluation(*ids, training["id"]))
    assert judged["status"] == "waiting"
    training = client.jobs.wait(training["id"], timeout_seconds=300)
    assert training["status"] == "succeeded", training["failure"]
    judged = client.jobs.wait(judged["id"], timeout_seconds=300)
    assert judged["status"] == "succeeded", judged["failure"]

    made = client.reward_models.get(training["artifact"]["id"])
    assert made["id"].startswith("rm_")
    assert made["summary"]["held_out"]["rows"] > 0
    assert set(made["summary"]["held_out_by_source"]) == {"a", "b"}
    client.reward_models.download(made["id"], tmp_path / "pulled")
    assert (
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "pulled", check=False).returncode
        == 0
    )

    found = client.evaluations.get(judged["artifact"]["id"])
    metrics = {(row["metric"], row["slice"]): row for row in found["metrics"] if row["system"] == "base"}
    assert metrics[f"reward:{made['id']}", "all"]["n"] == 4
    assert 0 < metrics[f"reward:{made['id']}", "all"]["value"] < 100
    assert metrics["perplexity", "all"]["n"] == 10
    assert {of for metric, of in metrics if metric == "length"} == {"all", "source:a", "source:b"}
    (judge,) = judged["summary"]["reward_models"]
    assert judge["held_out_accuracy"]["value"] == made["summary"]["held_out"]["value"]
    assert f"Reward model `{made['id']}` is right in" in found["comparison"]["sentence"]
