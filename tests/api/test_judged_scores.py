"""What a judge or people say of an evaluation's answers: in its scores, on the leaderboard, compared, at the gate."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.databases import database_url  # noqa: F401 - this module runs on Postgres too
from tests.evaluations import Evaluated, publish_adapter, publish_evaluation
from tests.judge_server import always_first, best, rating
from tests.judged import all_of, answered, better_in, publish_judging
from tests.recorded import accuracies, writer

Json = dict[str, Any]
SHARES = {"deft": 0.9, "random": 0.3, "random-2": 0.5, "random-3": 0.4}
PROMPTS = 60
QUALITIES = {
    "base": [5] * PROMPTS,
    **{name: better_in(share, PROMPTS, shift=7 * n) for n, (name, share) in enumerate(SHARES.items())},
}
RULES = {"forgetting": {"metric": "preference_accuracy", "at_most": 1.0}, "safety": {"at_most": 1.0}, "approvals": 0}


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def evaluate(database: Database, files: ArtifactFiles, team_id: str) -> Callable[[], Evaluated]:
    """Publish an evaluation of four adapters, three of them draws of one arm, with answers of known quality."""
    adapters = {name: publish_adapter(database, files, team_id) for name in SHARES}

    def publish() -> Evaluated:
        write = all_of(writer(accuracies(dict.fromkeys(SHARES, 0.5))), answered(QUALITIES))
        return publish_evaluation(database, files, team_id, rows=PROMPTS, adapters=adapters, write=write)

    return publish


@pytest.fixture
def judge(database: Database, files: ArtifactFiles, team_id: str) -> Callable[..., str]:
    def publish(evaluated: Evaluated, **more: Any) -> str:
        return publish_judging(database, files, team_id, evaluated, **more)

    return publish


def ask_release(client: TestClient, evaluated: Evaluated, gain: Json, **named: str) -> Any:
    name = f"p{len(client.get('/v1/policies').json()['data'])}"
    made = client.post("/v1/policies", json={"name": name, "gain": gain, **RULES})
    assert made.status_code == 201, made.text
    body = {"adapter": evaluated.adapters["deft"], "evaluation": evaluated.id, "policy": name, **named}
    return client.post("/v1/releases", json=body)


def gain_of(client: TestClient, evaluated: Evaluated, gain: Json, **named: str) -> Json:
    answer = ask_release(client, evaluated, gain, **named)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()["clauses"][0]
    return found


def test_an_evaluation_in_a_list_has_the_scores_of_its_judgings(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one, other = evaluate(), evaluate()
    judging = judge(one)
    assert [found["id"] for found in client.get("/v1/evaluations").json()["data"]] == [other.id, one.id]
    named = {"metric": "judge_win_rate", "system": "deft"}
    (found,) = client.get("/v1/evaluations", params=named).json()["data"]
    (score,) = found["scores"]
    assert (found["id"], score["judging_id"], score["value"]) == (one.id, judging, 0.9)
    assert score["adapter_id"] == one.adapters["deft"]
    assert score["low"] < 0.9 < score["high"]
    every = client.get("/v1/evaluations", params={"adapter": one.adapters["deft"]}).json()["data"][1]["scores"]
    said = {(score["metric"], score["judging_id"]) for score in every}
    controlled = "judge_win_rate_length_controlled"
    assert said == {("preference_accuracy", None), ("judge_win_rate", judging), (controlled, judging)}


def test_the_leaderboard_ranks_by_a_judge_that_may_decide(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str], stranger: TestClient
) -> None:
    one = evaluate()
    judging = judge(one)
    params = {"metric": "judge_win_rate"}
    (board,) = client.get("/v1/leaderboard", params=params).json()["boards"]
    assert [(p["system"], p["rank"], p["value"]) for p in board["places"]] == [
        ("deft", 1, 0.9),
        ("random-2", 2, 0.5),
        ("random-3", 3, 0.4),
        ("random", 4, 0.3),
    ]
    assert {(place["evaluation_id"], place["judging_id"]) for place in board["places"]} == {(one.id, judging)}
    assert stranger.get("/v1/leaderboard", params=params).json()["boards"] == []
    judge(one, labelled=49, judge={"model": "judge-2"})
    newest, _ = client.get("/v1/leaderboard", params=params).json()["boards"]
    assert {place["rank"] for place in newest["places"]} == {None}


def test_single_answers_have_scores_too(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate()
    judge(one, mode="single", behave=rating, labelled=0)
    for metric, value in (("judge_score", 8.2), ("judge_score_gain", 3.2)):
        (board,) = client.get("/v1/leaderboard", params={"metric": metric}).json()["boards"]
        assert board["places"][0]["value"] == pytest.approx(value)


def compared(client: TestClient, left: Json, right: Json, **more: Any) -> Any:
    return client.post("/v1/comparisons", json={"left": left, "right": right, **more})


def test_two_systems_are_compared_by_one_judging_prompt_by_prompt(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate()
    side = {"evaluation": one.id, "judging": judge(one)}
    found = compared(client, {**side, "system": "deft"}, {**side, "system": "random"}).json()["metrics"]
    assert set(found) == {"preference_accuracy", "judge_win_rate", "judge_win_rate_length_controlled"}
    rate = found["judge_win_rate"]
    assert (rate["difference"], rate["is_paired"], rate["has_luck"]) == (pytest.approx(0.5), True, True)
    assert rate["right"]["systems"] == ["random", "random-2", "random-3"]
    assert rate["right"]["value"] == pytest.approx(0.4)
    assert found["judge_win_rate_length_controlled"]["is_paired"] is False
    base = compared(client, {**side, "system": "deft"}, {**side, "system": "base"}, metrics=["judge_win_rate"]).json()
    assert base["metrics"]["judge_win_rate"]["difference"] == pytest.approx(0.4)


def test_judges_that_are_not_alike_are_not_compared_unless_forced(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one, other = evaluate(), evaluate()
    sides = [
        {"evaluation": one.id, "system": "deft", "judging": judge(one)},
        {"evaluation": other.id, "system": "random", "judging": judge(other, judge={"model": "judge-2"})},
    ]
    refused = compared(client, *sides)
    assert (refused.status_code, refused.json()["code"]) == (409, "incomparable_evaluations")
    assert "judge differ" in refused.json()["detail"]
    forced = compared(client, *sides, force=True).json()
    assert forced["is_forced"]
    assert forced["differing_settings"]["judge"]["right"]["model"] == "judge-2"
    assert [forced["metrics"][name]["is_comparable"] for name in ("judge_win_rate", "preference_accuracy")] == [
        False,
        True,
    ]
    alike = {**sides[1], "judging": judge(other)}
    found = compared(client, sides[0], alike).json()["metrics"]["judge_win_rate"]
    assert (found["is_comparable"], found["is_paired"], found["difference"]) == (True, True, pytest.approx(0.5))


def test_a_judging_of_other_answers_is_refused(
    client: TestClient, stranger: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one, other = evaluate(), evaluate()
    judging = judge(other)
    side = {"evaluation": one.id, "system": "deft"}
    for named, status, code in ((judging, 422, "other_evaluation"), ("jg_none", 404, "reference_not_found")):
        answer = compared(client, side, {**side, "system": "random", "judging": named})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["errors"][0]["pointer"] == "/right/judging"
        answer = ask_release(client, one, {"metric": "judge_win_rate"}, judging=named)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, "/judging")


@pytest.mark.parametrize(
    ("pointer", "expected", "lists"),
    [
        ("/adapter", "the id of an adapter or a tuned model", ["adapters", "tuned_models"]),
        ("/evaluation", "the id of an evaluation", ["evaluations"]),
        ("/policy", "the id or name of a policy", ["policies"]),
        ("/judging", "the id of a judging", ["judgings"]),
        ("/study", "the id of a study", ["studies"]),
    ],
)
def test_what_a_release_names_and_the_team_has_not_is_refused_with_where_to_look(
    client: TestClient, evaluate: Callable[[], Evaluated], pointer: str, expected: str, lists: list[str]
) -> None:
    one = evaluate()
    gain = "human_win_rate" if pointer == "/study" else "judge_win_rate"
    client.post("/v1/policies", json={"name": "p", "gain": {"metric": gain, "at_least": 0.0}, **RULES})
    named = {"adapter": one.adapters["deft"], "evaluation": one.id, "policy": "p", pointer[1:]: "none"}
    answer = client.post("/v1/releases", json=named)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"], error["pointer"]) == (404, "reference_not_found", pointer)
    assert (error["found"], error["expected"]) == ("none", f"{expected} that your team has")
    assert error["fix"] == f"list them: {', '.join(f'GET /v1/{name}' for name in lists)}"
    assert [client.get(f"/v1/{name}").status_code for name in lists] == [200] * len(lists)


def test_a_win_rate_by_a_judge_that_people_agree_with_decides_the_gain(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate()
    judging = judge(one)
    gain = gain_of(client, one, {"metric": "judge_win_rate", "at_least": 0.0, "against": "base"}, judging=judging)
    assert (gain["value"], gain["is_met"], gain["is_paired"]) == (pytest.approx(0.4), True, True)
    arm = gain_of(client, one, {"metric": "judge_win_rate", "at_least": 0.0, "against": "random"}, judging=judging)
    assert (arm["value"], arm["is_met"]) == (pytest.approx(0.5), True)
    assert (arm["against_systems"], arm["has_luck"]) == (["random", "random-2", "random-3"], True)
    controlled = {"metric": "judge_win_rate_length_controlled", "at_least": 0.0}
    assert gain_of(client, one, controlled, judging=judging)["is_met"]
    too_much = {"metric": "judge_win_rate", "at_least": 0.45}
    answer = ask_release(client, one, too_much, judging=judging).json()
    assert (answer["judging_id"], answer["clauses"][0]["is_met"]) == (judging, False)


@pytest.mark.parametrize("judged", [PROMPTS, PROMPTS // 2])
def test_a_gain_by_a_judge_says_how_many_of_the_prompts_it_is_over(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str], judged: int
) -> None:
    """Labelled pairs, which are judged beside, are none of them."""
    one = evaluate()
    gain = gain_of(client, one, {"metric": "judge_win_rate", "at_least": -1.0}, judging=judge(one, prompts=judged))
    assert (gain["judged_prompts"], gain["answered_prompts"], gain["is_met"]) == (judged, PROMPTS, True)
    other = gain_of(client, one, {"metric": "preference_accuracy", "at_least": -1.0})
    assert (other["judged_prompts"], other["answered_prompts"]) == (None, None)


def test_a_judge_without_the_agreement_of_people_decides_nothing(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate()
    asked = {"metric": "judge_win_rate", "at_least": -1.0}
    for how, why in (
        ({"labelled": 49}, "only 49 labelled pairs were judged, 50 are needed"),
        ({"labelled": 0}, "no pair that people have labelled"),
        ({"behave": always_first}, "the lower bound of its agreement with people"),
    ):
        gain = gain_of(client, one, asked, judging=judge(one, **how))
        assert not gain["is_met"]
        assert why in gain["reason"]
        assert gain["value"] is not None
    unreadable = judge(
        one, behave=lambda question: best(question) if "Labelled" in question or "from 00" in question else "Hm."
    )
    gain = gain_of(client, one, asked, judging=unreadable)
    assert (gain["is_met"], "of its verdicts could not be read" in gain["reason"]) == (False, True)
    missing = gain_of(client, one, asked)
    assert (missing["is_met"], missing["value"]) == (False, None)
    assert "was not measured: name a judging of the evaluation" in missing["reason"]
    other = gain_of(client, one, asked, judging=judge(one, against="random", systems=["deft"]))
    assert "against base was not measured: the judging tells how systems do against random" in other["reason"]


def test_a_judging_of_one_draw_of_an_arm_is_no_number_of_the_arm(
    client: TestClient, evaluate: Callable[[], Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate()
    judging = judge(one, systems=["deft"], against="random-2")
    asked = {"metric": "judge_win_rate", "at_least": -1.0, "against": "random"}
    gain = gain_of(client, one, asked, judging=judging)
    assert (gain["is_met"], gain["value"], gain["against_systems"]) == (False, None, [])
    assert "for all its draws, random, random-3 being left out" in gain["reason"]
    single = gain_of(client, one, {**asked, "against": "random-2"}, judging=judging)
    assert (single["is_met"], single["against_systems"]) == (True, ["random-2"])
    side = {"evaluation": one.id, "judging": judging}
    sides = {**side, "system": "deft"}, {**side, "system": "random"}
    assert set(compared(client, *sides).json()["metrics"]) == {"preference_accuracy"}
    refused = compared(client, *sides, metrics=["judge_win_rate"])
    assert (refused.status_code, refused.json()["code"]) == (422, "not_measured")
    assert "measure it of random, random-3 too, name one system" in refused.text


def test_a_study_of_one_draw_of_an_arm_is_no_number_of_the_arm(
    client: TestClient, evaluate: Callable[[], Evaluated]
) -> None:
    one = evaluate()
    study = studied(client, one, ["deft", "random-2"])
    client.post(f"/v1/studies/{study}/close")
    gain = gain_of(client, one, {"metric": "human_win_rate", "at_least": -1.0, "against": "random"}, study=study)
    assert (gain["is_met"], gain["value"]) == (False, None)
    assert "for all its draws, random, random-3 being left out" in gain["reason"]


def studied(
    client: TestClient, evaluated: Evaluated, systems: list[str], items: int = 60, rater: str | None = "a person"
) -> str:
    """Make a study and judge all of it, as an invited *rater* or (None) with the caller's key: quality wins."""
    body = {"evaluation": evaluated.id, "systems": systems, "items": items, "overlap": 0.0, "attention": 0, "seed": 1}
    study = client.post("/v1/studies", json=body).json()["id"]
    headers = {}
    if rater is not None:
        token = client.post(f"/v1/studies/{study}/raters", json={"name": rater}).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
    while (item := client.post(f"/v1/studies/{study}/rating/next", headers=headers).json().get("item")) is not None:
        better = "1" if quality_of(item["response_1"]) > quality_of(item["response_2"]) else "2"
        at = f"/v1/studies/{study}/rating/items/{item['id']}"
        client.put(at, json={"verdict": better}, headers=headers)
    return str(study)


