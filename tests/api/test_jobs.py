"""Jobs over HTTP: lists, events, metrics, log, cancel, the bell, and pipelines with their children."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from store import artifacts, claims, telling
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from store.tables import Job
from tests.databases import database_url  # noqa: F401 - this module runs on Postgres too
from tests.evaluations import publish_adapter

Upload = Callable[..., dict[str, Any]]
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make(client: TestClient, upload: Upload, model: str) -> Make:
    dataset = upload(40)["id"]

    def post(**fields: Any) -> dict[str, Any]:
        answer = client.post("/v1/jobs", json={"kind": "score", "dataset": dataset, "model": model, **fields})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    return post


def test_a_list_comes_page_by_page_in_either_order(client: TestClient, make: Make) -> None:
    made = [make(name=f"job {n}")["id"] for n in range(5)]
    for order, expected in (("desc", made[::-1]), ("asc", made)):
        seen: list[str] = []
        after = None
        while True:
            query = {"limit": 2, "order": order, **({"after": after} if after else {})}
            page = client.get("/v1/jobs", params=query).json()
            assert page.keys() == {"data", "has_more", "next_cursor"}
            seen += [job["id"] for job in page["data"]]
            after = page["next_cursor"]
            if not page["has_more"]:
                assert after is None
                break
        assert seen == expected


def test_a_page_goes_on_after_a_job_that_the_filter_has_let_go(client: TestClient, make: Make) -> None:
    made = [make()["id"] for _ in range(3)]
    first = client.get("/v1/jobs", params={"status": "queued", "limit": 1}).json()
    client.post(f"/v1/jobs/{first['next_cursor']}/cancel")
    rest = client.get("/v1/jobs", params={"status": "queued", "after": first["next_cursor"]}).json()
    assert [job["id"] for job in rest["data"]] == made[1::-1]


def test_a_list_is_filtered(client: TestClient, make: Make) -> None:
    first, second = make()["id"], make()["id"]
    client.post(f"/v1/jobs/{first}/cancel")

    def ids(**filters: str) -> list[str]:
        return [job["id"] for job in client.get("/v1/jobs", params=filters).json()["data"]]

    assert ids(status="queued") == [second]
    assert ids(status="cancelled", kind="score") == [first]
    assert ids(kind="train") == []
    assert ids(parent_id=first) == []


def test_events_are_numbered_and_read_from_where_one_stopped(client: TestClient, make: Make) -> None:
    url = f"/v1/jobs/{make()['id']}"
    client.post(f"{url}/cancel")
    page = client.get(f"{url}/events", params={"limit": 1}).json()
    assert [event["seq"] for event in page["data"]] == [1]
    assert page["has_more"]
    rest = client.get(f"{url}/events", params={"after": page["next_cursor"]}).json()
    assert [event["seq"] for event in rest["data"]] == list(range(2, 2 + len(rest["data"])))
    assert rest["data"][-1]["data"]["status"] == "cancelled"
    assert client.get(f"{url}/events", params={"after": 2**53}).json()["data"] == []


def test_what_a_worker_tells_is_shown(client: TestClient, make: Make, database: Database) -> None:
    url = f"/v1/jobs/{make()['id']}"
    with database.write() as session:
        claim = claims.claim(session, "worker", ["cpu", "gpu"])
        assert claim is not None
        telling.report_phase(session, claim, "scoring")
        telling.report_progress(session, claim, 3, 12, "rows")
        telling.report_metrics(session, claim, 1, {"loss": 0.5, "norm": float("nan")})
        telling.report_log(session, claim, "one\ntwo <b>\n")
    job = client.get(url).json()
    assert (job["status"], job["phase"], job["attempt"], job["queue_position"]) == ("running", "scoring", 1, None)
    assert {"done": 3, "total": 12, "unit": "rows"}.items() <= job["progress"].items()
    assert client.get(f"{url}/metrics").json()["data"] == [{"step": 1, "values": {"loss": 0.5, "norm": None}}]
    assert client.get(f"{url}/log").json() == {"lines": ["one", "two <b>"]}
    text = client.get(f"{url}/log", headers={"Accept": "text/plain"})
    assert (text.text, text.headers["content-type"]) == ("one\ntwo <b>\n", "text/plain; charset=utf-8")
    assert text.headers["x-content-type-options"] == "nosniff"
    assert "lease" not in client.get(url).text
    assert "fence" not in client.get(url).text
    with database.write() as session:
        failure = {"category": "user", "code": "training_diverged", "message": "NaN", "retryable": False}
        claims.fail(session, claim, failure)
    job = client.get(url).json()
    assert (job["status"], job["failure"]["code"]) == ("failed", "training_diverged")


def test_a_running_job_is_asked_to_stop(client: TestClient, make: Make, database: Database) -> None:
    url = f"/v1/jobs/{make()['id']}"
    with database.write() as session:
        claims.claim(session, "worker", ["cpu", "gpu"])
    job = client.post(f"{url}/cancel").json()
    assert job["status"] == "running"
    assert job["cancel_requested_at"] is not None


def test_a_job_is_paused_and_resumed(client: TestClient, make: Make, database: Database) -> None:
    url = f"/v1/jobs/{make()['id']}"
    assert client.post(f"{url}/pause").json()["status"] == "paused"
    assert client.post(f"{url}/pause").json()["status"] == "paused"
    assert client.post(f"{url}/resume").json()["status"] == "queued"
    with database.write() as session:
        claim = claims.claim(session, "worker", ["cpu", "gpu"])
        assert claim is not None
    asked = client.post(f"{url}/pause").json()
    assert (asked["status"], asked["pause_requested_at"] is not None) == ("running", True)
    pause = {"code": "drift", "message": "KL is over its budget", "findings": []}
    with database.write() as session:
        claims.pause_for_review(session, claim, pause)
    assert client.get(url).json()["pause"] == pause
    resumed = client.post(f"{url}/resume").json()
    assert (resumed["status"], resumed["pause"], resumed["pause_requested_at"]) == ("queued", None, None)
    client.post(f"{url}/cancel")
    for verb in ("pause", "resume"):
        answer = client.post(f"{url}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")


def test_workers_are_told_after_the_job_is_stored(
    client: TestClient, make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []

    def listen(_celery: object, job_id: str, resource_class: str) -> bool:
        with database.read() as session:
            from store.tables import Job

            assert session.get(Job, job_id) is not None
        assert resource_class == "gpu"
        rung.append(job_id)
        return True

    monkeypatch.setattr("store.bell.ring", listen)
    job = make()
    assert rung == [job["id"]]
    assert client.post("/v1/jobs", json={"kind": "score"}).status_code == 422
    assert rung == [job["id"]]


def test_a_job_is_stored_though_the_broker_is_away(
    client: TestClient, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(client.app.state.services.bell, "send_task", refuse)  # type: ignore[attr-defined]
    assert client.get(f"/v1/jobs/{make()['id']}").json()["status"] == "queued"


def test_a_job_may_wait_for_another(client: TestClient, make: Make) -> None:
    scoring = make()
    subset = client.post("/v1/subsets", json={"scoring": scoring["id"], "selection": {"keep": 0.25}})
    assert subset.status_code == 202, subset.text
    job = subset.json()
    assert (job["kind"], job["status"]) == ("select", "waiting")
    assert job["waiting_reason"]
    assert subset.headers["location"] == f"/v1/jobs/{job['id']}"


def test_a_subset_may_take_its_q_diff_from_another_scoring(client: TestClient, make: Make) -> None:
    scoring, other = make(), make()
    body = {
        "scoring": scoring["id"],
        "distribution": other["id"],
        "aspects": {"helpful": 1, "harmless": 0.5},
        "selection": {"keep": 0.25, "by": "length_adjusted", "quota": {"forum": 0.5, "": 0.5}},
    }
    job = client.post("/v1/subsets", json=body).json()
    assert (job["status"], job["spec"]["aspects"]) == ("waiting", {"helpful": 1.0, "harmless": 0.5})
    assert job["spec"]["selection"]["quota"] == {"forum": 0.5, "": 0.5}
    refused = client.post("/v1/subsets", json={**body, "distribution": "sc_none"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (404, "/distribution")


def test_a_pipeline_is_answered_with_its_children(client: TestClient, make: Make) -> None:
    pipeline = make(kind="pipeline", arms=["deft", "random"], random_draws=1)
    kinds = {child["kind"] for child in pipeline["children"]}
    assert {"score", "select", "train", "evaluate"} <= kinds
    assert pipeline["status"] == "queued"
    listed = client.get("/v1/jobs", params={"parent_id": pipeline["id"], "limit": 200}).json()["data"]
    assert {child["id"] for child in listed} == {child["id"] for child in pipeline["children"]}
    cancelled = client.post(f"/v1/jobs/{pipeline['id']}/cancel").json()
    assert {child["status"] for child in cancelled["children"]} == {"cancelled"}


@pytest.mark.parametrize("named", ["{job} {other} {job}", "{made} {other} {made}", "{made} {other} {by}"])
def test_an_evaluation_that_names_one_adapter_by_two_systems_is_refused(
    client: TestClient, upload: Upload, model: str, database: Database, settings: Settings, team_id: str, named: str
) -> None:
    """By the job that has still to make it, by its id, and by its id and the job that made it."""
    files, dataset = ArtifactFiles(settings), upload(40)["id"]
    made, other = (publish_adapter(database, files, team_id) for _ in range(2))
    with database.write() as session:
        by = artifacts.get(session, team_id, made, "adapter").job_id
        session.get_one(Job, by).artifact_id = made
    job = client.post("/v1/jobs", json={"kind": "train", "data": dataset, "model": model, "deft": None}).json()["id"]
    names = named.format(job=job, made=made, by=by, other=other).split()
    systems = [{"name": f"s{place}", "arm": "deft", "adapter": own} for place, own in enumerate(names)]
    body = {"kind": "evaluate", "dataset": dataset, "model": model, "systems": systems}
    for path, accepted in (("/v1/plans", 200), ("/v1/jobs", 202)):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "named_twice"), answer.text
        (error,) = answer.json()["errors"]
        assert (error["pointer"], error["expected"]) == ("/systems/2/adapter", "every adapter once")
        assert error["found"] == f"{names[2]}, which /systems/0/adapter names already"
        assert error["fix"]
        assert client.post(path, json={**body, "systems": systems[:2]}).status_code == accepted
