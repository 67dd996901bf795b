"""A human study from an evaluation to a dataset, over HTTP: blind, overlapping, counted, exported."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from deft.data.datasets import read_examples
from store import accounts
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.evaluations import Evaluated, publish_evaluation

Json = dict[str, Any]
Rate = Callable[..., list[str]]
KNOWN = {"prompt": "2 + 2?", "better": "4", "worse": "5"}


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def evaluated(database: Database, files: ArtifactFiles, team_id: str) -> Evaluated:
    return publish_evaluation(database, files, team_id, rows=8)


@pytest.fixture
def make(client: TestClient, evaluated: Evaluated) -> Callable[..., Json]:
    def post(**more: Any) -> Json:
        body = {"evaluation": evaluated.id, "systems": ["good", "bad"], "seed": 3, "attention": 2, **more}
        answer = client.post("/v1/studies", json=body)
        assert answer.status_code == 201, answer.text
        document: Json = answer.json()
        return document

    return post


def invite(client: TestClient, study: Json, name: str = "Ann") -> dict[str, str]:
    answer = client.post(f"/v1/studies/{study['id']}/raters", json={"name": name})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def prefers(text: str) -> Callable[[Json], str]:
    """Return a rater who prefers the response that holds *text*, and does what attention items say."""

    def judge(item: Json) -> str:
        if "checks attention" in item["response_1"]:
            return obey(item)
        return "1" if text in item["response_1"] else "2"

    return judge


def obey(item: Json) -> str:
    words = {"1 is better": "1", "tie": "tie", "both bad": "both_bad", "2 is better": "2"}
    return words[item["response_1"].rsplit("choose: ")[1].rstrip(".")]


def rate(anyone: TestClient, study: Json, headers: dict[str, str], judge: Callable[[Json], str]) -> list[Json]:
    """Judge everything there is; return the items."""
    root, seen = f"/v1/studies/{study['id']}/rating", []
    while (answer := anyone.post(f"{root}/next", headers=headers)).json()["item"] is not None:
        item = answer.json()["item"]
        seen.append(item)
        done = anyone.put(f"{root}/items/{item['id']}", headers=headers, json={"verdict": judge(item)})
        assert done.status_code == 200, done.text
    return seen


def test_a_study_has_every_default_and_its_seed_written_in(client: TestClient, make: Callable[..., Json]) -> None:
    study = make(seed=None)
    assert study["spec"]["seed"] >= 0
    assert study["spec"]["overlap"] == 0.3
    assert study["counts"] == {
        "pairs": 8,
        "identical": 0,
        "attention": 2,
        "judgements_wanted": 10,  # 2 of 8 pairs have a second rater
        "judgements": 0,
        "raters": 0,
    }
    assert client.get(f"/v1/studies/{study['id']}").json() == study
    assert client.get("/v1/studies").json()["data"] == [study]


@pytest.mark.parametrize(
    "more", [{"content_warning": "Strong words", "warn_sources": ["zzz"]}, {"warn_sources": ["a"]}]
)
def test_a_content_warning_that_no_item_would_have_makes_no_study(
    client: TestClient, evaluated: Evaluated, more: Json
) -> None:
    answer = client.post("/v1/studies", json={"evaluation": evaluated.id, "systems": ["good", "bad"], **more})
    has_warning = "content_warning" in more
    assert (answer.status_code, answer.json()["code"]) == (
        422,
        "unknown_source" if has_warning else "no_content_warning",
    )
    (error,) = answer.json()["errors"]
    assert error["pointer"] == ("/warn_sources/0" if has_warning else "/content_warning")
    assert client.get("/v1/studies").json()["data"] == []


def test_from_judgements_to_results_export_and_a_dataset(
    client: TestClient, anyone: TestClient, make: Callable[..., Json], evaluated: Evaluated, files: ArtifactFiles
) -> None:
    study = make(overlap=0.5)
    seen = [rate(anyone, study, invite(client, study, name), prefers("good")) for name in ("Ann", "Ben")]
    assert len(seen[0]) == 10  # 8 pairs and 2 checks
    assert len(seen[1]) == 6  # the overlapping half and the checks

    results = client.get(f"/v1/studies/{study['id']}/results").json()
    assert results["win_rate"]["value"] == 1.0
    assert results["win_rate"]["prompts"] == 8
    assert results["win_rate"]["low"] > 0.5
    assert results["sentence"].startswith("People prefer `good` to `bad`")
    assert results["agreement"]["items"] == 4
    assert (results["attention_seen"], results["attention_failed"]) == (4, 0)
    assert 0.3 < results["first_side"]["value"] < 0.7

    made = client.post(f"/v1/studies/{study['id']}/dataset", json={"name": "people"})
    assert made.status_code == 201, made.text
    dataset = made.json()
    provenance = dataset["summary"]["provenance"]
    assert dataset["kind"] == "dataset"
    assert dataset["summary"]["rows"] == 8
    assert (provenance["study"], provenance["evaluation"]) == (study["id"], evaluated.id)
    assert (provenance["judgements"], provenance["raters"]) == (12, 2)
    assert provenance["study_closed_at"] is None
    folder = files._artifacts / dataset["id"]
    for _, example in read_examples(folder):
        chosen, rejected = example.responses
        assert ("good" in chosen, "bad" in rejected) == (True, True)
    assert set(pq.read_table(folder / "original.parquet")["chosen_system"].to_pylist()) == {"good"}
    assert json.loads((folder / "provenance.json").read_text()) == provenance

    closed = client.post(f"/v1/studies/{study['id']}/close").json()
    again = client.post(f"/v1/studies/{study['id']}/dataset", json={"name": "people, all"}).json()
    told = again["summary"]["provenance"]["study_closed_at"]
    assert datetime.fromisoformat(told) == datetime.fromisoformat(closed["closed_at"])


def test_the_export_has_a_row_for_each_judgement_and_csv_has_no_texts(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study = make()
    rate(anyone, study, invite(client, study), prefers("bad"))
    answer = client.get(f"/v1/studies/{study['id']}/judgements.jsonl")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    table = list(csv.DictReader(io.StringIO(client.get(f"/v1/studies/{study['id']}/judgements.csv").text)))
    assert len(rows) == len(table) == 10
    assert Counter(row["preferred"] for row in rows) == {"bad": 8, None: 2}
    for row in rows:
        if row["kind"] == "pair":
            assert row["response_1"].startswith(row["system_1"])
            assert row["response_2"].startswith(row["system_2"])
    assert [row["item_id"] for row in table] == [row["item_id"] for row in rows]
    assert "answer" not in str(table)
    assert f'filename="{study["id"]}.jsonl"' in answer.headers["content-disposition"]


def test_no_cell_of_the_csv_is_a_formula(
    client: TestClient, anyone: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    answers = {"-a": list("uvwxyz"), "b": list("UVWXYZ")}
    evaluated = publish_evaluation(database, files, team_id, rows=6, adapters={}, answers=answers)
    body = {"evaluation": evaluated.id, "systems": ["-a", "b"], "attention": 0}
    study = client.post("/v1/studies", json=body).json()
    rate(anyone, study, invite(client, study), lambda _: "tie")
    text = client.get(f"/v1/studies/{study['id']}/judgements.csv").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {name for row in rows for name in (row["system_1"], row["system_2"])} == {"'-a", "b"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    lines = client.get(f"/v1/studies/{study['id']}/judgements.jsonl").text
    assert '"-a"' in lines


def test_what_a_rater_sees_tells_nothing_of_systems_sides_or_checks(
    client: TestClient, anyone: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    answers = {"sys-x": [f"p{n}" for n in range(6)], "sys-y": [f"q{n}" for n in range(6)]}
    evaluated = publish_evaluation(database, files, team_id, rows=6, answers=answers)
    body = {"evaluation": evaluated.id, "systems": ["sys-x", "sys-y"]}
    study = client.post("/v1/studies", json=body).json()
    headers = invite(client, study)
    item = anyone.post(f"/v1/studies/{study['id']}/rating/next", headers=headers)
    about = anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers)
    assert set(item.json()["item"]) == {"id", "prompt", "response_1", "response_2", "later_turns", "content_warning"}
    for answer in (item, about):
        for name in ("sys-", evaluated.id, "seed", 'attention"', "swapped", "expected"):
            assert name not in answer.text.replace(study["spec"]["guidelines"], ""), name
    for path in ("", "/results", "/raters", "/judgements.jsonl"):
        assert anyone.get(f"/v1/studies/{study['id']}{path}", headers=headers).status_code == 401
    assert anyone.get("/v1/datasets", headers=headers).status_code == 401


def test_an_item_stays_until_it_is_judged_and_the_last_word_counts(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study = make(attention=0)
    headers, root = invite(client, study), f"/v1/studies/{study['id']}/rating"
    first = anyone.post(f"{root}/next", headers=headers).json()
    assert anyone.post(f"{root}/next", headers=headers).json() == first
    address = f"{root}/items/{first['item']['id']}"
    assert anyone.put(address, headers=headers, json={"verdict": "1"}).json()["done"] == 1
    assert anyone.put(address, headers=headers, json={"verdict": "tie"}).json()["done"] == 1
    assert anyone.post(f"{root}/next", headers=headers).json()["item"]["id"] != first["item"]["id"]
    results = client.get(f"/v1/studies/{study['id']}/results").json()
    assert results["verdicts"] == {"first": 0, "tie": 1, "both_bad": 0, "second": 0}


def test_only_what_was_shown_can_be_judged_and_only_with_a_verdict(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study = make()
    ann, ben, root = invite(client, study), invite(client, study, "Ben"), f"/v1/studies/{study['id']}/rating"
    item = anyone.post(f"{root}/next", headers=ann).json()["item"]["id"]
    assert anyone.put(f"{root}/items/{item}", headers=ben, json={"verdict": "1"}).status_code == 404
    refused = anyone.put(f"{root}/items/{item}", headers=ann, json={"verdict": "3"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/verdict")


def test_a_skipped_item_goes_to_another_rater(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study = make(overlap=0.0, attention=0)
    assert len(rate(anyone, study, invite(client, study), lambda _: "skip")) == 8
    assert len(rate(anyone, study, invite(client, study, "Ben"), prefers("good"))) == 8
    results = client.get(f"/v1/studies/{study['id']}/results").json()
    assert (results["skipped"], results["judged_pairs"]) == (8, 8)


def test_a_rater_who_fails_the_checks_is_left_out_of_results_and_data(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study = make(overlap=1.0, attention=4, attention_failures_allowed=0)
    rate(anyone, study, invite(client, study), prefers("good"))

    def careless(item: Json) -> str:
        return "2" if obeyed(item) != "2" else "1"

    rate(anyone, study, invite(client, study, "Ben"), careless)
    results = client.get(f"/v1/studies/{study['id']}/results").json()
    assert results["win_rate"]["value"] == 1.0
    assert results["win_rate_of_all_raters"]["value"] < 1.0
    assert [rater["is_left_out"] for rater in results["raters"]] == [False, True]
    provenance = client.post(f"/v1/studies/{study['id']}/dataset", json={}).json()["summary"]["provenance"]
    assert (provenance["raters"], provenance["raters_left_out"]) == (1, 1)


def obeyed(item: Json) -> str:
    return obey(item) if "checks attention" in item["response_1"] else "1"


def test_a_key_of_the_team_judges_too_and_is_one_rater(client: TestClient, key: str, make: Callable[..., Json]) -> None:
    study = make()
    items = rate(client, study, {}, prefers("good"))
    assert len(items) == 10
    raters = client.get(f"/v1/studies/{study['id']}/raters").json()["data"]
    assert [(rater["name"], rater["is_key"]) for rater in raters] == [("bootstrap", True)]
    assert key not in str(raters)


def test_a_token_is_shown_once_and_opens_its_own_study_alone(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study, other = make(), make(name="other")
    address = f"/v1/studies/{study['id']}/raters"
    first, again = (
        client.post(address, json={"name": "Ann"}, headers={"Idempotency-Key": "once"}).json() for _ in range(2)
    )
    assert first["token"].startswith("deftr_")
    assert first["url"] == f"/rate/{study['id']}#{first['token']}"
    assert (again["id"], again["token"], again["url"]) == (first["id"], None, None)
    headers = {"Authorization": f"Bearer {first['token']}"}
    assert anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers).status_code == 200
    assert anyone.get(f"/v1/studies/{other['id']}/rating", headers=headers).status_code == 401
    assert client.post(f"{address}/{first['id']}/revoke").json()["revoked_at"] is not None
    assert anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers).status_code == 401


def test_whoever_comes_with_a_bad_invitation_is_told_whom_to_ask(
    client: TestClient, anyone: TestClient, make: Callable[..., Json]
) -> None:
    study, other = make(), make()
    stranger = invite(client, other)["Authorization"].removeprefix("Bearer ")
    for token in ("nonsense", "deft_nonsense", "deftr_nonsense", "deftr_" + "x" * 1000, stranger):
        answer = anyone.get(f"/v1/studies/{study['id']}/rating", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert "invitation does not work" in answer.json()["detail"]
        assert "ask whoever invited you" in answer.json()["detail"]


def test_a_closed_study_is_not_judged(client: TestClient, anyone: TestClient, make: Callable[..., Json]) -> None:
    study = make()
    headers = invite(client, study)
    assert client.post(f"/v1/studies/{study['id']}/close").json()["closed_at"] is not None
    answer = anyone.post(f"/v1/studies/{study['id']}/rating/next", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "study_closed")
    about = anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers).json()
    assert (about["is_closed"], about["progress"]["open"]) == (True, 0)
    assert client.post(f"/v1/studies/{study['id']}/raters", json={"name": "Late"}).status_code == 409


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"systems": ["good", "none"]}, "unknown_system", "/systems/1"),
        ({"systems": ["good", "good"]}, "invalid_value", "/systems"),
        ({"evaluation": "ev_none"}, "reference_not_found", "/evaluation"),
        ({"overlap": 1.5}, "invalid_value", "/overlap"),
        (
            {"attention_items": [KNOWN, {**KNOWN, "worse": " " + KNOWN["better"]}]},
            "same_answers",
            "/attention_items/1/worse",
        ),
    ],
)
def test_what_cannot_be_a_study_is_refused_with_its_place(
    client: TestClient, evaluated: Evaluated, change: Json, code: str, pointer: str
) -> None:
    body = {"evaluation": evaluated.id, "systems": ["good", "bad"], **change}
    answer = client.post("/v1/studies", json=body)
    error = answer.json()["errors"][0]
    assert answer.status_code in (404, 422)
    assert (error["code"], error["pointer"]) == (code, pointer)


def test_an_evaluation_without_answers_makes_no_study(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    evaluated = publish_evaluation(database, files, team_id, answers={"good": [], "bad": []})
    answer = client.post("/v1/studies", json={"evaluation": evaluated.id, "systems": ["good", "bad"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_generations")


def test_a_study_of_a_prompt_set_compares_whole_conversations_and_makes_no_training_data(
    client: TestClient, anyone: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    places = [(system, turn, sample) for system in ("good", "bad") for sample in (0, 1) for turn in (1, 2)]
    sets = [
        {"set": "ds_q", "row": 5, "system": system, "turn": turn, "sample": sample, "text": f"{system} {turn} {sample}"}
        for system, turn, sample in places
    ]
    asked = [
        {"set": "ds_q", "row": 5, "prompt": "A question of the set", "cluster": 0.5}
        | {"further": ["And then?"], "reference": []}
    ]
    evaluated = publish_evaluation(database, files, team_id, sets=sets, asked=asked)
    body = {"evaluation": evaluated.id, "systems": ["good", "bad"], "attention": 0}
    study = client.post("/v1/studies", json={**body, "prompt_set": "ds_q"}).json()
    (item,) = rate(anyone, study, invite(client, study), prefers("good"))
    assert item["prompt"] == [{"role": "user", "content": "A question of the set"}]
    first, second = ("good", "bad") if item["response_1"] == "good 1 0" else ("bad", "good")
    shown = {
        "prompt": item["prompt"],
        "response_1": f"{first} 1 0",
        "response_2": f"{second} 1 0",
        "later_turns": [{"user": "And then?", "response_1": f"{first} 2 0", "response_2": f"{second} 2 0"}],
    }
    assert {name: item[name] for name in shown} == shown
    (exported,) = client.get(f"/v1/studies/{study['id']}/judgements.jsonl").text.splitlines()
    row = json.loads(exported)
    assert {name: row[name] for name in shown} == shown
    assert (row["system_1"], row["system_2"]) == (first, second)
    assert " 2 0" not in client.get(f"/v1/studies/{study['id']}/judgements.csv").text
    refused = client.post(f"/v1/studies/{study['id']}/dataset", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_for_training")
    assert client.post("/v1/studies", json=body).json()["counts"]["pairs"] == 8
    unknown = client.post("/v1/studies", json={**body, "prompt_set": "ds_none"}).json()
    assert (unknown["code"], unknown["errors"][0]["pointer"]) == ("no_generations", "/prompt_set")


def test_a_study_without_judgements_makes_no_dataset(client: TestClient, make: Callable[..., Json]) -> None:
    answer = client.post(f"/v1/studies/{make()['id']}/dataset", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_preferences")


def test_another_team_sees_nothing_of_a_study(make: Callable[..., Json], stranger: TestClient) -> None:
    study = make()["id"]
    for path in ("", "/results", "/raters", "/judgements.csv", "/judgements.jsonl", "/rating"):
        assert stranger.get(f"/v1/studies/{study}{path}").status_code == 404, path
    assert stranger.post(f"/v1/studies/{study}/close").status_code == 404
    assert stranger.post(f"/v1/studies/{study}/raters", json={"name": "X"}).status_code == 404
    assert stranger.post(f"/v1/studies/{study}/rating/next").status_code == 404
    assert stranger.get("/v1/studies").json()["data"] == []


def test_a_revoked_key_judges_no_more(
    client: TestClient, anyone: TestClient, database: Database, team_id: str, make: Callable[..., Json]
) -> None:
    study = make()
    with database.write() as session:
        row, text = accounts.create_key(session, team_id, "rater")
    headers = {"Authorization": f"Bearer {text}"}
    assert anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers).status_code == 200
    with database.write() as session:
        accounts.revoke_key(session, team_id, row.id)
    assert anyone.get(f"/v1/studies/{study['id']}/rating", headers=headers).status_code == 401
