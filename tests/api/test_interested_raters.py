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
from store.study_tables import StudyItem
from tests.evaluations import Evaluated, publish_adapter, publish_evaluation
from tests.judged import all_of, answered
from tests.recorded import accuracies, writer

Json = dict[str, Any]
ITEMS = 60
QUALITIES = {"base": 1, "deft": 2, "random": 3}
POLICY: Json = {
    "gain": {"metric": "human_win_rate", "at_least": 0.0},
    "forgetting": {"metric": "preference_accuracy", "at_most": 1.0},
    "safety": {"at_most": 1.0},
    "approvals": 0,
}


@pytest.fixture
def trainer(app: FastAPI, database: Database, team_id: str) -> Iterator[TestClient]:
    """A client with the key that trained `deft`."""
    with with_new_key(app, database, team_id, "trainer") as client:
        yield client


@pytest.fixture
def control_trainer(app: FastAPI, database: Database, team_id: str) -> Iterator[TestClient]:
    """A client with the key that trained `random`."""
    with with_new_key(app, database, team_id, "control") as client:
        yield client


def with_new_key(app: FastAPI, database: Database, team_id: str, name: str) -> TestClient:
    with database.write() as session:
        text = accounts.create_key(session, team_id, name)[1]
    return TestClient(app, headers={"Authorization": f"Bearer {text}"}, raise_server_exceptions=False)


@pytest.fixture
def evaluated(
    database: Database, settings: Settings, team_id: str, trainer: TestClient, control_trainer: TestClient
) -> Evaluated:
    """An evaluation of an adapter and its control, of which every answer can be told from those of the others."""
    files = ArtifactFiles(settings)
    adapters = {}
    for system, key in (("deft", key_of(trainer)), ("random", key_of(control_trainer))):
        with database.read() as session:
            key_id = accounts.authenticate(session, key).key_id
        adapters[system] = publish_adapter(database, files, team_id, key_id)
    qualities = {system: [quality] * ITEMS for system, quality in QUALITIES.items()}
    write = all_of(writer(accuracies({"deft": 0.5, "random": 0.5})), answered(qualities))
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
def go_through(database: Database) -> Callable[..., int]:
    """Say *verdict* of every item that there is for *key*, by the item and its number; return how many those were."""

    def judge(key: str, study: str, verdict: Callable[[StudyItem, int], str], most: int = 2 * ITEMS) -> int:
        with database.write() as session:
            rater = raters.authenticate_rater(session, study, key)
            rater = raters.join(session, study, rater) if isinstance(rater, Caller) else rater
            for done in range(most):
                item = rating.next_item(session, rater)
                if item is None:
                    return done
                rating.judge(session, rater, item.id, verdict(item, done))  # type: ignore[arg-type]
        return most

    return judge


@pytest.fixture
def vote(go_through: Callable[..., int]) -> Callable[..., int]:
    """Judge as many items as there are for *key*, *most* at most, all for the system *prefers*; return how many."""

    def judge(key: str, study: str, prefers: str, most: int = ITEMS) -> int:
        return go_through(key, study, lambda item, _: side_of(item, prefers), most)

    return judge


def side_of(item: StudyItem, system: str) -> str:
    return "1" if f"quality={QUALITIES[system]}" in item.first else "2"


def invited(client: TestClient, study: str) -> str:
    return str(client.post(f"/v1/studies/{study}/raters", json={"name": "a person"}).json()["token"])


def key_of(client: TestClient) -> str:
    return client.headers["Authorization"].removeprefix("Bearer ")


def asked(client: TestClient, evaluated: Evaluated, study: str, against: str = "base") -> Json:
    """Close the study, ask for the release with the key of *client*, and return its clause of the gain."""
    client.post(f"/v1/studies/{study}/close")
    policy = {**POLICY, "name": f"people-{against}", "gain": {**POLICY["gain"], "against": against}}
    client.post("/v1/policies", json=policy)
    body = {"adapter": evaluated.adapters["deft"], "evaluation": evaluated.id, "study": study, "policy": policy["name"]}
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
    app: FastAPI,
    database: Database,
    team_id: str,
) -> None:
    one = study()
    assert vote(key_of(client), one, "base", 8) == 8
    assert vote(invited(client, one), one, "deft") == ITEMS - 8
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["value"], gain["judgements_left_out"]) == (False, 0.5, 8)
    assert "8 of its items were judged by the key that asks alone" in gain["reason"]
    with with_new_key(app, database, team_id, "another") as another:
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


def test_a_place_that_was_given_back_before_others_judged_is_theirs(
    client: TestClient, evaluated: Evaluated, study: Callable[..., str], vote: Callable[..., int], database: Database
) -> None:
    one = study()
    with database.write() as session:
        rater = raters.authenticate_rater(session, one, key_of(client))
        rater = raters.join(session, one, rater) if isinstance(rater, Caller) else rater
        item = rating.next_item(session, rater)
        assert item is not None
        rating.judge(session, rater, item.id, "1")
        rating.judge(session, rater, item.id, "skip")
    assert vote(invited(client, one), one, "deft") == ITEMS
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["reason"]) == (True, None)


@pytest.mark.parametrize("others", ["leave some", "skip some"])
def test_what_who_asks_skips_is_taken_from_nobody(
    others: str,
    client: TestClient,
    evaluated: Evaluated,
    study: Callable[..., str],
    go_through: Callable[..., int],
) -> None:
    """It is offered to others: that they judged it neither is their choice, or the end of the study."""
    one = study()
    assert go_through(key_of(client), one, lambda *_: "skip") == ITEMS
    most = ITEMS - 5 if others == "leave some" else ITEMS
    person = invited(client, one)
    assert go_through(person, one, lambda item, at: "skip" if at >= ITEMS - 5 else side_of(item, "deft"), most) == most
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["reason"], gain["judgements_left_out"]) == (True, None, 0)


def test_an_inattentive_rater_hides_nothing_that_who_asks_took(
    client: TestClient, evaluated: Evaluated, study: Callable[..., str], go_through: Callable[..., int]
) -> None:
    """The rater's clicks on everything count for nothing, so that they are no judgement by others either."""
    one = study(attention=4)
    everything = ITEMS + 4
    clicked = go_through(invited(client, one), one, lambda item, _: "both_bad" if item.expected == "tie" else "tie")
    took = go_through(key_of(client), one, lambda item, _: item.expected or ("tie" if item.row < 10 else "skip"))
    left = go_through(invited(client, one), one, lambda item, _: item.expected or side_of(item, "deft"))
    assert (clicked, took, left) == (everything, everything, everything - 10)
    gain = asked(client, evaluated, one)
    assert (gain["is_met"], gain["value"]) == (False, 0.5)
    assert gain["reason"].endswith(
        ": 10 of its items were judged by the key that asks alone, which may so have chosen what was left for others: "
        "another key has to ask"
    )


def test_votes_of_the_key_that_trained_the_control_do_not_carry_a_release(
    client: TestClient,
    control_trainer: TestClient,
    evaluated: Evaluated,
    study: Callable[..., str],
    vote: Callable[..., int],
) -> None:
    """Whose training was no better than random data may want the other one out all the same."""
    one = study(overlap=1.0, raters_per_overlap=2, systems=["random", "deft"])
    assert vote(invited(client, one), one, "random", 50) == 50
    assert vote(key_of(control_trainer), one, "deft") == ITEMS
    gain = asked(client, evaluated, one, against="random")
    assert (gain["is_met"], gain["value"], gain["judgements_left_out"]) == (False, -0.5, ITEMS)
    assert "the lower end of the interval" in gain["reason"]
