"""Reward models over HTTP: the job that makes one, evaluations that name some, what is refused before it is queued."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from deft.examples import Example
from deft.reward_models.rows import Row, rows_of, write_rows
from deft.specs import TrainRewardModelSpec
from store import artifacts, models
from store.artifacts import ArtifactFiles
from store.database import Database
from store.settings import Settings
from store.tables import Job
from tests.evaluations import add_job, publish_dataset, say
from tests.models import write_model_files

Body = dict[str, Any]
CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": {"0": "reward"}}


@pytest.fixture
def register(database: Database, settings: Settings) -> Callable[..., str]:
    """Register a folder with this config.json under *name* and return its id."""

    def make(name: str, config: Body) -> str:
        folder = write_model_files(settings.model_roots[0] / name, config)
        with database.write() as session:
            return models.register(session, None, name, roots=settings.model_roots, folder=folder).id

    return make


@pytest.fixture
def dataset(upload: Callable[..., Body]) -> str:
    return str(upload(60)["id"])


def _evaluate(dataset: str, model: str, **changes: Any) -> Body:
    return {"kind": "evaluate", "dataset": dataset, "model": model, "rows": {"split": "all"}, **changes}


def _train(dataset: str, model: str, **changes: Any) -> Body:
    return {"kind": "train_reward_model", "dataset": dataset, "model": model, "rows": {"split": "all"}, **changes}


def test_an_encoder_may_be_the_base_and_a_plan_counts_its_rows(
    client: TestClient, dataset: str, register: Callable[..., str]
) -> None:
    register("encoder", {"architectures": ["BertModel"], "model_type": "bert"})
    plan = client.post("/v1/plans", json=_train(dataset, "encoder"))
    assert plan.status_code == 200, plan.text
    assert [(work["operation"], work["rows"]) for work in plan.json()["work"]] == [("train_reward_model", 60)]
    job = client.post("/v1/jobs", json=_train(dataset, "encoder"))
    assert job.status_code == 202, job.text
    assert (job.json()["kind"], job.json()["status"]) == ("train_reward_model", "queued")
    assert job.json()["spec"]["held_out"] == 0.2


def test_the_default_rows_are_those_set_apart_for_reward_models(client: TestClient, dataset: str, model: str) -> None:
    body = _train(dataset, model)
    del body["rows"]
    job = client.post("/v1/jobs", json=body).json()
    assert job["spec"]["rows"]["split"] == "reward_model"


def test_a_context_that_is_too_short_is_refused(client: TestClient, dataset: str, register: Callable[..., str]) -> None:
    register("encoder", {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 256})
    problem = client.post("/v1/jobs", json=_train(dataset, "encoder")).json()
    assert problem["errors"][0]["code"] == "context_too_short"


def test_an_evaluation_waits_for_a_reward_model_and_names_models_by_their_ids(
    client: TestClient, dataset: str, model: str, register: Callable[..., str]
) -> None:
    classifier = register("judge", CLASSIFIER)
    made = client.post("/v1/jobs", json=_train(dataset, model)).json()["id"]
    job = client.post("/v1/jobs", json=_evaluate(dataset, model, reward_models=[made, "judge"])).json()
    assert job["status"] == "waiting"
    assert job["spec"]["reward_models"] == [made, classifier]


def test_a_reward_model_is_listed_and_named(
    client: TestClient, dataset: str, model: str, database: Database, settings: Settings, team_id: str
) -> None:
    files = ArtifactFiles(settings)
    staged = files.stage("reward_model")
    (staged / "config.json").write_text("{}")
    with database.write() as session:
        row = files.publish(session, team_id, "reward_model", staged, {"rows": 3})
    assert row.id.startswith("rm_")
    assert [each["id"] for each in client.get("/v1/reward_models").json()["data"]] == [row.id]
    job = client.post("/v1/jobs", json=_evaluate(dataset, model, reward_models=[row.id]))
    assert (job.status_code, job.json()["status"]) == (202, "queued")


REFUSED: dict[str, tuple[Body, int, str, str]] = {
    "a causal model": ({"reward_models": ["tiny"]}, 422, "wrong_head", "/reward_models/0"),
    "two labels": ({"training_reward_models": ["two"]}, 422, "wrong_head", "/training_reward_models/0"),
    "none of that name": ({"reward_models": ["judge", "no"]}, 404, "not_found", "/reward_models/1"),
    "no encoder-decoder": ({"bartscore_model": "tiny"}, 422, "no_encoder_decoder", "/bartscore_model"),
    "one for both": (
        {"reward_models": ["judge"], "training_reward_models": ["judge"]},
        *(422, "invalid_value", "/training_reward_models"),
    ),
    "one twice": ({"reward_models": ["judge", "judge"]}, 422, "invalid_value", "/reward_models"),
    "a metric twice": ({"options": {"metrics": ["bleu", "bleu"]}}, 422, "invalid_value", "/options/metrics"),
    "a set twice": ({"prompt_sets": ["ds_1", "ds_1"]}, 422, "invalid_value", "/prompt_sets"),
    "an unknown metric": ({"options": {"metrics": ["charm"]}}, 422, "invalid_value", "/options/metrics/0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wrong_models_are_refused_before_anything_is_queued(
    client: TestClient, dataset: str, model: str, register: Callable[..., str], what: str
) -> None:
    register("judge", CLASSIFIER)
    register("two", {**CLASSIFIER, "id2label": {"0": "a", "1": "b"}})
    fields, status, code, pointer = REFUSED[what]
    for path in ("/v1/plans", "/v1/jobs"):
        answer = client.post(path, json=_evaluate(dataset, model, **fields))
        assert answer.status_code == status, answer.text
        finding = answer.json()["errors"][0]
        assert (finding["pointer"] or "") == pointer
        assert finding["code"] == code or code == "invalid_value"
    assert client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("kind", ["evaluate", "pipeline"])
@pytest.mark.parametrize(
    ("lists", "code", "pointer"),
    [
        ((["judge"], ["{id}"]), "reward_models_share_weights", "/reward_models/0"),
        ((["judge", "{id}"], []), "named_twice", "/reward_models/1"),
        (([], ["{id}", "judge"]), "named_twice", "/training_reward_models/1"),
        ((["copy", "judge"], []), "named_twice", "/reward_models/1"),
    ],
)
def test_one_reward_model_under_two_names_is_refused_when_posted(
    client: TestClient,
    dataset: str,
    model: str,
    register: Callable[..., str],
    kind: str,
    lists: tuple[list[str], list[str]],
    code: str,
    pointer: str,
) -> None:
    judge = register("judge", CLASSIFIER)
    register("copy", CLASSIFIER)
    evaluating, trained_on = ([name.format(id=judge) for name in names] for names in lists)
    body = _evaluate(dataset, model, reward_models=evaluating, training_reward_models=trained_on) | {"kind": kind}
    if kind == "pipeline":
        del body["rows"]
    for path in ("/v1/plans", "/v1/jobs"):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
        (finding,) = answer.json()["errors"]
        assert finding["pointer"] == pointer
        assert judge in finding["found"] or "copy" in evaluating
        assert finding["expected"]
        assert finding["fix"]


def test_a_reward_model_and_the_job_that_made_it_are_one(
    client: TestClient, dataset: str, model: str, database: Database, settings: Settings, team_id: str
) -> None:
    files = ArtifactFiles(settings)
    staged = files.stage("reward_model")
    (staged / "config.json").write_text("{}")
    with database.write() as session:
        job = add_job(session, team_id, "train_reward_model", {})
        row = files.publish(session, team_id, "reward_model", staged, {"rows": 3})
        session.get_one(Job, job).artifact_id = row.id
    problem = client.post("/v1/jobs", json=_evaluate(dataset, model, reward_models=[row.id, job])).json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("named_twice", "/reward_models/1")


def test_a_pipeline_hands_its_reward_models_to_its_evaluation(
    client: TestClient, dataset: str, model: str, register: Callable[..., str]
) -> None:
    classifier = register("judge", CLASSIFIER)
    body = {"kind": "pipeline", "dataset": dataset, "model": model, "arms": ["deft"], "reward_models": ["judge"]}
    job = client.post("/v1/jobs", json=body).json()
    (child,) = [each for each in job["children"] if each["kind"] == "evaluate"]
    spec = client.get(f"/v1/jobs/{child['id']}").json()["spec"]
    assert spec["reward_models"] == [classifier]


def test_a_plan_counts_what_reward_models_read_and_says_of_which_it_cannot(
    client: TestClient, dataset: str, model: str, register: Callable[..., str]
) -> None:
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 512}
    register("sized", {**CLASSIFIER, **sizes})
    register("unsized", {**CLASSIFIER, "model_type": "deberta-v2"})
    made = client.post("/v1/jobs", json=_train(dataset, model)).json()["id"]

    def plan(*names: str) -> tuple[float, list[str]]:
        found = client.post("/v1/plans", json=_evaluate(dataset, model, reward_models=list(names))).json()
        remarks = [each["message"] for each in found["remarks"] if each["code"] == "reward_model_not_counted"]
        return found["work"][0]["flops"], remarks

    alone, sized, both = plan(), plan("sized"), plan("sized", made)
    assert alone[0] < sized[0] < both[0]
    assert alone[1] == sized[1] == both[1] == []
    unsized = plan("unsized")
    assert unsized[0] == alone[0]
    assert ["unsized" in message for message in unsized[1]] == [True]


def test_reward_models_that_share_rows_are_refused_when_posted(
    client: TestClient, dataset: str, model: str, database: Database, settings: Settings, team_id: str
) -> None:
    files, made = ArtifactFiles(settings), []
    for hashed, keys in (("a", "xy"), ("b", "yz"), ("c", "z"), ("a", "w")):
        staged = files.stage("reward_model")
        write_rows(staged / "rows.parquet", [Row(0, Example("p", (key, f"no {key}")), 0.5, key) for key in keys], [])
        with database.write() as session:
            made.append(files.publish(session, team_id, "reward_model", staged, {"weights_hash": hashed}).id)
    for evaluating, code in ((made[1], "reward_models_share_rows"), (made[3], "reward_models_share_weights")):
        fields = {"reward_models": [made[2], evaluating], "training_reward_models": [made[0]]}
        problem = client.post("/v1/jobs", json=_evaluate(dataset, model, **fields)).json()
        assert (problem["code"], problem["errors"][0]["pointer"]) == (code, "/reward_models/1")
    fields = {"reward_models": [made[2]], "training_reward_models": [made[0]]}
    assert client.post("/v1/jobs", json=_evaluate(dataset, model, **fields)).status_code == 202


LISTS = [{"prompt": f"Question {n}?", "responses": [f"best {n}", f"middle {n}", f"worst {n}"]} for n in range(6)]
OTHER_LISTS = [{**own, "prompt": f"Another {own['prompt']}"} for own in LISTS]
IN_TURNS = [
    {"prompt": [{"role": "user", "content": f"Question {n}?"}], "chosen": say(f"worst {n}"), "rejected": say("x")}
    for n in range(6)
]


def _pairs(first: int, second: int, prompt: str = "{}", said: str = "{}") -> list[Body]:
    """Pairs of two places of each list, which *prompt* and *said* may write otherwise."""
    return [
        {
            "prompt": prompt.format(own["prompt"]),
            "chosen": said.format(own["responses"][first]),
            "rejected": said.format(own["responses"][second]),
        }
        for own in LISTS
    ]


@pytest.fixture
def learnt(database: Database, settings: Settings, team_id: str) -> Callable[..., str]:
    """Publish a reward model with the record of a training on *rows*; *is_old*: with keys of whole rows alone."""
    files = ArtifactFiles(settings)

    def publish(rows: list[Body], *, is_old: bool = False) -> str:
        dataset = publish_dataset(database, files, team_id, rows)
        spec = TrainRewardModelSpec.model_validate(_train(dataset, "any") | {"held_out": 0.01})
        staged = files.stage("reward_model")
        with database.write() as session:
            trained, _ = rows_of(spec, files.folder(artifacts.get(session, team_id, dataset, "dataset")))
            write_rows(staged / "rows.parquet", trained, [])
            if is_old:
                table = pq.read_table(staged / "rows.parquet").drop_columns(["response_keys"])
                pq.write_table(table, staged / "rows.parquet")
            return files.publish(session, team_id, "reward_model", staged, {}).id

    return publish


@pytest.mark.parametrize(
    ("trained_on", "evaluating", "found"),
    [
        pytest.param(LISTS, LISTS, "15 responses", id="equal lists"),
        pytest.param(LISTS, _pairs(0, 2), "10 responses", id="pairs of the lists"),
        pytest.param(_pairs(1, 2), LISTS, "10 responses", id="lists around the pairs"),
        pytest.param(_pairs(0, 1), _pairs(1, 0), "10 responses", id="swapped"),
        pytest.param(_pairs(0, 1), _pairs(1, 2), "5 responses", id="one response of each"),
        pytest.param(LISTS, LISTS[:2] + OTHER_LISTS, "6 responses", id="a part of the lists"),
        pytest.param(LISTS, _pairs(0, 2, "  {}\n", "{} "), "10 responses", id="other white space"),
        pytest.param(LISTS, IN_TURNS, "5 responses", id="messages"),
        pytest.param(LISTS, _pairs(0, 2, said="ANOTHER {}"), None, id="other responses"),
        pytest.param(LISTS, _pairs(0, 2, "Another {}"), None, id="other prompts"),
    ],
)
def test_reward_models_that_learnt_from_the_same_responses_are_refused(
    client: TestClient,
    dataset: str,
    model: str,
    learnt: Callable[..., str],
    trained_on: list[Body],
    evaluating: list[Body],
    found: str | None,
) -> None:
    """Of six prompts each reward model learns from five, the same ones: a prompt's place in the draw is its own."""
    first, second = learnt(trained_on), learnt(evaluating)
    fields = {"reward_models": [second], "training_reward_models": [first]}
    for path, accepted in (("/v1/plans", 200), ("/v1/jobs", 202)):
        answer = client.post(path, json=_evaluate(dataset, model, **fields))
        if found is None:
            assert answer.status_code == accepted, answer.text
            continue
        assert (answer.status_code, answer.json()["code"]) == (422, "reward_models_share_rows"), answer.text
        (finding,) = answer.json()["errors"]
        assert finding["pointer"] == "/reward_models/0"
        assert finding["found"].startswith(f"{found} of {first}: row 0 there, 0 here")
        detail = f"{found} that {first}, which was trained on, learnt from too: one is in row 0 of its dataset and in "
        assert detail in answer.json()["detail"]


