"""What keys with a part in a study's systems judged: it takes no place, and no part in a score or at the gate."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from store import accounts, raters, rating
from store.accounts import Caller
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.evaluations import Evaluated, publish_adapter, publish_evaluation
from tests.judged import all_of, answered
from tests.recorded import accuracies, writer

Json = dict[str, Any]
ITEMS = 60
POLICY = {
    "name": "people",
    "gain": {"metric": "human_win_rate", "at_least": 0.0},
    "forgetting": {"metric": "preference_accuracy", "at_most": 1.0},
    "safety": {"at_most": 1.0},
    "approvals": 0,
}


@pytest.fixture
def trainer(app: FastAPI, database: Database, team_id: str) -> Iterator[TestClient]:
    """A client with the key that trained `deft`."""
    with database.write() as session:
        text = accounts.create_key(session, team_id, "trainer")[1]
    with TestClient(app, headers={"Authorization": f"Bearer {text}"}, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def evaluated(database: Database, settings: Settings, team_id: str, trainer: TestClient) -> Evaluated:
    """An evaluation of an adapter of which every answer can be told from the base's."""
    files = ArtifactFiles(settings)
    with database.read() as session:
        key_id = accounts.authenticate(session, key_of(trainer)).key_id
    adapters = {"deft": publish_adapter(database, files, team_id, key_id)}
    qualities = {"base": [1] * ITEMS, "deft": [2] * ITEMS}
    write = all_of(writer(accuracies({"deft": 0.5})), answered(qualities))
    return publish_evaluation(database, files, team_id, rows=ITEMS, adapters=adapters, write=write)


@pytest.fixture
def study(client: TestClient, evaluated: Evaluated) -> Callable[..., str]:
    def make(**more: Any) -> str:
        body = {"evaluation": evaluated.id, "systems": ["base", "deft"], "items": ITEMS, "attention": 0, "seed": 1}
        made = client.post("/v1/studies", json={**body, "overlap": 0.0, **more})
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    return make


@pytest.fixture
def vote(database: Database) -> Callable[..., int]:
    """Judge as many items as there are for *key*, *most* at most, all for the system *prefers*; return how many."""

    def judge(key: str, study: str, prefers: str, most: int = ITEMS) -> int:
        mark = {"base": "quality=1", "deft": "quality=2"}[prefers]
        with database.write() as session:
            rater = raters.authenticate_rater(session, study, key)
            rater = raters.join(session, study, rater) if isinstance(rater, Caller) else rater
            for done in range(most):
                item = rating.next_item(session, rater)
                if item is None:
                    return done
                rating.judge(session, rater, item.id, "1" if mark in item.first else "2")
        return most

    return judge


def invited(client: TestClient, study: str) -> str:
    return str(client.post(f"/v1/studies/{study}/raters", json={"name": "a person"}).json()["token"])


def key_of(client: TestClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def asked(client: TestClient, evaluated: Evaluated, study: str) -> Json:
    """Close the study, ask for the release with the key of *client*, and return its clause of the gain."""
    client.post(f"/v1/studies/{study}/close")
    client.post("/v1/policies", json=POLICY)
    body = {"adapter": evaluated.adapters["deft"], "evaluation": evaluated.id, "policy": "people", "study": study}
    answer = client.post("/v1/releases", json=body)
    assert answer.status_code == 201, answer.text
    found: Json = client.get(f"/v1/releases/{answer.json()['id']}").json()["clauses"][0]
    return found


@pytest.mark.parametrize("whose", ["trainer", "asker"])
def test_votes_of_the_key_that_trained_or_that_asks_do_not_carry_a_release(
    whose: str,
    client: TestClient,
    trainer: TestClient,
    evaluated: Evaluated,
    study: Callable[..., str],
    vote: Callable[..., int],
) -> None:
    one = study(overlap=1.0, raters_per_overlap=2)
    assert vote(invited(client, one), one, "base", 50) == 50
    assert vote(key_of(trainer if whose == "trainer" else client), one, "deft") == ITEMS
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["value"], gain["judgements_left_out"]) == (False, -0.5, ITEMS)
    assert gain["high"] < -0.4
    assert "the lower end of the interval" in gain["reason"]


