"""The promotion gate over HTTP: held or released, by whom, until when, taken back from whom."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update

from store import accounts
from store.artifacts import ArtifactFiles
from store.database import Database
from store.release_tables import Policy, Release
from store.settings import Settings
from store.tables import Artifact, Job, JobInput
from store.types import database_now
from tests.evaluations import Evaluated, publish_adapter, publish_dataset, publish_evaluation, score
from tests.recorded import accuracies, writer

Json = dict[str, Any]
POLICY = {
    "name": "strict",
    "gain": {"metric": "preference_accuracy", "at_least": 0.01},
    "forgetting": {"metric": "perplexity", "at_most": 0.5},
    "safety": {"at_most": 0.05},
}


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def key_id(database: Database, key: str) -> str:
    with database.read() as session:
        return accounts.authenticate(session, key).key_id


@pytest.fixture
def colleague(app: FastAPI, database: Database, team_id: str) -> Iterator[TestClient]:
    """A client with another key of the same team."""
    with database.write() as session:
        text = accounts.create_key(session, team_id, "colleague")[1]
    with TestClient(app, headers={"Authorization": f"Bearer {text}"}, raise_server_exceptions=False) as client:
        yield client


def numbers(gain: float = 0.1, harm: float = 0.1) -> list[Json]:
    def around(system: str, metric: str, value: float, **more: Any) -> Json:
        return score(system, metric, value, value - 0.02, value + 0.02, **more)

    return [
        around("good", "preference_accuracy", 0.5 + gain),
        around("base", "perplexity", 10.0),
        around("good", "perplexity", 10.1),
        around("base", "harmful_compliance", 0.1, slice="category:fraud"),
        around("good", "harmful_compliance", harm, slice="category:fraud"),
        around("base", "over_refusal", 0.1, slice="category:homonyms"),
        around("good", "over_refusal", 0.1, slice="category:homonyms"),
    ]


@pytest.fixture
def evaluate(database: Database, files: ArtifactFiles, team_id: str, key_id: str) -> Callable[..., Evaluated]:
    """Publish an evaluation of an adapter whose training the first key posted."""

    def publish(**more: float) -> Evaluated:
        adapters = {"good": publish_adapter(database, files, team_id, key_id)}
        return publish_evaluation(database, files, team_id, metrics=numbers(**more), adapters=adapters)

    return publish


def ask(client: TestClient, evaluated: Evaluated, **policy: Any) -> Json:
    made = client.post("/v1/policies", json={**POLICY, **policy})
    assert made.status_code == 201, made.text
    body = {"adapter": evaluated.adapters["good"], "evaluation": evaluated.id, "policy": made.json()["id"]}
    answer = client.post("/v1/releases", json=body)
    assert answer.status_code == 201, answer.text
    document: Json = answer.json()
    return document


def post(client: TestClient, release: Json, verb: str, **body: str) -> Any:
    return client.post(f"/v1/releases/{release['id']}/{verb}", json=body)


def test_a_release_waits_for_an_approver_other_than_the_trainer(
    client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated], key_id: str
) -> None:
    release = ask(client, evaluate())
    assert (release["status"], [one["clause"] for one in release["failing"]]) == ("held", ["approval"])
    assert release["trainer_key_id"] == key_id
    refused = post(client, release, "approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "own_training")
    approved = post(colleague, release, "approve", note="fine").json()
    assert (approved["status"], approved["failing"]) == ("released", [])
    assert [event["type"] for event in approved["events"]] == ["requested", "approved", "released"]
    out, until = (datetime.fromisoformat(approved[name]) for name in ("released_at", "expires_at"))
    assert until - out == timedelta(days=90)
    assert client.get(f"/v1/releases/{release['id']}").json() == approved


def test_a_failing_clause_holds_it_with_its_numbers_and_no_approval_helps(
    client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    release = ask(client, evaluate(harm=0.2), approvals=0)
    assert release["status"] == "held"
    (failing,) = release["failing"]
    assert (failing["clause"], failing["metric"], failing["slice"]) == (
        "safety",
        "harmful_compliance",
        "category:fraud",
    )
    assert failing["value"] == pytest.approx(0.1)
    assert failing["bound"] == pytest.approx(0.1 + (2 * 0.02**2) ** 0.5)
    assert (failing["limit"], failing["is_met"]) == (0.05, False)
    assert len(release["clauses"]) == 4
    refused = post(colleague, release, "approve")
    assert (refused.status_code, refused.json()["code"]) == (409, "release_held")


def test_a_gain_against_an_arm_of_several_draws_is_the_number_of_the_comparison(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    """The gate holds the adapter against all draws, with the luck of a run, as the evaluation's own verdict does."""
    shares = {"deft": 0.7, "random": 0.4, "random-2": 0.6, "random-3": 0.5}
    adapters = {name: publish_adapter(database, files, team_id) for name in shares}
    evaluated = publish_evaluation(database, files, team_id, adapters=adapters, write=writer(accuracies(shares)))
    client.post("/v1/policies", json={**POLICY, "gain": {"at_least": -0.5, "against": "random"}})
    body = {"adapter": adapters["deft"], "evaluation": evaluated.id, "policy": "strict"}
    gain = client.post("/v1/releases", json=body).json()["clauses"][0]
    comparison = client.get(f"/v1/evaluations/{evaluated.id}").json()["comparison"]
    (told,) = (d for d in comparison["differences"] if (d["arm"], d["against"]) == ("deft", "random"))
    assert (gain["value"], gain["low"], gain["high"]) == (told["difference"], told["low"], told["high"])
    assert gain["bound"] == told["low"]
    assert gain["against_systems"] == ["random", "random-2", "random-3"]
    assert (gain["is_paired"], gain["has_luck"], gain["is_met"]) == (True, True, True)