@pytest.mark.parametrize(("is_first_old", "is_second_old"), [(True, False), (False, True), (True, True)])
def test_a_record_of_whole_rows_alone_is_compared_by_rows(
    client: TestClient,
    dataset: str,
    model: str,
    learnt: Callable[..., str],
    is_first_old: bool,
    is_second_old: bool,
) -> None:
    first = learnt(LISTS, is_old=is_first_old)
    equal, others = (learnt(rows, is_old=is_second_old) for rows in (LISTS, _pairs(0, 2)))

    def post(evaluating: str) -> Any:
        fields = {"reward_models": [evaluating], "training_reward_models": [first]}
        return client.post("/v1/jobs", json=_evaluate(dataset, model, **fields))

    problem = post(equal).json()
    assert problem["code"] == "reward_models_share_rows"
    assert problem["errors"][0]["found"] == f"5 rows of {first}: row 0 there, 0 here"
    assert post(others).status_code == 202


def test_weights_that_were_saved_again_are_refused_when_posted(
    client: TestClient, dataset: str, model: str, register: Callable[..., str], settings: Settings, database: Database
) -> None:
    register("judge", CLASSIFIER)
    path = write_model_files(settings.model_roots[0] / "again", CLASSIFIER) / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.dumps({"__metadata__": {"saved": "again"}, **json.loads(whole[8 : 8 + length])}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    with database.write() as session:
        known = models.register(session, None, "again", roots=settings.model_roots, folder=path.parent)
        assert known.weights_hash != models.get(session, "", "judge").weights_hash
    fields = {"reward_models": ["judge"], "training_reward_models": ["again"]}
    for address in ("/v1/plans", "/v1/jobs"):
        problem = client.post(address, json=_evaluate(dataset, model, **fields)).json()
        assert (problem["code"], problem["errors"][0]["pointer"]) == ("reward_models_share_weights", "/reward_models/0")


@pytest.mark.parametrize("is_first_trained_on", [True, False])
def test_reward_models_of_which_one_started_from_the_other_are_refused_when_posted(
    client: TestClient,
    dataset: str,
    model: str,
    database: Database,
    settings: Settings,
    team_id: str,
    is_first_trained_on: bool,
) -> None:
    files, made = ArtifactFiles(settings), []
    for own, base in (("a", "base"), ("b", "a"), ("c", "base")):
        staged = files.stage("reward_model")
        (staged / "config.json").write_text("{}")
        with database.write() as session:
            summary = {"weights_hash": own, "base_weights_hash": base}
            made.append(files.publish(session, team_id, "reward_model", staged, summary).id)
    trained_on, evaluating = made[:2] if is_first_trained_on else made[1::-1]
    fields = {"reward_models": [evaluating], "training_reward_models": [trained_on]}
    problem = client.post("/v1/jobs", json=_evaluate(dataset, model, **fields)).json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("reward_models_share_weights", "/reward_models/0")
    fields = {"reward_models": [made[2]], "training_reward_models": [made[0]]}
    assert client.post("/v1/jobs", json=_evaluate(dataset, model, **fields)).status_code == 202