def test_what_others_judged_decides_beside_votes_of_the_trainer(
    client: TestClient, trainer: TestClient, evaluated: Evaluated, study: Callable[..., str], vote: Callable[..., int]
) -> None:
    one = study(overlap=1.0, raters_per_overlap=2)
    assert vote(invited(client, one), one, "deft", 55) == 55
    assert vote(key_of(trainer), one, "base") == ITEMS
    gain = asked(trainer, evaluated, one)
    assert (gain["is_met"], gain["value"], gain["judgements_left_out"]) == (True, 0.5, ITEMS)


def test_what_the_trainer_judged_is_still_wanted_of_others(
    client: TestClient, trainer: TestClient, study: Callable[..., str], vote: Callable[..., int]
) -> None:
    """Else the trainer would choose, by skipping some items and taking the others, which are left to judge."""
    one = study()
    assert vote(key_of(trainer), one, "deft", 40) == 40
    assert vote(invited(client, one), one, "base") == ITEMS
    assert vote(key_of(trainer), one, "deft") == 0


def test_the_score_of_a_study_is_of_what_others_judged_and_its_results_say_how_much_was_not(
    client: TestClient, trainer: TestClient, evaluated: Evaluated, study: Callable[..., str], vote: Callable[..., int]
) -> None:
    one = study(overlap=1.0, raters_per_overlap=2)
    vote(key_of(trainer), one, "deft")
    vote(invited(client, one), one, "base", 49)
    client.post(f"/v1/studies/{one}/close")
    found = client.get(f"/v1/studies/{one}/results").json()
    assert (found["judged_by_trainers"], sum(found["verdicts"].values())) == (ITEMS, ITEMS + 49)
    assert [rater["is_trainer"] for rater in found["raters"]] == [True, False]
    assert f"{ITEMS} judgements are by keys that trained one of the two" in found["sentence"]
    (listed,) = client.get("/v1/evaluations", params={"metric": "human_win_rate"}).json()["data"]
    scores = {score["system"]: score for score in listed["scores"]}
    assert {name: (score["value"], score["n"]) for name, score in scores.items()} == {"base": (1, 49), "deft": (0, 49)}
    assert not scores["deft"]["is_valid"]


def test_a_study_that_the_trainer_alone_judged_has_no_score(
    client: TestClient, trainer: TestClient, study: Callable[..., str], vote: Callable[..., int]
) -> None:
    one = study()
    assert vote(key_of(trainer), one, "deft") == ITEMS
    client.post(f"/v1/studies/{one}/close")
    assert client.get("/v1/leaderboard", params={"metric": "human_win_rate"}).json()["boards"] == []
    assert client.get(f"/v1/studies/{one}/results").json()["win_rate"]["value"] == 0


def test_who_asks_cannot_choose_what_is_left_for_others(
    client: TestClient,
    trainer: TestClient,
    evaluated: Evaluated,
    study: Callable[..., str],
    vote: Callable[..., int],
    database: Database,
    team_id: str,
) -> None:
    one = study()
    assert vote(key_of(client), one, "base", 8) == 8
    assert vote(invited(client, one), one, "deft") == ITEMS - 8
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["value"], gain["judgements_left_out"]) == (False, 0.5, 8)
    assert "8 of its items were judged by the key that asks alone" in gain["reason"]
    with database.write() as session:
        text = accounts.create_key(session, team_id, "another")[1]
    with TestClient(client.app, headers={"Authorization": f"Bearer {text}"}) as another:
        gain = asked(another, evaluated, one)
    assert (gain["is_met"], gain["judgements_left_out"]) == (True, 0)


def test_a_place_that_was_taken_is_not_given_back_by_a_skip(
    client: TestClient, evaluated: Evaluated, study: Callable[..., str], vote: Callable[..., int], database: Database
) -> None:
    one = study()
    judged = []
    with database.write() as session:
        rater = raters.authenticate_rater(session, one, key_of(client))
        rater = raters.join(session, one, rater) if isinstance(rater, Caller) else rater
        for _ in range(8):
            item = rating.next_item(session, rater)
            assert item is not None
            rating.judge(session, rater, item.id, "1")
            judged.append(item.id)
    assert vote(invited(client, one), one, "deft") == ITEMS - 8
    with database.write() as session:
        for item_id in judged:
            rating.judge(session, rater, item_id, "skip")
    gain = asked(client, evaluated, one)
    assert not gain["is_met"]
    assert "8 of its items were judged by the key that asks alone" in gain["reason"]
