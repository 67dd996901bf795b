"""Plans: everything resolved, nothing stored, refused exactly where the job would be."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from store import models
from store.database import Database
from store.settings import Settings
from store.tables import Artifact, Event, IdempotencyKey, Job, JobInput
from store.types import database_now
from tests.api.conftest import jsonl, made_up_pairs
from tests.models import byte_core, write_model_files

Upload = Callable[..., dict[str, Any]]
Body = dict[str, Any]


def ask(client: TestClient, body: Body, **params: Any) -> Body:
    answer = client.post("/v1/plans", json=body, params=params)
    assert answer.status_code == 200, answer.text
    plan: Body = answer.json()
    return plan


def contents(database: Database) -> list[int]:
    with database.read() as session:
        tables = (Job, JobInput, Event, Artifact, IdempotencyKey)
        return [session.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


def pipeline(dataset: Body, model: str, **fields: Any) -> Body:
    return {"kind": "pipeline", "dataset": dataset["id"], "model": model, **fields}


def test_a_plan_is_the_job_that_would_be_made_and_stores_nothing(
    client: TestClient, upload: Upload, model: str, database: Database
) -> None:
    body = pipeline(upload(60), model, random_draws=2)
    before = contents(database)
    plan = ask(client, body)
    assert contents(database) == before
    job = client.post("/v1/jobs", json=body).json()
    assert (plan["spec"], plan["spec_hash"]) == (job["spec"], job["spec_hash"])
    summary = job["summary"]
    data = plan["data"]
    assert (data["rows_scored"], data["rows_kept"]) == (summary["examples_scored"], summary["examples_kept"])
    assert data["keep_reason"] == summary["keep_reason"]
    assert data["rows_held_out"] == summary["examples_held_out"]
    assert plan["arms"] == summary["arms"]
    children = [child["name"] for child in job["children"]]
    assert [work["name"] for work in plan["work"]] == children


def test_every_number_is_there_with_its_basis(client: TestClient, upload: Upload, model: str) -> None:
    plan = ask(client, pipeline(upload(60), model), flops_per_second=1e12)
    assert plan["model"]["basis"] == "counted"
    assert plan["model"]["trainable_parameters"] == 2 * 16 * (4 * 32 + 2 * 32 + 2 * 16 + 3 * (32 + 64))
    assert plan["lengths"]["basis"] == "counted"
    assert plan["lengths"]["rows_sampled"] == plan["data"]["rows_scored"]
    assert {memory["operation"] for memory in plan["memory"]} == {"score", "train", "evaluate"}
    for memory in plan["memory"]:
        parts = ("weights_bytes", "adapter_bytes", "pass_bytes", "logits_bytes", "cache_bytes")
        assert memory["peak_bytes"] == sum(memory[part] for part in parts)
        assert [card["card_gib"] for card in memory["cards"]] == [80, 24, 16, 12]
        assert all(card["fits"] for card in memory["cards"])
    first = plan["speed"][0]
    assert (first["device"], first["basis"], first["forward_flops_per_second"]) == ("given", "given", 1e12)
    assert {speed["basis"] for speed in plan["speed"][1:]} == {"assumed"}
    for speed in plan["speed"]:
        assert speed["total_seconds"] == pytest.approx(sum(speed["work_seconds"].values()), abs=0.2)
        assert list(speed["work_seconds"]) == [work["name"] for work in plan["work"]]
    train = next(work for work in plan["work"] if work["name"] == "train:deft")
    assert (train["rows"], train["steps"]) == (plan["data"]["rows_kept"], -(-plan["data"]["rows_kept"] // 8))
    assert plan["queue"] == {"basis": "measured", "jobs_running": 0, "jobs_queued_before": 0, "wait_seconds": 0.0}
    detectable = plan["detectable"]
    assert detectable["prompts"] == plan["data"]["prompts_held_out"]
    assert 0 < detectable["difference_if_arms_mostly_agree"] < detectable["difference"] < 1
    codes = {remark["code"]: remark["pointer"] for remark in plan["remarks"]}
    assert codes == {"keeps_everything": "/selection/keep", "evaluation_too_small": None}
    fewer = ask(client, pipeline(upload(61), model, selection={"keep": 0.5}))
    assert "keeps_everything" not in [remark["code"] for remark in fewer["remarks"]]
    assert fewer["data"]["keep_reason"].startswith("0.5 of ")


def test_a_plan_of_all_weights_says_what_each_of_several_processes_needs(
    client: TestClient, upload: Upload, model: str
) -> None:
    plan = ask(client, pipeline(upload(60), model, lora=None))
    assert plan["model"]["trainable_parameters"] == plan["model"]["parameters"]
    needs = {memory["operation"]: memory for memory in plan["memory"]}
    train = needs["train"]
    assert train["weights_bytes"] + train["tuned_bytes"] == 18 * plan["model"]["parameters"]
    parts = ("weights_bytes", "tuned_bytes", "pass_bytes", "logits_bytes")
    assert (train["adapter_bytes"], train["peak_bytes"]) == (0, sum(train[part] for part in parts))
    peaks = [each["peak_bytes"] for each in train["sharded"]]
    assert [each["processes"] for each in train["sharded"]] == [2, 4, 8]
    assert peaks == sorted(peaks, reverse=True)
    assert needs["evaluate"]["adapter_bytes"] == 2 * plan["model"]["parameters"], "a tuned model stands beside the base"
    assert needs["score"]["sharded"] == []


def spoil_tokenizer(folder: Path) -> None:
    core = byte_core()
    core.add_tokens([f"more {n}" for n in range(5)])
    core.save(str(folder / "tokenizer.json"))


def spoil_config(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return spoil


def nothing(_folder: Path) -> None:
    return None


REFUSED: dict[str, tuple[Callable[[Path], None], Body, str, str]] = {
    "a tokenizer larger than the embedding": (spoil_tokenizer, {}, "tokenizer_of_another_model", "/model"),
    "a tokenizer far smaller than the embedding": (
        spoil_config(vocab_size=1100),
        {},
        "tokenizer_of_another_model",
        "/model",
    ),
    "an unknown head": (spoil_config(logits_mup_width_multiplier=4.0), {}, "unknown_head", "/model"),
    "an encoder": (spoil_config(architectures=["BertForMaskedLM"]), {}, "not_causal", "/model"),
    "code of its own": (spoil_config(auto_map={"AutoModel": "x.Y"}), {}, "model_not_usable", "/model"),
    "caps beyond the context": (
        nothing,
        {"tokens": {"max_prompt_tokens": 1000, "max_total_tokens": 1025}},
        "context_too_short",
        "/tokens/max_total_tokens",
    ),
    "answers beyond the context": (
        nothing,
        {"evaluation": {"max_new_tokens": 1020}},
        "context_too_short",
        "/evaluation/max_new_tokens",
    ),
    "modules that the model does not have": (
        nothing,
        {"lora": {"target_modules": ["c_attn"]}},
        "unknown_target_module",
        "/lora/target_modules",
    ),
    "chosen metrics of answers where no held-out prompt is answered": (
        nothing,
        {"evaluation": {"metrics": ["margin", "kl"], "prompts": 0}},
        "nothing_to_measure",
        "/evaluation/metrics/1",
    ),
    "a chosen metric without what it is measured with": (
        nothing,
        {"evaluation": {"metrics": ["reward"]}},
        "nothing_to_measure",
        "/evaluation/metrics/0",
    ),
    "a ranking accuracy that is chosen where no list is held out": (
        nothing,
        {"evaluation": {"metrics": ["ranking_accuracy"]}},
        "nothing_to_measure",
        "/evaluation/metrics/0",
    ),
    "metrics beside references where no held-out prompt is answered": (
        nothing,
        {"evaluation": {"metrics": ["margin", "bleu"], "prompts": 0}},
        "missing_references",
        "/evaluation/metrics/1",
    ),
    "an empty split": (
        nothing,
        {"split": {"train": 1.0, "reward_model": 0.0, "evaluation": 0.0}},
        "empty_split",
        "/split/evaluation",
    ),
    "scores that rows do not have": (
        nothing,
        {"method": {"type": "pro", "rewards": "scores"}},
        "no_scores",
        "/method/rewards",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_jobs_and_plans_are_refused_alike_before_anything_is_queued(
    client: TestClient, upload: Upload, model: str, settings: Settings, database: Database, what: str
) -> None:
    spoil, fields, code, pointer = REFUSED[what]
    body = pipeline(upload(60), model, **fields)
    spoil(settings.model_roots[0] / "tiny")
    before = contents(database)
    answers = [client.post(path, json=body) for path in ("/v1/plans", "/v1/jobs")]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["errors"][0]["code"], problem["errors"][0]["pointer"]) == (code, pointer)
        assert problem["errors"][0]["fix"]
    assert contents(database) == before


@pytest.mark.parametrize("body", [{}, {"kind": "no"}, {"kind": "score", "dataset": "ds_none", "model": "tiny"}])
def test_what_is_no_job_is_no_plan(client: TestClient, model: str, body: Body) -> None:
    job, plan = (client.post(path, json=body).json() for path in ("/v1/jobs", "/v1/plans"))
    assert {**job, "request_id": ""} == {**plan, "request_id": ""}
    assert plan["status"] in (404, 422)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e99", "fast"])
def test_a_throughput_that_is_none_is_refused(client: TestClient, upload: Upload, model: str, value: str) -> None:
    answer = client.post("/v1/plans", json=pipeline(upload(), model), params={"flops_per_second": value})
    assert (answer.status_code, answer.json()["errors"][0]["column"]) == (422, "flops_per_second")


def messages(count: int) -> list[Body]:
    return [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in made_up_pairs(count)]


def test_messages_need_a_chat_template(client: TestClient, model: str, settings: Settings) -> None:
    answer = client.put("/v1/datasets", content=jsonl(messages(60)), params={"filename": "a.jsonl"})
    body = pipeline(answer.json(), model)
    plan = ask(client, body)
    assert plan["lengths"]["is_template_approximate"]
    assert "template_approximate" in [remark["code"] for remark in plan["remarks"]]
    write_model_files(settings.model_roots[0] / "tiny", has_chat_template=False)
    refused = client.post("/v1/jobs", json=body)
    finding = refused.json()["errors"][0]
    assert (refused.status_code, finding["code"]) == (422, "no_chat_template")
    assert (finding["pointer"], finding["line"] > 0) == ("/dataset", True)


def test_what_is_cut_is_said(client: TestClient, upload: Upload, model: str) -> None:
    tokens = {"max_prompt_tokens": 10, "max_total_tokens": 20}
    plan = ask(client, {"kind": "score", "dataset": upload(30)["id"], "model": model, "tokens": tokens})
    remarks = {remark["code"]: remark["pointer"] for remark in plan["remarks"]}
    assert remarks["prompts_cut"] == "/tokens/max_prompt_tokens"
    assert remarks["responses_cut"] == "/tokens/max_total_tokens"
    assert plan["lengths"]["share_of_prompts_cut"] == 1.0


def test_random_equal_cost_is_settled_when_planned_and_when_posted(
    client: TestClient, upload: Upload, model: str
) -> None:
    body = {"kind": "pipeline", "dataset": upload(200)["id"], "model": model, "selection": {"keep": 0.05}}
    body |= {"arms": ["deft", "random", "random_equal_cost"], "random_draws": 1}
    plan = client.post("/v1/plans", json=body).json()
    count = plan["spec"]["equal_cost_count"]
    assert count > plan["spec"]["selection"]["count"]
    job = client.post("/v1/jobs", json=body).json()
    assert job["spec"]["equal_cost_count"] == job["summary"]["equal_cost_count"] == count
    children = {child["name"]: child["id"] for child in job["children"]}
    select = client.get(f"/v1/jobs/{children['select:random_equal_cost']}").json()
    assert select["spec"]["selection"]["count"] == count


def test_single_jobs_are_planned_also_on_what_does_not_exist_yet(
    client: TestClient, upload: Upload, model: str
) -> None:
    dataset = upload(50)
    score = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset["id"], "model": model}).json()
    select_body = {"kind": "select", "scoring": score["id"], "selection": {"keep": 0.1}}
    plan = ask(client, select_body)
    assert (plan["data"]["rows_kept"], plan["model"], plan["memory"], plan["speed"]) == (5, None, [], [])
    chosen = client.post("/v1/jobs", json=select_body).json()
    train = ask(client, {"kind": "train", "data": chosen["id"], "model": model, "optimisation": {"epochs": 3}})
    assert (train["data"]["rows_trained"], train["work"][0]["steps"]) == (5, 3)
    assert train["queue"]["jobs_queued_before"] == 1
    assert train["queue"]["wait_seconds"] is None, "no scoring has ended yet"
    evaluated = ask(
        client,
        {
            "kind": "evaluate",
            "model": model,
            "dataset": dataset["id"],
            "rows": {"split": "all"},
            "options": {"prompts": 7},
        },
    )
    assert (evaluated["data"]["rows_held_out"], evaluated["data"]["prompts_answered"]) == (50, 7)
    assert evaluated["work"][0]["generated_tokens"] == 7 * 128


def test_the_queue_is_counted_with_the_pace_of_ended_jobs(
    client: TestClient, upload: Upload, model: str, database: Database
) -> None:
    body = {"kind": "score", "dataset": upload(20)["id"], "model": model}
    ended, running, *_queued = [client.post("/v1/jobs", json=body).json()["id"] for _ in range(4)]
    with database.write() as session:
        now = session.execute(select(database_now())).scalar_one()
        ran = {"status": "succeeded", "started_at": now - timedelta(seconds=100), "finished_at": now}
        session.execute(update(Job).where(Job.id == ended).values(**ran))
        started = now - timedelta(seconds=40)
        session.execute(update(Job).where(Job.id == running).values(status="running", started_at=started))
    queue = ask(client, body)["queue"]
    assert (queue["jobs_running"], queue["jobs_queued_before"]) == (1, 2)
    assert queue["wait_seconds"] == pytest.approx(60 + 2 * 100, abs=5)


def test_a_scoring_that_has_run_here_tells_the_pace(
    client: TestClient, upload: Upload, model: str, database: Database, team_id: str
) -> None:
    body = {"kind": "score", "dataset": upload(20)["id"], "model": model}
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    report = {"warnings": ["Q_diff may be noise: p = 0.9."]}
    summary = {
        "discrepancy": report,
        "tokens_scored": 10_000,
        "seconds": {"score": 5.0},
        "is_prompt_shared": True,
        "rows_scored": 20,
    }
    with database.write() as session:
        row = Artifact(
            id="sc_made", team_id=team_id, kind="scoring", sha256="0", bytes=0, summary=summary, files=[], job_id=job_id
        )
        session.add(row)
        session.flush()
        session.execute(update(Job).where(Job.id == job_id).values(status="succeeded", artifact_id="sc_made"))
    first = ask(client, body)["speed"][0]
    assert (first["device"], first["basis"]) == (f"as {job_id}", "measured")
    linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64)
    assert first["forward_flops_per_second"] == pytest.approx(2 * linear * 10_000 / 5)
    plan = ask(client, body)
    assert "(sc_made): Q_diff may be noise" in plan["remarks"][0]["message"]
    assert "q_diff_noise" not in [r["code"] for r in ask(client, {**body, "dataset": upload(21)["id"]})["remarks"]]
    extended = ask(client, {**body, "extends": "sc_made"})
    assert "extension_not_counted" in [remark["code"] for remark in extended["remarks"]]
    with database.write() as session:
        session.execute(update(Artifact).where(Artifact.id == "sc_made").values(summary={**summary, "rows_reused": 5}))
    assert ask(client, body)["speed"][0]["basis"] == "assumed"


def test_a_model_that_has_still_to_be_fetched_is_planned_without_its_numbers(
    client: TestClient, upload: Upload, database: Database
) -> None:
    with database.write() as session:
        models.register(session, None, "far", hub_id="team/far", revision="0" * 40)
    body = pipeline(upload(60), "far")
    plan = ask(client, body)
    assert (plan["model"], plan["memory"], plan["lengths"]["basis"]) == (None, [], "assumed")
    assert plan["data"]["rows_kept"] == 46
    assert "model_not_here" in [remark["code"] for remark in plan["remarks"]]
    assert client.post("/v1/jobs", json=body).status_code == 202


def test_a_family_that_is_not_known_is_said(client: TestClient, upload: Upload, model: str, settings: Settings) -> None:
    write_model_files(
        settings.model_roots[0] / "tiny", {"model_type": "brand_new", "architectures": ["NewForCausalLM"]}
    )
    plan = ask(client, pipeline(upload(60), model))
    assert (plan["model"]["family"], plan["model"]["basis"], plan["model"]["parameters"]) == (
        None,
        "counted",
        2 * 259 * 32,
    )
    assert (plan["memory"], plan["speed"]) == ([], [])
    assert "family_not_known" in [remark["code"] for remark in plan["remarks"]]


LLAMA_3_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "quantization_config": {},  # so that parameters are calculated: there are no such weights here
}


def test_a_model_that_no_card_holds_is_planned_and_said(
    client: TestClient, upload: Upload, model: str, settings: Settings
) -> None:
    spoil_config(**LLAMA_3_70B)(settings.model_roots[0] / "tiny")
    plan = ask(client, pipeline(upload(60), model, optimisation={"precision": "fp32"}))
    told = {remark["message"].split()[0] for remark in plan["remarks"] if remark["code"] == "does_not_fit"}
    assert told == {"score", "train", "evaluate"}
    assert not any(card["fits"] for memory in plan["memory"] for card in memory["cards"])


def test_strangers_see_nothing(client: TestClient, stranger: TestClient, upload: Upload, model: str) -> None:
    answer = stranger.post("/v1/plans", json=pipeline(upload(60), model))
    assert (answer.status_code, answer.json()["code"]) == (404, "reference_not_found")


@pytest.mark.parametrize("options", [{}, {"prompts": 0, "metrics": ["preference_accuracy"]}])
@pytest.mark.parametrize("path", ["/v1/plans", "/v1/jobs"])
def test_an_evaluation_that_holds_nothing_out_is_refused_when_posted(
    client: TestClient, upload: Upload, model: str, path: str, options: Body
) -> None:
    dataset = upload(12)["id"]
    body = {"kind": "evaluate", "dataset": dataset, "model": model, "options": options, "rows": {"split": "all"}}
    answer = client.post(path, json={**body, "apart_from": {"dataset": dataset, "rows": {"split": "all"}}})
    assert (answer.status_code, answer.json()["code"]) == (422, "nothing_held_out")
    assert answer.json()["errors"][0]["pointer"] == "/apart_from"
    assert "12 rows" in answer.json()["errors"][0]["found"]