def quality_of(text: str) -> int:
    return int(text.partition("quality=")[2].partition(" ")[0])


def test_the_win_rate_of_a_closed_study_decides_the_gain(client: TestClient, evaluate: Callable[[], Evaluated]) -> None:
    one = evaluate()
    study = studied(client, one, ["base", "deft"])
    asked = {"metric": "human_win_rate", "at_least": 0.0}
    still_open = gain_of(client, one, asked, study=study)
    assert (still_open["is_met"], "the study is still open" in still_open["reason"]) == (False, True)
    client.post(f"/v1/studies/{study}/close")
    rate = client.get(f"/v1/studies/{study}/results").json()["win_rate"]
    gain = gain_of(client, one, asked, study=study)
    assert (gain["value"], gain["low"]) == (pytest.approx(0.5 - rate["value"]), pytest.approx(0.5 - rate["high"]))
    assert (gain["is_met"], gain["against_systems"]) == (True, ["base"])
    swapped = studied(client, one, ["deft", "base"])
    client.post(f"/v1/studies/{swapped}/close")
    other = gain_of(client, one, asked, study=swapped)
    first = client.get(f"/v1/studies/{swapped}/results").json()["win_rate"]
    assert (other["value"], other["low"]) == (pytest.approx(first["value"] - 0.5), pytest.approx(first["low"] - 0.5))


