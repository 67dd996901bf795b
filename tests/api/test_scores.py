"""Evaluations by what they measured, the leaderboard, and comparisons of two evaluations."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deft.evaluation.metrics import Who
from store import models
from store.artifacts import ArtifactFiles
from store.database import Database
from store.evaluations import adapters_of
from store.settings import Settings
from store.tables import Job
from tests.evaluations import Evaluated, publish_adapter, publish_evaluation, score
from tests.recorded import accuracies, measure, right, writer

Json = dict[str, Any]
LIKE = {"length": {"prompts": "p1", "seed": 0}, "bleu": {"prompts": "p1", "seed": 0}}


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


def numbers(good: float, bad: float, **more: Any) -> list[Json]:
    return [
        score("good", "length", good, good - 1, good + 1, **more),
        score("bad", "length", bad, bad - 1, bad + 1, **more),
        score("good", "bleu", 3.0, 2.0, 4.0, **more),
        score("good", "length", 1.0, 0.0, 2.0, **{**more, "slice": "source:web"}),
    ]


@pytest.fixture
def two(database: Database, files: ArtifactFiles, team_id: str) -> list[Evaluated]:
    """Two evaluations made alike, of four adapters."""
    return [
        publish_evaluation(database, files, team_id, metrics=numbers(good, bad), settings=LIKE)
        for good, bad in ((30.0, 20.0), (40.0, 20.5))
    ]


def test_evaluations_come_with_their_scores_and_adapters(client: TestClient, two: list[Evaluated]) -> None:
    found = client.get("/v1/evaluations").json()["data"]
    assert [one["id"] for one in found] == [two[1].id, two[0].id]
    scores = found[0]["scores"]
    assert [(one["metric"], one["system"]) for one in scores] == [
        ("bleu", "good"),
        ("length", "bad"),
        ("length", "good"),
    ]
    assert scores[2]["adapter_id"] == two[1].adapters["good"]
    assert (scores[2]["value"], scores[2]["low"], scores[2]["settings_hash"]) == (40.0, 39.0, "h1")


def test_an_adapter_that_was_measured_as_two_systems_stands_with_the_first_by_name(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    adapter = publish_adapter(database, files, team_id)
    own = [score(name, "bleu", value, value - 1, value + 1) for name, value in (("b", 5.0), ("a", 3.0), ("c", 4.0))]
    evaluated = publish_evaluation(database, files, team_id, metrics=own, adapters=dict.fromkeys("bac", adapter))
    (board,) = client.get("/v1/leaderboard", params={"metric": "bleu"}).json()["boards"]
    (place,) = board["places"]
    assert (place["system"], place["value"], place["evaluation_id"]) == ("a", 3.0, evaluated.id)
    with database.read() as session:
        assert list(adapters_of(session, team_id, [evaluated.job])[evaluated.job]) == ["b", "a", "c"]


def test_every_filter_must_match(
    client: TestClient, two: list[Evaluated], database: Database, settings: Settings, model: str
) -> None:
    with database.write() as session:
        session.get_one(Job, two[0].job).model_id = models.get(session, "team", model).id

    def ids(**params: str) -> list[str]:
        answer = client.get("/v1/evaluations", params=params)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["data"]]

    assert ids(model=model) == [two[0].id]
    assert ids(dataset=two[1].dataset) == [two[1].id]
    assert ids(adapter=two[0].adapters["bad"]) == [two[0].id]
    assert ids(adapter=two[0].adapters["bad"], dataset=two[1].dataset) == []
    assert ids(metric="bleu", system="good") == [two[1].id, two[0].id]
    assert ids(metric="bleu", system="bad") == []
    assert ids(settings_hash="other") == []
    sliced = client.get("/v1/evaluations", params={"slice": "source:web"}).json()["data"]
    assert [score["slice"] for one in sliced for score in one["scores"]] == ["source:web"] * 2


def test_a_model_that_is_not_there_is_an_error_and_no_empty_list(client: TestClient) -> None:
    answer = client.get("/v1/evaluations", params={"model": "none"})
    assert (answer.status_code, answer.json()["code"]) == (422, "model_not_found")
    assert client.get("/v1/evaluations", params={"metrik": "x"}).status_code == 422


def test_the_leaderboard_ranks_adapters_of_like_settings(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    def publish(good: float, bad: float, **more: Any) -> Evaluated:
        metrics = [score(who, "bleu", v, v - 1, v + 1, **more) for who, v in (("good", good), ("bad", bad))]
        return publish_evaluation(database, files, team_id, metrics=metrics)

    two = [publish(30.0, 20.0), publish(40.0, 20.5)]
    publish(90.0, 80.0, settings_hash="h2")
    board = client.get("/v1/leaderboard", params={"metric": "bleu"}).json()
    assert [one["settings_hash"] for one in board["boards"]] == ["h2", "h1"]
    assert board["better"] == "higher"
    named = {"metric": "bleu", "settings_hash": "h1"}
    (places,) = client.get("/v1/leaderboard", params=named).json()["boards"]
    assert [(one["adapter_id"], one["rank"], one["best_rank"], one["worst_rank"]) for one in places["places"]] == [
        (two[1].adapters["good"], 1, 1, 1),
        (two[0].adapters["good"], 2, 2, 2),
        (two[1].adapters["bad"], 3, 3, 4),
        (two[0].adapters["bad"], 4, 3, 4),
    ]
    (least,) = client.get("/v1/leaderboard", params={**named, "order": "asc"}).json()["boards"]
    assert least["places"] == places["places"][::-1]


def test_scores_of_the_harness_are_asked_for_by_their_names(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    metric = "lm_eval:arc_easy/acc_norm,strict-match"
    metrics = [score("good", metric, 0.6, 0.5, 0.7), score("bad", metric, 0.4, 0.3, 0.45)]
    published = publish_evaluation(database, files, team_id, metrics=metrics)
    found = client.get("/v1/evaluations", params={"metric": metric}).json()["data"]
    assert [(one["id"], len(one["scores"])) for one in found] == [(published.id, 2)]
    answer = client.get("/v1/leaderboard", params={"metric": metric}).json()
    (board,) = answer["boards"]
    assert answer["better"] == "higher"
    assert [(one["rank"], one["value"]) for one in board["places"]] == [(1, 0.6), (2, 0.4)]


@pytest.mark.parametrize("metric", ["reward", "reward_logit"])
def test_the_bare_name_finds_what_any_reward_model_says(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str, metric: str
) -> None:
    names = [f"{metric}:rm_{place}" for place in (1, 2)]
    metrics = [score("good", name, 0.6, 0.5, 0.7, settings_hash=name) for name in names]
    other = "reward_logit" if metric == "reward" else "reward"
    metrics.append(score("good", f"{other}:rm_1", 0.1, 0.0, 0.2, settings_hash="other"))
    published = publish_evaluation(database, files, team_id, metrics=metrics)
    found = client.get("/v1/evaluations", params={"metric": metric}).json()["data"]
    assert [(one["id"], [each["metric"] for each in one["scores"]]) for one in found] == [(published.id, names)]
    boards = client.get("/v1/leaderboard", params={"metric": metric}).json()["boards"]
    assert sorted((board["settings_hash"], board["places"][0]["metric"]) for board in boards) == [(n, n) for n in names]
    (alone,) = client.get("/v1/leaderboard", params={"metric": names[0]}).json()["boards"]
    assert alone["places"][0]["metric"] == names[0]


def test_where_neither_end_is_better_nobody_ranks(client: TestClient, two: list[Evaluated]) -> None:
    found = client.get("/v1/leaderboard", params={"metric": "length"}).json()
    assert found["better"] is None
    (board,) = found["boards"]
    assert [one["value"] for one in board["places"]] == [40.0, 30.0, 20.5, 20.0]
    assert {(one["rank"], one["best_rank"], one["worst_rank"]) for one in board["places"]} == {(None, None, None)}


@pytest.mark.parametrize("path", ["/v1/leaderboard", "/v1/evaluations"])
@pytest.mark.parametrize("metric", ["acuracy", "human_win", "reward_model:rm_1"])
def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are(
    client: TestClient, path: str, metric: str
) -> None:
    answer = client.get(path, params={"metric": metric})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_metric")
    (error,) = answer.json()["errors"]
    assert "preference_accuracy, margin" in error["expected"]
    assert "judge_win_rate" in error["expected"]
    assert "human_win_rate" in error["expected"]
    assert client.get(path, params={"metric": "reward:rm_1"}).status_code == 200


def test_an_adapter_stands_once_with_its_newest_number(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    adapters = {"good": publish_adapter(database, files, team_id)}
    for value in (9.0, 3.0):
        metrics = [score("good", "bleu", value, value - 1, value + 1)]
        publish_evaluation(database, files, team_id, metrics=metrics, adapters=adapters)
    (board,) = client.get("/v1/leaderboard", params={"metric": "bleu"}).json()["boards"]
    assert [one["value"] for one in board["places"]] == [3.0]


def test_a_leaderboard_shows_only_the_teams_own(two: list[Evaluated], stranger: TestClient) -> None:
    assert stranger.get("/v1/leaderboard", params={"metric": "length"}).json()["boards"] == []
    assert stranger.get("/v1/evaluations").json()["data"] == []


def compared(client: TestClient, left: Evaluated, right: Evaluated, **more: Any) -> Any:
    sides = {"left": {"evaluation": left.id, "system": "good"}, "right": {"evaluation": right.id, "system": "good"}}
    return client.post("/v1/comparisons", json={**sides, **more})


def test_like_evaluations_are_compared_with_an_interval(client: TestClient, two: list[Evaluated]) -> None:
    answer = compared(client, two[1], two[0])
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["is_forced"], found["differing_settings"]) == (False, {})
    length = found["metrics"]["length"]
    assert length["difference"] == 10.0
    assert (length["low"], length["high"]) == (pytest.approx(10 - 2**0.5), pytest.approx(10 + 2**0.5))
    assert (length["is_paired"], length["is_comparable"]) == (False, True)
    assert (length["p"], length["p_adjusted"], length["effect_size"], length["comparisons"]) == (None, None, None, 0)
    assert set(found["metrics"]) == {"bleu", "length"}
    assert client.get(answer.headers["location"]).json() == found
    assert client.get("/v1/comparisons").json()["data"] == [found]


def test_unlike_evaluations_are_refused_unless_forced_and_then_marked(
    client: TestClient, two: list[Evaluated], database: Database, files: ArtifactFiles, team_id: str
) -> None:
    settings = {"length": {"prompts": "p2", "seed": 0}, "bleu": LIKE["bleu"]}
    other = publish_evaluation(database, files, team_id, metrics=numbers(50.0, 20.0), settings=settings)
    refused = compared(client, two[0], other)
    assert (refused.status_code, refused.json()["code"]) == (409, "incomparable_evaluations")
    assert "prompts differ" in refused.json()["detail"]
    assert refused.json()["errors"][0]["found"] == '"p2"'
    assert client.get("/v1/comparisons").json()["data"] == []
    assert compared(client, two[0], other, metrics=["bleu"]).status_code == 201
    forced = compared(client, two[0], other, force=True).json()
    assert forced["is_forced"]
    assert forced["differing_settings"] == {"prompts": {"left": "p1", "right": "p2", "metrics": ["length"]}}
    assert (forced["metrics"]["length"]["is_comparable"], forced["metrics"]["bleu"]["is_comparable"]) == (False, True)


def test_two_systems_of_one_evaluation_are_compared_by_their_paired_difference(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    paired = {"metric": "length", "arm": "good", "against": "bad", "difference": 10.0, "low": 9.9, "high": 10.1}
    one = publish_evaluation(database, files, team_id, metrics=numbers(30.0, 20.0), differences=[paired])
    sides = {"left": {"evaluation": one.id, "system": "bad"}, "right": {"evaluation": one.id, "system": "good"}}
    found = client.post("/v1/comparisons", json=sides).json()["metrics"]["length"]
    assert (found["difference"], found["low"], found["high"], found["is_paired"]) == (-10.0, -10.1, -9.9, True)


SHARES = {"deft": 0.7, "random": 0.4, "random-2": 0.6, "random-3": 0.5}


def of_draws(database: Database, files: ArtifactFiles, team_id: str, shares: dict[str, float]) -> Evaluated:
    adapters = {name: publish_adapter(database, files, team_id) for name in shares}
    return publish_evaluation(database, files, team_id, adapters=adapters, write=writer(accuracies(shares)))


def test_the_name_of_an_arm_means_all_its_draws(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    one = of_draws(database, files, team_id, SHARES)
    sides = {name: {"evaluation": one.id, "system": who} for name, who in (("left", "deft"), ("right", "random"))}
    found = client.post("/v1/comparisons", json=sides).json()["metrics"]["preference_accuracy"]
    comparison = client.get(f"/v1/evaluations/{one.id}").json()["comparison"]
    (told,) = (d for d in comparison["differences"] if (d["arm"], d["against"]) == ("deft", "random"))
    (arm,) = (row for row in comparison["table"] if row["arm"] == "random")
    assert (found["difference"], found["low"], found["high"]) == (told["difference"], told["low"], told["high"])
    assert (found["p"], found["effect_size"]) == (told["p"], told["effect_size"])
    assert (found["is_paired"], found["has_luck"]) == (True, True)
    assert found["right"]["systems"] == ["random", "random-2", "random-3"]
    cell = arm["cells"]["preference_accuracy"]
    assert [found["right"][name] for name in ("value", "low", "high")] == pytest.approx(
        [cell[name] for name in ("value", "low", "high")]
    )


def test_p_values_are_corrected_for_the_metrics_that_are_compared(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    adapters = {name: publish_adapter(database, files, team_id) for name in ("deft", "random")}
    measured = [
        measure(metric, Who(name, name), right(share, seed=n), bounds=(0.0, 1.0))
        for metric, shares in (("ended", (0.9, 0.5)), ("distinct_1", (0.6, 0.5)))
        for n, (name, share) in enumerate(zip(adapters, shares, strict=True))
    ]
    one = publish_evaluation(database, files, team_id, adapters=adapters, write=writer(measured))
    sides = {name: {"evaluation": one.id, "system": who} for name, who in (("left", "deft"), ("right", "random"))}
    found = client.post("/v1/comparisons", json=sides).json()["metrics"]
    small, large = found["ended"], found["distinct_1"]
    assert small["p"] < large["p"]
    assert small["p_adjusted"] == pytest.approx(2 * small["p"])
    assert large["p_adjusted"] == pytest.approx(large["p"])
    assert [own["comparisons"] for own in found.values()] == [2, 2]
    alone = client.post("/v1/comparisons", json={**sides, "metrics": ["ended"]}).json()["metrics"]["ended"]
    assert (alone["p_adjusted"], alone["comparisons"]) == (small["p"], 1)
    turned = {"left": sides["right"], "right": sides["left"]}
    back = client.post("/v1/comparisons", json=turned).json()["metrics"]["ended"]
    assert (back["p"], back["effect_size"]) == (small["p"], -small["effect_size"])


def test_two_evaluations_over_the_same_rows_are_compared_prompt_by_prompt(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    one, other = (of_draws(database, files, team_id, {"deft": share, "random": 0.5}) for share in (0.7, 0.6))
    sides = {"left": {"evaluation": one.id, "system": "deft"}, "right": {"evaluation": other.id, "system": "deft"}}
    found = client.post("/v1/comparisons", json=sides).json()["metrics"]["preference_accuracy"]
    assert (found["difference"], found["is_paired"], found["has_luck"]) == (pytest.approx(0.1), True, False)
    base = {**sides, "right": {"evaluation": other.id, "system": "base"}}
    against_base = client.post("/v1/comparisons", json=base).json()["metrics"]["preference_accuracy"]
    assert (against_base["difference"], against_base["is_paired"]) == (pytest.approx(0.2), True)


def test_what_was_not_measured_is_refused_with_its_place(
    client: TestClient, stranger: TestClient, two: list[Evaluated]
) -> None:
    answer = compared(client, two[0], two[1], metrics=["length", "kl"])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/metrics/1")
    sides = {"left": {"evaluation": two[0].id, "system": "none"}, "right": {"evaluation": two[1].id, "system": "good"}}
    assert client.post("/v1/comparisons", json=sides).json()["errors"][0]["pointer"] == "/left/system"
    assert compared(stranger, two[0], two[1]).status_code == 404
