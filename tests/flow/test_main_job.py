"""The main job, HTTP in to artifact out, with every process real and the model tiny."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from deft_client import Client

pytestmark = pytest.mark.flow

ARMS = ["deft", "no_reward_term", "random_with_term", "random"]
WORDS = [
    "the",
    "tea",
    "kettle",
    "garden",
    "letter",
    "map",
    "river",
    "answer",
    "quickly",
    "thanks",
    "never",
    "sorry",
    "yes",
]


def transcripts(count: int) -> list[dict[str, str]]:
    """Made-up dialogues in HH-RLHF's published form."""
    draw = random.Random(5)  # noqa: S311 - made-up data

    def words(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    rows = []
    for number in range(count):
        prompt = f"\n\nHuman: {number} {words(3, 9)}?\n\nAssistant:"
        rows.append({"chosen": f"{prompt} Sure, {words(2, 12)}.", "rejected": f"{prompt} {words(2, 14)}"})
    return rows


def upload(client: Client, folder: Path) -> dict[str, Any]:
    """Upload 120 good rows and two bad ones, which go on the report."""
    rows = transcripts(120)
    rows[7] = {"chosen": rows[7]["chosen"], "rejected": rows[7]["chosen"]}
    rows[9] = {**rows[9], "chosen": rows[9]["chosen"].rpartition("Assistant:")[0] + "Assistant:"}
    path = folder / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    dataset: dict[str, Any] = client.datasets.upload(path, on_bad_row="skip")
    return dataset


def pipeline(dataset_id: str) -> dict[str, Any]:
    return {
        "kind": "pipeline",
        "dataset": dataset_id,
        "model": "tiny-llama",
        "split": {"train": 0.7, "reward_model": 0.0, "evaluation": 0.3},
        "score_sample": 48,
        "selection": {"keep": 0.25},
        "arms": ARMS,
        "random_draws": 1,
        "optimisation": {"batch_size": 4, "learning_rate": 1e-3},
        "evaluation": {"pairs": 16, "prompts": 4, "max_new_tokens": 8, "bootstrap": 200},
    }


def naive_r_d(model_folder: Path, q_diff: torch.Tensor, prompt: str, response: str) -> float:
    """M4 and M5 as they are written: the whole log-softmax at each response position."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    before = tokenizer(prompt).input_ids[-384:]
    own = tokenizer(" " + response, add_special_tokens=False).input_ids[: 512 - len(before)]
    with torch.no_grad():
        logits = model(torch.tensor([before + own])).logits[0, len(before) - 1 : -1]
    return float(logits.double().log_softmax(-1).mean(0) @ q_diff)


def test_pairs_go_in_and_a_subset_adapters_and_a_comparison_come_out(client: Client, tmp_path: Path) -> None:
    dataset = upload(client, tmp_path)
    assert (dataset["summary"]["rows"], dataset["summary"]["rejected"]) == (118, 2)

    job = client.jobs.create(pipeline(dataset["id"]))
    job = client.jobs.wait(job["id"], timeout_seconds=400)
    assert job["status"] == "succeeded", failures(client, job)
    children = {child["name"]: client.jobs.get(child["id"]) for child in job["children"]}

    check_subset(client, children, tmp_path)
    check_adapter(client, children["train:deft"], tmp_path)
    check_comparison(client, job)
    check_record(client, children)
    check_reports(client, job, children)
    check_reselection(client, children, tmp_path)
    check_study(client, job["artifact"]["id"])
    check_gate(client, job["artifact"]["id"], children["train:deft"]["artifact"]["id"])


def failures(client: Client, job: dict[str, Any]) -> str:
    told = [client.jobs.get(child["id"]) for child in job["children"] if child["status"] == "failed"]
    return "\n".join(f"{one['name']}: {one['failure']}\n{client.jobs.log(one['id'])}" for one in told)


def check_subset(client: Client, children: dict[str, Any], tmp_path: Path) -> None:
    """Every row is on the ledger, R_d is what a naive script computes, and the lowest 12 of 48 were kept."""
    folder = tmp_path / "subset"
    client.subsets.download(children["select:lowest"]["artifact"]["id"], folder)
    ledger = pq.read_table(folder / "ledger.parquet").to_pylist()
    kept = [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]
    scored = sorted((row for row in ledger if row["deft_r_d"] is not None), key=lambda row: row["deft_r_d"])

    assert len(ledger) == 118
    assert len(scored) == 48
    assert {row["deft_source_line"] for row in scored[:12]} == {row["deft_source_line"] for row in kept}
    assert [row["deft_rank"] for row in scored] == list(range(1, 49))

    q_diff = load_file(folder / "distribution.safetensors")["q_diff"]
    for row in kept[:3]:
        prompt, _, response = row["chosen"].rpartition("Assistant:")
        expected = naive_r_d(tmp_path / "models" / "tiny-llama", q_diff, prompt + "Assistant:", response.strip())
        assert row["deft_r_d"] == pytest.approx(expected, abs=1e-6)


def check_adapter(client: Client, training: dict[str, Any], tmp_path: Path) -> None:
    """The adapter loads with PEFT in a fresh process and gives the logits that the worker saw."""
    folder = tmp_path / "adapter"
    client.adapters.download(training["artifact"]["id"], folder)
    base = tmp_path / "models" / "tiny-llama"
    command = [sys.executable, "-m", "deft.adapters", str(folder), "--base", str(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert str(base) not in (folder / "adapter_config.json").read_text()


def check_comparison(client: Client, job: dict[str, Any]) -> None:
    evaluation = client.evaluations.get(job["artifact"]["id"])
    measured = {(row["system"], row["metric"]) for row in evaluation["metrics"]}
    accuracy = {row["system"]: row for row in evaluation["metrics"] if row["metric"] == "preference_accuracy"}

    assert measured >= {(arm, metric) for arm in ARMS for metric in ("preference_accuracy", "margin", "kl", "length")}
    assert all(0 <= accuracy[arm]["low"] <= accuracy[arm]["value"] <= accuracy[arm]["high"] <= 1 for arm in ARMS)
    assert {accuracy[arm]["n"] for arm in ARMS} == {16}
    assert "not compared with training on everything" in evaluation["comparison"]["sentence"]
    assert evaluation["comparison"]["smallest_detectable_difference"] > 0


def check_record(client: Client, children: dict[str, Any]) -> None:
    """One omega for all arms with the term, one start for each job, its metrics and its events kept."""
    omegas = {
        name: client.adapters.get(child["artifact"]["id"])["summary"]["omega"]
        for name, child in children.items()
        if name.startswith("train:")
    }
    assert omegas["train:deft"] == omegas["train:random_with_term"] > 0
    assert not omegas["train:random"]
    for child in children.values():
        statuses = [event["data"]["status"] for event in client.jobs.events(child["id"]) if event["type"] == "status"]
        assert statuses.count("running") == 1, child["name"]
    assert client.jobs.metrics(children["train:deft"]["id"])["data"]


def check_reports(client: Client, job: dict[str, Any], children: dict[str, Any]) -> None:
    """The data was checked first, and what makes Q_diff doubtful is in the verdict."""
    assert next(iter(children)) == "check_data"
    assert client.data_reports.get(children["check_data"]["artifact"]["id"])["report"]["rows"] == 118
    discrepancy = client.scorings.get(children["score"]["artifact"]["id"])["discrepancy"]
    comparison = client.evaluations.get(job["artifact"]["id"])["comparison"]
    assert discrepancy["examples"] < 118
    assert comparison["sentences"][1 : 1 + len(discrepancy["warnings"])] == discrepancy["warnings"] != []


def check_reselection(client: Client, children: dict[str, Any], tmp_path: Path) -> None:
    """The scoring's own Q_diff, taken as another's, gives the same R_d without its model."""
    scoring = children["score"]["artifact"]["id"]
    made = client.subsets.create(scoring, {"keep": 0.25, "by": "length_adjusted"}, distribution=scoring)
    made = client.jobs.wait(made["id"], timeout_seconds=60)
    assert made["status"] == "succeeded", made["failure"]
    client.subsets.download(made["artifact"]["id"], tmp_path / "again", only=["ledger.parquet", "kept.jsonl"])
    ledgers = [pq.read_table(tmp_path / name / "ledger.parquet") for name in ("subset", "again")]
    r_d = [[value for value in ledger["deft_r_d"].to_pylist() if value is not None] for ledger in ledgers]
    assert r_d[0] == pytest.approx(r_d[1], rel=1e-6)
    assert len((tmp_path / "again" / "kept.jsonl").read_text().splitlines()) == 12


def check_study(client: Client, evaluation: str) -> None:
    """People can judge the answers that the evaluation stored."""
    study = client.studies.create({"evaluation": evaluation, "systems": ["deft", "base"], "seed": 1})
    assert study["counts"]["pairs"] + study["counts"]["identical"] == 4
    root = f"/v1/studies/{study['id']}/rating"
    item = client.exchange.json("POST", f"{root}/next")["item"]
    client.exchange.json("PUT", f"{root}/items/{item['id']}", content=lambda: {"json": {"verdict": "tie"}})
    assert client.studies.results(study["id"])["raters"][0]["judged"] == 1


def check_gate(client: Client, evaluation: str, adapter: str) -> None:
    """The gate finds the adapter's numbers, holds it for what was not measured, and knows who trained it."""
    clauses = {"gain": {"at_least": -1.0}, "forgetting": {"metric": "kl", "at_most": 100.0}, "safety": {"at_most": 0.1}}
    policy = client.policies.create({"name": "flow", **clauses})
    release = client.releases.create({"adapter": adapter, "evaluation": evaluation, "policy": policy["id"]})
    met = {(one["clause"], one["is_met"]) for one in release["clauses"]}
    assert met == {("gain", True), ("forgetting", True), ("safety", False)}
    assert release["trainer_key_id"] == client.team()["key_id"]
    (board,) = client.leaderboard("preference_accuracy")["boards"]
    assert {place["system"] for place in board["places"]} == set(ARMS)