def test_a_closed_study_is_a_score_of_its_evaluation_and_a_board(
    client: TestClient, stranger: TestClient, evaluate: Callable[[], Evaluated]
) -> None:
    one, other = evaluate(), evaluate()
    studies = [studied(client, one, ["random", "deft"], items=20), studied(client, one, ["base", "deft"])]
    by_metric = {"metric": "human_win_rate"}
    assert client.get("/v1/evaluations", params=by_metric).json()["data"] == []
    assert client.get("/v1/leaderboard", params=by_metric).json()["boards"] == []
    for study in studies * 2:
        closed = client.post(f"/v1/studies/{study}/close").json()
    (found,) = client.get("/v1/evaluations", params=by_metric).json()["data"]
    assert found["id"] == one.id
    told = {(score["study_id"], score["system"]): score for score in found["scores"]}
    for study, first in zip(studies, ("random", "base"), strict=True):
        results = client.get(f"/v1/studies/{study}/results").json()
        rate, is_enough = results["win_rate"], first == "base"
        assert (results["judged_pairs"] >= 50) == is_enough
        ours, theirs = told[study, first], told[study, "deft"]
        assert (ours["value"], ours["low"], ours["high"], ours["n"]) == tuple(
            rate[name] for name in ("value", "low", "high", "n")
        )
        assert theirs["value"] == pytest.approx(1 - rate["value"])
        assert (theirs["low"], theirs["high"]) == (pytest.approx(1 - rate["high"]), pytest.approx(1 - rate["low"]))
        assert theirs["settings_hash"] == ours["settings_hash"]
        assert (ours["metric"], ours["slice"], ours["arm"]) == (f"human_win_rate:{study}", "all", first)
        assert (ours["is_valid"], theirs["is_valid"], ours["judging_id"]) == (is_enough, is_enough, None)
    assert len(told) == 4
    assert len({score["settings_hash"] for score in told.values()}) == 2
    alone = client.get("/v1/evaluations", params={"metric": f"human_win_rate:{studies[0]}", "system": "deft"})
    assert [score["study_id"] for score in alone.json()["data"][0]["scores"]] == [studies[0]]
    latest, first = client.get("/v1/leaderboard", params=by_metric).json()["boards"]
    ranks = [[(place["system"], place["rank"], place["study_id"]) for place in b["places"]] for b in (latest, first)]
    assert ranks[0] == [("deft", 1, studies[1])]  # the base is no adapter
    assert ranks[1] == [("deft", None, studies[0]), ("random", None, studies[0])]
    assert latest["places"][0]["adapter_id"] == one.adapters["deft"]
    assert latest["places"][0]["measured_at"] == closed["closed_at"]
    assert stranger.get("/v1/evaluations", params=by_metric).json()["data"] == []
    assert other.id not in str(client.get("/v1/leaderboard", params=by_metric).json())