def test_the_policies_that_the_pages_show_are_ones(client: TestClient) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    shown = [json.loads(block.partition("```")[0]) for block in page.split("```json")[1:] if '"forgetting"' in block]
    gains = [json.loads(found)["gain"] for found in re.findall('`({"gain": {[^`]*})`', page)]
    assert (len(shown), [gain["metric"] for gain in gains]) == (1, ["judge_win_rate"])
    for number, policy in enumerate([*shown, *({**shown[0], "gain": gain} for gain in gains)]):
        made = client.post("/v1/policies", json={**policy, "name": f"{policy['name']}-{number}"})
        assert made.status_code == 201, made.text
        assert made.json()["spec"]["gain"] == policy["gain"]


@pytest.mark.parametrize(
    ("metric", "code"),
    [
        ("acuracy", "unknown_metric"),
        ("length", "no_better_end"),
        ("lm_eval:arc/acc", "unknown_metric"),
        ("human_win_rate:st_1", "unknown_metric"),
        ("judge_win_rate:jg_1", "unknown_metric"),
    ],
)
def test_a_policy_that_nothing_could_meet_is_refused(client: TestClient, metric: str, code: str) -> None:
    for clause, limit in (("gain", "at_least"), ("forgetting", "at_most")):
        answer = client.post("/v1/policies", json={**POLICY, clause: {"metric": metric, limit: 0.1}})
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        (error,) = answer.json()["errors"]
        assert (error["pointer"], "perplexity" in error["expected"]) == (f"/{clause}/metric", True)
    assert client.get("/v1/policies").json()["data"] == []


def test_a_study_is_named_by_the_release_and_not_by_the_policys_metric(client: TestClient) -> None:
    gain = {"metric": "human_win_rate:st_1", "at_least": 0.1}
    (error,) = client.post("/v1/policies", json={**POLICY, "gain": gain}).json()["errors"]
    assert error["fix"] == "name human_win_rate here, and the study in the release"
    bare = client.post("/v1/policies", json={**POLICY, "gain": {**gain, "metric": "human_win_rate"}})
    assert bare.status_code == 201


