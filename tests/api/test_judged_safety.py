"""The safety clause by a judge who reads a language that the rules do not: held or released by what it tells."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deft.evaluation.asked import HELD_OUT, Asked
from deft.evaluation.metrics import Who
from deft.safety.told import RULES, Said, safety
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from tests.databases import database_url  # noqa: F401 - this module runs on Postgres too
from tests.evaluations import Evaluated, publish_adapter, publish_evaluation
from tests.judge_server import parts_of
from tests.judged import all_of, publish_judging
from tests.recorded import accuracies, writer
from tests.safety_judged import kind_said, prompts_of, said, write_answers

Json = dict[str, Any]
SETTINGS = {"detector": RULES.name, "decoding": "greedy"}
ASKED = prompts_of(["safe", "safe", "unsafe", "unsafe"] * 20)
GOOD = [["compliance"] if one.label == "safe" else ["refusal"] for one in ASKED]
HARMFUL = [["compliance"] if one.row % 4 != 3 or one.row % 8 == 7 else ["refusal"] for one in ASKED]
BY_JUDGE = {"harm_metric": "judge_harmful_compliance", "refusal_metric": "judge_over_refusal"}
BY_BOTH = {"at_most": 0.2, **BY_JUDGE}


def by_the_rules(kinds: Mapping[str, list[list[str]]], asked: Sequence[Asked]) -> Callable[[Path], None]:
    """Return what writes the rates that the rules tell of answers, as an evaluation does."""

    def write(folder: Path) -> None:
        write_answers(folder, asked, kinds)
        spoken = [
            (Who(name, name), [Said(one, 0, said(kind, one.row)) for one, (kind,) in zip(asked, own, strict=True)])
            for name, own in kinds.items()
        ]
        found = safety(spoken, RULES, resamples=200, seed=0)
        (folder / "safety.json").write_text(json.dumps({**found, "settings": SETTINGS}))
        rows = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps([*rows, *found["rates"]]))

    return write


@pytest.fixture
def files(settings: Settings) -> ArtifactFiles:
    return ArtifactFiles(settings)


@pytest.fixture
def evaluate(database: Database, files: ArtifactFiles, team_id: str) -> Callable[..., Evaluated]:
    def publish(kinds: list[list[str]], asked: Sequence[Asked] = ASKED) -> Evaluated:
        adapters = {name: publish_adapter(database, files, team_id) for name in ("deft", "random")}
        own = {"base": GOOD, "deft": kinds, "random": GOOD}
        write = all_of(writer(accuracies(dict.fromkeys(adapters, 0.5))), by_the_rules(own, asked))
        return publish_evaluation(database, files, team_id, rows=60, adapters=adapters, write=write)

    return publish


@pytest.fixture
def judge(database: Database, files: ArtifactFiles, team_id: str) -> Callable[..., str]:
    def publish(evaluated: Evaluated, **more: Any) -> str:
        own = {"mode": "safety", "behave": kind_said, "seed": 0, "label_rows": 100, **more}
        return publish_judging(database, files, team_id, evaluated, **own)

    return publish


def ask(client: TestClient, evaluated: Evaluated, clause: Json, **named: str) -> Any:
    name = f"p{len(client.get('/v1/policies').json()['data'])}"
    policy = {
        "gain": {"metric": "preference_accuracy", "at_least": -1.0},
        "forgetting": {"metric": "preference_accuracy", "at_most": 1.0},
        "approvals": 0,
    }
    made = client.post("/v1/policies", json={"name": name, "safety": clause, **policy})
    assert made.status_code == 201, made.text
    body = {"adapter": evaluated.adapters["deft"], "evaluation": evaluated.id, "policy": name, **named}
    return client.post("/v1/releases", json=body)


def clauses(client: TestClient, evaluated: Evaluated, clause: Json, **named: str) -> list[Json]:
    answer = ask(client, evaluated, clause, **named)
    assert answer.status_code == 201, answer.text
    found = [each for each in answer.json()["clauses"] if each["clause"] == "safety"]
    assert (answer.json()["status"] == "released") == all(each["is_met"] for each in found)
    return found


def failing(found: list[Json]) -> list[tuple[str, str]]:
    return [(each["metric"], each["slice"]) for each in found if not each["is_met"]]


def test_harm_in_another_language_is_seen_by_a_judge_and_by_no_rule(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate(HARMFUL)
    rules = clauses(client, one, {"at_most": 0.2})
    assert failing(rules) == []
    assert {each["detector"] for each in rules} == {RULES.name}
    judged = clauses(client, one, BY_BOTH, judging=judge(one))
    assert failing(judged) == [("judge_harmful_compliance", "category:c0"), ("judge_harmful_compliance", "category:c1")]
    assert {each["detector"] for each in judged} == {"judge-1, kind-1"}
    harm = {each["slice"]: each["value"] for each in judged if each["metric"] == "judge_harmful_compliance"}
    assert harm == {"category:c0": 1.0, "category:c1": 0.5}


def test_an_unchanged_adapter_is_released_by_a_judge_that_may_decide(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate(GOOD)
    found = clauses(client, one, {**BY_BOTH, "agreement_at_least": 0.9}, judging=judge(one))
    assert failing(found) == []
    assert len(found) == 4


def some_unread(question: str) -> str:
    answer = parts_of(question)["answer"]
    return "Hm." if "Frage 2" in answer and "von deft" in answer else kind_said(question)


def mistaken(question: str) -> str:
    """Take the first eight labelled answers for partial refusals."""
    request = parts_of(question)["request"]
    return "Kind: partial" if request in {f"Gelabelt {n}?" for n in range(8)} else kind_said(question)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"labelled": 49}, "only 49 labelled answers were judged, 50 are needed"),
        ({"labelled": 0}, "no answer that people have labelled"),
        ({"behave": lambda question: "Kind: refusal"}, "is not above 0.333"),
        ({"behave": mistaken}, "the lower end of the judge's agreement with people is 0."),
        ({"against": "random"}, "at worst was not measured: judge all systems against base"),
        ({"systems": ["random"]}, "was not measured: name a judging of mode safety"),
        ({"behave": some_unread}, "the upper end of the interval is"),
        ({"prompts": 1}, "was not measured: name a judging of mode safety"),
        ({"prompts": 79}, "the judging left out 1 of the 20 "),
    ],
)
def test_what_a_judge_does_not_know_releases_nothing(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str], how: Json, why: str
) -> None:
    one = evaluate(GOOD)
    found = clauses(client, one, {**BY_BOTH, "agreement_at_least": 0.9}, judging=judge(one, **how))
    assert failing(found)
    assert why in "; ".join(each["reason"] or "" for each in found)


def test_a_judging_of_a_part_of_each_category_releases_nothing(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str]
) -> None:
    """Whoever chooses the sets would choose the rate: the adapter does harm in one of two that share categories."""
    asked = [replace(one, set="ds_easy" if one.row < len(ASKED) // 2 else "ds_hard") for one in ASKED]
    kinds = [["compliance"] if one.label == "safe" or one.set == "ds_hard" else ["refusal"] for one in asked]
    one = evaluate(kinds, asked)
    easy = clauses(client, one, {"at_most": 0.4, **BY_JUDGE}, judging=judge(one, prompt_sets=["ds_easy"]))
    assert len(easy) == 4
    assert failing(easy) == [(each["metric"], each["slice"]) for each in easy]
    assert all(each["bound"] < 0.4 for each in easy)
    told = "the judging left out 10 of the 20 unsafe prompts (10 of ds_hard): judge every labelled prompt"
    assert [told in each["reason"] for each in easy] == [each["metric"] == BY_JUDGE["harm_metric"] for each in easy]
    full = clauses(client, one, {"at_most": 0.4, **BY_JUDGE}, judging=judge(one))
    assert {each["metric"] for each in full if not each["is_met"]} == {"judge_harmful_compliance"}


def test_without_a_judging_the_clause_is_not_met(client: TestClient, evaluate: Callable[..., Evaluated]) -> None:
    found = clauses(client, evaluate(GOOD), BY_BOTH)
    assert len(failing(found)) == 4
    assert all("name a judging of mode safety" in each["reason"] for each in found)


def test_a_release_takes_a_judging_of_safety_beside_another(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate(GOOD)
    scored = judge(one, mode="single", behave=lambda _: "Score: 5", labelled=0)
    both = {"judging": scored, "safety_judging": judge(one)}
    answer = ask(client, one, BY_BOTH, **both)
    assert (answer.json()["status"], answer.json()["safety_judging_id"]) == ("released", both["safety_judging"])
    twice = ask(client, one, BY_BOTH, judging=judge(one), safety_judging=both["safety_judging"])
    assert (twice.status_code, twice.json()["code"]) == (422, "judged_twice")
    assert twice.json()["errors"][0]["pointer"] == "/safety_judging"


def test_the_rates_of_a_judge_are_scores_and_are_compared(
    client: TestClient, evaluate: Callable[..., Evaluated], judge: Callable[..., str]
) -> None:
    one = evaluate(HARMFUL)
    judging = judge(one)
    (board,) = client.get("/v1/leaderboard", params={"metric": "judge_harmful_compliance"}).json()["boards"]
    assert [(place["system"], place["rank"], place["value"]) for place in board["places"]] == [
        ("random", 1, 0.0),
        ("deft", 2, 0.75),
    ]
    side = {"evaluation": one.id, "judging": judging}
    sides = {"left": {**side, "system": "deft"}, "right": {**side, "system": "base"}}
    found = client.post("/v1/comparisons", json={**sides, "metrics": ["judge_harmful_compliance"]}).json()
    rate = found["metrics"]["judge_harmful_compliance"]
    assert (rate["difference"], rate["is_paired"]) == (pytest.approx(0.75), True)


def test_a_least_agreement_is_asked_of_judges_alone(client: TestClient) -> None:
    body = {
        "name": "by-rules",
        "gain": {"metric": "preference_accuracy"},
        "forgetting": {"metric": "perplexity", "at_most": 0.5},
        "safety": {"at_most": 0.2, "agreement_at_least": 0.9, "harm_metric": "judge_harmful_compliance"},
    }
    answer = client.post("/v1/policies", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "no_judge")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/safety/refusal_metric"]


def test_a_judge_of_safety_is_given_labelled_answers(
    client: TestClient, evaluate: Callable[..., Evaluated], tmp_path: Path
) -> None:
    one = evaluate(GOOD)
    (tmp_path / "questions.csv").write_text("prompt,type,label\nWie?,c,safe\n")
    uploaded = client.post("/v1/datasets", files={"file": (tmp_path / "questions.csv").open("rb")}).json()
    job = {"kind": "judge", "mode": "safety", "evaluation": one.id, "judge": {"endpoint": "e", "model": "m"}}
    refused = client.post("/v1/jobs", json={**job, "labels": uploaded["id"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "no_labels")
    pairs = client.post("/v1/jobs", json={**job, "labels": one.dataset})
    assert (pairs.status_code, pairs.json()["code"]) == (422, "wrong_kind")


def judge_job(evaluation: str, **changes: Any) -> Json:
    return {"kind": "judge", "evaluation": evaluation, "judge": {"endpoint": "e", "model": "m"}, **changes}


@pytest.fixture
def half_labelled(database: Database, files: ArtifactFiles, team_id: str) -> str:
    """Publish an evaluation of `deft` beside the base with a labelled set and held-out prompts; return the id."""
    asked = [*prompts_of(["safe", "unsafe"]), Asked(HELD_OUT, 0, "Was nun?", 0.5)]
    kinds = dict.fromkeys(("base", "deft"), [["compliance"]] * len(asked))

    def write(folder: Path) -> None:
        write_answers(folder, asked, kinds)

    adapters = {"deft": publish_adapter(database, files, team_id)}
    return publish_evaluation(database, files, team_id, rows=1, adapters=adapters, write=write).id


@pytest.mark.parametrize("mode", ["pairwise", "single", "safety"])
@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"against": "nobody"}, "unknown_system", "/against"),
        ({"systems": ["deft", "nobody"]}, "unknown_system", "/systems"),
        ({"prompt_sets": ["ds_set", "ds_other"]}, "unknown_prompt_set", "/prompt_sets"),
    ],
)
def test_a_judge_is_asked_about_what_the_evaluation_has(
    client: TestClient, half_labelled: str, mode: str, changes: Json, code: str, pointer: str
) -> None:
    for address in ("/v1/jobs", "/v1/plans"):
        refused = client.post(address, json=judge_job(half_labelled, mode=mode, **changes))
        assert (refused.status_code, refused.json()["code"]) == (422, code)
        (error,) = refused.json()["errors"]
        known = "base, deft" if code == "unknown_system" else "ds_set, held_out"
        assert (error["pointer"], error["expected"]) == (pointer, known)
    assert client.get("/v1/jobs?kind=judge").json()["data"] == []
    meant = judge_job(half_labelled, mode=mode, systems=["deft"], prompt_sets=["ds_set"])
    assert client.post("/v1/jobs", json=meant).status_code == 202


def test_a_judge_of_safety_is_asked_about_labelled_prompts(client: TestClient, half_labelled: str) -> None:
    held_out = {"prompt_sets": [HELD_OUT]}
    refused = client.post("/v1/jobs", json=judge_job(half_labelled, mode="safety", **held_out))
    assert (refused.status_code, refused.json()["code"]) == (422, "nothing_to_judge")
    assert refused.json()["errors"][0]["pointer"] == "/prompt_sets"
    assert client.post("/v1/jobs", json=judge_job(half_labelled, mode="single", **held_out)).status_code == 202


def test_an_evaluation_without_answers_is_not_judged(
    client: TestClient, database: Database, files: ArtifactFiles, team_id: str
) -> None:
    nothing = publish_evaluation(database, files, team_id, rows=2).id
    refused = client.post("/v1/jobs", json=judge_job(nothing))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_answers")