def test_a_study_of_few_items_has_a_score_without_a_rank_and_one_without_judgements_none(
    client: TestClient, evaluate: Callable[[], Evaluated]
) -> None:
    one = evaluate()
    few = studied(client, one, ["random", "deft"], items=12)
    body = {"evaluation": one.id, "systems": ["random", "deft"], "items": 12}
    for study in (few, client.post("/v1/studies", json=body).json()["id"]):
        client.post(f"/v1/studies/{study}/close")
    (board,) = client.get("/v1/leaderboard", params={"metric": "human_win_rate"}).json()["boards"]
    assert [(place["study_id"], place["rank"], place["n"]) for place in board["places"]] == [(few, None, 12)] * 2


@pytest.mark.parametrize(("items", "rater", "judged"), [(60, None, 0), (49, "a person", 49)])
def test_a_study_that_others_hardly_judged_decides_nothing(
    client: TestClient, evaluate: Callable[[], Evaluated], items: int, rater: str | None, judged: int
) -> None:
    one = evaluate()
    study = studied(client, one, ["base", "deft"], items, rater)
    client.post(f"/v1/studies/{study}/close")
    gain = gain_of(client, one, {"metric": "human_win_rate", "at_least": 0.0}, study=study)
    assert (gain["is_met"], gain["value"] is None) == (False, judged == 0)
    assert gain["judgements_left_out"] == (60 if rater is None else 0)
    assert f"{judged} of its items were judged by others than the keys" in gain["reason"]


def test_a_study_of_other_systems_or_answers_decides_nothing(
    client: TestClient, evaluate: Callable[[], Evaluated]
) -> None:
    one, other = evaluate(), evaluate()
    study = studied(client, one, ["base", "random"])
    client.post(f"/v1/studies/{study}/close")
    asked = {"metric": "human_win_rate", "at_least": -1.0}
    assert "was not measured: name a study" in gain_of(client, one, asked)["reason"]
    reason = gain_of(client, one, asked, study=study)["reason"]
    assert "was not measured: name a study" in reason
    assert reason.endswith(f"; the named one, {study}, is of `base` and `random`, not of `deft`")
    refused = ask_release(client, other, asked, study=study)
    assert (refused.status_code, refused.json()["code"]) == (422, "other_evaluation")
    assert ask_release(client, other, asked, study="st_none").status_code == 404