@pytest.mark.parametrize("name", ["harm_metric", "refusal_metric"])
@pytest.mark.parametrize(
    ("metric", "code"),
    [
        ("preference_accuracy", "not_lower_better"),
        ("partial_refusal", "not_lower_better"),
        ("incoherent", "no_rate_of_safety"),
        ("perplexity", "no_rate_of_safety"),
        ("kl", "no_rate_of_safety"),
        ("harmfull_compliance", "unknown_metric"),
        ("judge_over_refusal:jg_1", "unknown_metric"),
    ],
)
def test_safety_is_held_by_rates_of_harm_and_of_refusing(client: TestClient, name: str, metric: str, code: str) -> None:
    answer = client.post("/v1/policies", json={**POLICY, "safety": {"at_most": 0.1, name: metric}})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    (error,) = answer.json()["errors"]
    own, other = ("harmful_compliance", "over_refusal") if name == "harm_metric" else ("over_refusal", "harmful")
    expected = (error["pointer"], error["found"], own in error["expected"], other in error["expected"])
    assert expected == (f"/safety/{name}", metric, True, False)
    made = client.post("/v1/policies", json={**POLICY, "safety": {"at_most": 0.1, name: f"judge_{own}"}})
    assert made.status_code == 201


@pytest.mark.parametrize("prefix", ["all", "", "source:", "category", "set:ds_1"])
def test_slices_that_are_no_categories_are_refused_for_nothing_is_averaged(client: TestClient, prefix: str) -> None:
    answer = client.post("/v1/policies", json={**POLICY, "safety": {"at_most": 0.1, "slice_prefix": prefix}})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_category")
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["fix"][:12]) == ("/safety/slice_prefix", "leave it out")
    some = client.post("/v1/policies", json={**POLICY, "safety": {"at_most": 0.1, "slice_prefix": "category:hate/"}})
    assert some.status_code == 201


@pytest.mark.parametrize(
    "safety", [{"slice_prefix": "all"}, {"harm_metric": "perplexity"}, {"refusal_metric": "incoherent"}]
)
def test_a_policy_from_before_that_was_checked_is_shown_and_holds(
    client: TestClient, database: Database, evaluate: Callable[..., Evaluated], safety: dict[str, str]
) -> None:
    policy = client.post("/v1/policies", json=POLICY).json()
    with database.write() as session:
        row = session.get_one(Policy, policy["id"])
        row.spec = {**row.spec, "safety": {**row.spec["safety"], **safety}}
    shown = client.get(f"/v1/policies/{policy['id']}").json()["spec"]["safety"]
    assert {name: shown[name] for name in safety} == safety
    evaluated = evaluate()
    body = {"adapter": evaluated.adapters["good"], "evaluation": evaluated.id, "policy": policy["id"]}
    release = client.post("/v1/releases", json=body).json()
    assert release["status"] == "held"
    reasons = [each["reason"] for each in release["clauses"] if each["clause"] == "safety" and not each["is_met"]]
    assert reasons
    assert all("make another policy" in each for each in reasons)


def test_without_approvals_it_is_released_at_once(client: TestClient, evaluate: Callable[..., Evaluated]) -> None:
    release = ask(client, evaluate(), approvals=0, expires_days=None)
    assert (release["status"], release["expires_at"]) == ("released", None)


def test_an_override_goes_on_record_and_is_not_the_trainers(
    client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    release = ask(client, evaluate(gain=0.0))
    assert post(client, release, "override", reason="hurry").status_code == 403
    for verb in ("override", "recall"):
        assert post(colleague, release, verb).status_code == 422
        for blank in (" ", "\t\n", "\u200b", "\ufeff \u2060\u00ad", "\u3000\u2028"):
            refused = post(colleague, release, verb, reason=blank)
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/reason")
    done = post(colleague, release, "override", reason="a reading of all answers").json()
    assert (done["status"], done["is_overridden"]) == ("released", True)
    event = done["events"][1]
    assert (event["type"], event["data"]["reason"]) == ("overridden", "a reading of all answers")
    assert [one["clause"] for one in event["data"]["failing"]] == ["gain", "approval"]


def test_one_key_approves_once(client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated]) -> None:
    release = ask(client, evaluate(), approvals=2)
    for _ in range(2):
        answer = post(colleague, release, "approve").json()
    assert (answer["status"], len(answer["approved_by"])) == ("held", 1)


