"""Prompt sets over HTTP: uploaded like any dataset, answered by evaluations, refused wherever something is trained."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from store.settings import EndpointSettings

ROWS = [{"question_id": i, "category": "c", "turns": [f"Ask {i}?", "And then?"]} for i in range(3)]
SELF_INSTRUCT = [
    {"id": "t", "motivation_app": "Mail", "instruction": "Greet.", "instances": [{"input": "", "output": "Hello."}]}
]


def send(client: TestClient, rows: list[dict[str, Any]], **params: str) -> dict[str, Any]:
    content = "".join(json.dumps(row) + "\n" for row in rows)
    answer = client.put("/v1/datasets", content=content, params={"filename": "q.jsonl", **params})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_a_prompt_set_is_uploaded_listed_and_downloaded_as_a_dataset(client: TestClient) -> None:
    made = send(client, ROWS, format="mt_bench")
    assert made["kind"] == "prompt_set"
    assert made["summary"]["counts"]["turns"] == {"2": 3}
    assert client.get(f"/v1/datasets/{made['id']}").json() == made
    assert [one["id"] for one in client.get("/v1/datasets").json()["data"]] == [made["id"]]
    assert client.get(f"/v1/datasets/{made['id']}/files/prompts.parquet").status_code == 200


def test_an_evaluation_names_prompt_sets_and_no_dataset_in_their_place(
    client: TestClient, upload: Any, model: str
) -> None:
    pairs, questions = upload(40)["id"], send(client, ROWS)["id"]
    body = {"kind": "evaluate", "dataset": pairs, "rows": {"split": "all"}, "model": model}
    answer = client.post("/v1/jobs", json={**body, "prompt_sets": [questions]})
    assert answer.status_code == 202, answer.text
    assert answer.json()["spec"]["prompt_sets"] == [questions]
    answer = client.post("/v1/jobs", json={**body, "prompt_sets": [pairs]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/prompt_sets/0")


@pytest.mark.parametrize(("kind", "field"), [("train", "data"), ("score", "dataset"), ("pipeline", "dataset")])
def test_nothing_is_trained_on_self_instruct(client: TestClient, model: str, kind: str, field: str) -> None:
    made = send(client, SELF_INSTRUCT)
    answer = client.post("/v1/jobs", json={"kind": kind, field: made["id"], "model": model})
    assert answer.status_code in (404, 422), answer.text
    if kind != "pipeline":
        (error,) = answer.json()["errors"]
        assert (error["code"], error["pointer"]) == ("wrong_kind", f"/{field}")
        assert "never be trained on" in error["fix"]


def test_a_judge_job_holds_the_name_of_an_endpoint_and_no_key(client: TestClient) -> None:
    body = {"kind": "judge", "evaluation": "ev_none", "judge": {"endpoint": "e", "model": "m", "key": "sk-secret"}}
    answer = client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "unknown_field")
    del body["judge"]["key"]  # type: ignore[attr-defined]
    answer = client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "reference_not_found")


def test_an_endpoint_that_is_none_of_ours_is_refused_at_once(client: TestClient) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    endpoints = {"judge": EndpointSettings(url="http://127.0.0.1:9/v1", key=SecretStr("sk-secret"))}
    settings = services.settings.model_copy(update={"endpoints": endpoints})
    client.app.state.services = replace(services, settings=settings)  # type: ignore[attr-defined]
    body = {"kind": "judge", "evaluation": "ev_none", "judge": {"endpoint": "other", "model": "m"}}
    answer = client.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/judge/endpoint")
    assert "sk-secret" not in answer.text
    assert "sk-secret" not in repr(settings)


def test_a_judge_job_waits_for_the_evaluation_that_it_names_and_can_be_planned(
    client: TestClient, upload: Any, model: str
) -> None:
    body = {"kind": "evaluate", "dataset": upload(40)["id"], "rows": {"split": "all"}, "model": model}
    evaluation = client.post("/v1/jobs", json=body).json()["id"]
    judge = {"kind": "judge", "evaluation": evaluation, "judge": {"endpoint": "judge", "model": "m"}}
    plan = client.post("/v1/plans", json=judge)
    assert plan.status_code == 200, plan.text
    made = client.post("/v1/jobs", json=judge).json()
    assert (made["status"], made["kind"], made["spec"]["mode"]) == ("waiting", "judge", "pairwise")
    assert plan.json()["spec_hash"] == made["spec_hash"]