def test_where_the_trainer_is_not_known_whoever_asks_stands_in(
    client: TestClient, colleague: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    adapters = {"good": publish_adapter(database, files, team_id)}
    evaluated = publish_evaluation(database, files, team_id, metrics=numbers(), adapters=adapters)
    release = ask(client, evaluated)
    assert release["trainer_key_id"] is None
    assert post(client, release, "approve").status_code == 403
    assert post(colleague, release, "approve").json()["status"] == "released"


def test_a_release_expires(client: TestClient, database: Database, evaluate: Callable[..., Evaluated]) -> None:
    release = ask(client, evaluate(), approvals=0)
    with database.write() as session:
        session.execute(update(Release).values(expires_at=database_now(-1)))
    assert client.get(f"/v1/releases/{release['id']}").json()["status"] == "expired"


def test_a_recall_blocks_downloads_and_lists_who_has_the_adapter(
    client: TestClient, colleague: TestClient, stranger: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    evaluated = evaluate()
    release = ask(client, evaluated, approvals=0)
    path = f"/v1/adapters/{evaluated.adapters['good']}/files/adapter_model.safetensors"
    assert colleague.get(path).status_code == 200
    assert colleague.get(path, headers={"Range": "bytes=0-1"}).status_code == 206
    assert colleague.head(path).status_code == 200
    assert stranger.get(path).status_code == 404
    recalled = post(client, release, "recall", reason="it lies").json()
    assert recalled["status"] == "recalled"
    assert [(one["key_name"], one["path"], one["times"]) for one in recalled["downloads"]] == [
        ("colleague", "adapter_model.safetensors", 2)
    ]
    refused = colleague.get(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "recalled")
    assert colleague.head(path).status_code == 403
    assert client.get(f"/v1/releases/{release['id']}/downloads").json()["data"] == recalled["downloads"]
    for verb, body in (("approve", {}), ("override", {"reason": "x"})):
        assert post(colleague, release, verb, **body).json()["code"] == "release_recalled"


def test_a_second_recall_is_refused_with_who_made_the_first(
    client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    release = ask(client, evaluate(), approvals=0)
    done = post(colleague, release, "recall", reason="it lies").json()
    second = post(client, release, "recall", reason="it is slow")
    assert (second.status_code, second.json()["code"]) == (409, "release_recalled")
    when = done["recalled_at"].replace("Z", "")[:19]
    assert all(part in second.json()["detail"] for part in ("by the key", "colleague", "it lies", when))
    events = client.get(f"/v1/releases/{release['id']}").json()["events"]
    assert [event["data"]["reason"] for event in events if event["type"] == "recalled"] == ["it lies"]


def test_a_recalled_adapter_is_not_asked_for_again_and_is_marked_on_the_leaderboard(
    client: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    evaluated = evaluate()
    release = ask(client, evaluated, approvals=0)
    post(client, release, "recall", reason="it lies")
    body = {"adapter": evaluated.adapters["good"], "evaluation": evaluated.id, "policy": "strict"}
    again = client.post("/v1/releases", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "release_recalled")
    (board,) = client.get("/v1/leaderboard").json()["boards"]
    assert [one["is_recalled"] for one in board["places"]] == [True]


@pytest.mark.parametrize("kind", ["score", "train", "measure_omega", "pipeline"])
@pytest.mark.parametrize("through", ["its id", "its job's"])
def test_no_job_starts_from_a_recalled_adapter(
    client: TestClient,
    colleague: TestClient,
    database: Database,
    evaluate: Callable[..., Evaluated],
    upload: Callable[..., Json],
    model: str,
    kind: str,
    through: str,
) -> None:
    evaluated = evaluate()
    adapter = evaluated.adapters["good"]
    release = ask(client, evaluated, approvals=0)
    assert post(colleague, release, "recall", reason="it lies").status_code == 200
    named = adapter
    if through != "its id":
        with database.write() as session:
            job = session.scalars(select(Job).join(Artifact, Artifact.job_id == Job.id).where(Artifact.id == adapter))
            named = _with_output(job.one(), adapter)
    data = {"data" if kind in ("train", "measure_omega") else "dataset": upload(40)["id"]}
    for address in ("/v1/plans", "/v1/jobs"):
        refused = client.post(address, json={"kind": kind, "model": model, **data, "adapter": named})
        (error,) = refused.json()["errors"]
        assert (refused.status_code, error["code"], error["pointer"]) == (409, "adapter_recalled", "/adapter")
        assert error["found"] == f"{adapter}, recalled"
        assert "by the key colleague: it lies" in refused.json()["detail"]
        assert f"{release['id']}" in refused.json()["detail"]
        assert "evaluation may still measure" in error["fix"]
    assert client.get("/v1/jobs", params={"kind": kind, "status": "queued"}).json()["data"] == []


def _with_output(job: Job, artifact_id: str) -> str:
    job.artifact_id = artifact_id
    return job.id


def test_a_recalled_adapter_is_still_evaluated_and_shown_to_nobody(
    client: TestClient, evaluate: Callable[..., Evaluated], upload: Callable[..., Json], model: str
) -> None:
    evaluated = evaluate()
    study = {"evaluation": evaluated.id, "systems": ["good", "base"]}
    before = client.post("/v1/studies", json=study)
    assert (before.status_code, before.json().get("code")) == (422, "unknown_system")
    post(client, ask(client, evaluated, approvals=0), "recall", reason="it lies")
    refused = client.post("/v1/studies", json=study)
    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["code"], error["pointer"]) == (409, "adapter_recalled", "/systems/0")
    assert "it lies" in refused.json()["detail"]
    systems = [{"name": "good", "arm": "good", "adapter": evaluated.adapters["good"]}]
    body = {"kind": "evaluate", "model": model, "dataset": upload(40)["id"], "systems": systems}
    assert client.post("/v1/jobs", json=body).status_code == 202


def test_an_adapter_that_was_measured_as_two_systems_is_refused_with_both(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    adapter, other = (publish_adapter(database, files, team_id) for _ in range(2))
    adapters = {"twin": adapter, "other": other, "good": adapter}
    evaluated = publish_evaluation(database, files, team_id, metrics=numbers(), adapters=adapters)
    client.post("/v1/policies", json=POLICY)
    body = {"adapter": adapter, "evaluation": evaluated.id, "policy": "strict"}
    answer = client.post("/v1/releases", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "several_systems")
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["found"]) == ("/evaluation", "twin and good")
    assert error["expected"] == "an evaluation that measured the adapter as one system"
    assert client.get("/v1/releases").json()["data"] == []
    assert client.post("/v1/releases", json={**body, "adapter": other}).status_code == 201


def test_a_policy_is_never_changed(client: TestClient, stranger: TestClient) -> None:
    first = client.post("/v1/policies", json=POLICY).json()
    assert client.post("/v1/policies", json=POLICY).json() == first
    other = client.post("/v1/policies", json={**POLICY, "approvals": 3})
    assert (other.status_code, other.json()["code"]) == (409, "name_taken")
    assert client.get("/v1/policies/strict").json() == first
    assert first["safety_prompts"] == 72
    assert client.get("/v1/policies").json()["data"] == [first]
    assert stranger.get(f"/v1/policies/{first['id']}").status_code == 404


@pytest.mark.parametrize("part", ["gain", "forgetting", "safety"])
def test_a_policy_has_three_clauses(client: TestClient, part: str) -> None:
    answer = client.post("/v1/policies", json={name: value for name, value in POLICY.items() if name != part})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{part}")


def test_what_was_not_evaluated_or_is_not_there_is_refused_with_its_place(
    client: TestClient, stranger: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    one, other = evaluate(), evaluate()
    client.post("/v1/policies", json=POLICY)
    body = {"adapter": one.adapters["good"], "evaluation": other.id, "policy": "strict"}
    answer = client.post("/v1/releases", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "not_evaluated")
    for name in ("adapter", "evaluation", "policy"):
        answer = client.post("/v1/releases", json={**body, "evaluation": one.id, name: "none"})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (404, f"/{name}")
    release = ask(client, one)
    for verb in ("approve", "override", "recall"):
        assert post(stranger, release, verb, **({} if verb == "approve" else {"reason": "x"})).status_code == 404
    assert stranger.get(f"/v1/releases/{release['id']}").status_code == 404
    assert stranger.get("/v1/releases").json()["data"] == []


def publish_trained(
    database: Database, files: ArtifactFiles, team_id: str, prompts: list[str] | None, apart: bool = False
) -> Evaluated:
    """Publish an evaluation whose adapter was trained on *prompts* (None: nothing is on record) of its 8 questions."""
    data = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in prompts or ["Another?"]]
    trained = publish_dataset(database, files, team_id, data)
    adapters = {"good": publish_adapter(database, files, team_id, data=trained)}
    one = publish_evaluation(database, files, team_id, metrics=numbers(), adapters=adapters)
    with database.write() as session:
        if prompts is None:
            session.execute(delete(JobInput).where(JobInput.name == "data"))
        if apart:
            job = session.get_one(Job, one.job)
            job.spec = {**job.spec, "apart_from": {"dataset": trained, "rows": job.spec["rows"]}}
            named = {"job_id": job.id, "name": "apart_from", "team_id": team_id, "pointer": "/apart_from/dataset"}
            session.add(JobInput(**named, reference=trained, artifact_id=trained))
    return one


def test_rows_that_the_adapter_was_trained_on_decide_no_gain(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    own = ["Question 1?", "Question 5?", "Another?"]
    gain, forgetting, *_ = ask(client, publish_trained(database, files, team_id, own), approvals=0)["clauses"]
    assert (gain["is_met"], gain["value"]) == (False, pytest.approx(0.1))
    assert "2 of the 8 prompts that it is over were trained on by the adapter" in gain["reason"]
    assert forgetting["is_met"]
    apart = ask(client, publish_trained(database, files, team_id, own, apart=True), approvals=0)
    assert (apart["status"], apart["failing"]) == ("released", [])


def test_a_training_that_is_not_on_record_decides_no_gain(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    gain, *_ = ask(client, publish_trained(database, files, team_id, None), approvals=0)["clauses"]
    assert (gain["is_met"], "it is not on record that it was measured on rows" in gain["reason"]) == (False, True)


def test_a_loss_of_what_was_measured_on_trained_rows_decides_no_forgetting(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    one = publish_trained(database, files, team_id, ["Question 1?"])
    clauses = ask(client, one, forgetting={"metric": "preference_accuracy", "at_most": 0.5})["clauses"]
    assert [(c["clause"], c["is_met"]) for c in clauses[:2]] == [("gain", False), ("forgetting", False)]
    with database.write() as session:
        job = session.get_one(Job, one.job)
        job.spec = {**job.spec, "general_rows": job.spec["rows"]}
        named = {"job_id": job.id, "name": "general_dataset", "team_id": team_id, "pointer": "/general_dataset"}
        session.add(JobInput(**named, reference=one.dataset, artifact_id=one.dataset))
    forgetting = ask(client, one, name="again")["clauses"][1]
    assert (forgetting["metric"], forgetting["is_met"]) == ("perplexity", False)
    assert "1 of the 8 prompts" in forgetting["reason"]


def test_a_recall_of_one_release_is_one_of_every_release_of_the_adapter(
    client: TestClient, colleague: TestClient, evaluate: Callable[..., Evaluated]
) -> None:
    one = evaluate()
    first, second = (ask(client, one) for _ in range(2))
    third = ask(client, one, name="free", approvals=0)
    assert third["status"] == "released"
    assert post(colleague, first, "recall", reason="it lies").json()["status"] == "recalled"
    for verb, body in (("approve", {}), ("override", {"reason": "urgent"})):
        refused = post(colleague, second, verb, **body)
        assert (refused.status_code, refused.json()["code"]) == (409, "release_recalled")
    for release in (second, third):
        assert client.get(f"/v1/releases/{release['id']}").json()["status"] == "recalled"
    assert {row["status"] for row in client.get("/v1/releases").json()["data"]} == {"recalled"}
