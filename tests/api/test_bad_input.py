"""Bad input: each gets a problem that says where, what was found, what was expected and the fix; nothing changes."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Rows, jsonl, made_up_pairs

Upload = Callable[..., dict[str, Any]]
Problem = dict[str, Any]
NOUNS = ("datasets", "jobs", "scorings", "subsets", "adapters", "evaluations", "models")


def everything(client: TestClient) -> dict[str, Any]:
    """Return all lists of the service."""
    return {noun: client.get(f"/v1/{noun}").json() for noun in NOUNS}


def checked(answer: Any, status: int) -> Problem:
    """Return the problem of *answer*, which must be a whole one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: Problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail", "code", "request_id", "errors"}
    assert problem["type"] == f"urn:deft:problem:{problem['code']}"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    for error in problem["errors"]:
        assert {"code", "found", "expected", "fix", "count"} <= error.keys()
        assert {"pointer", "line", "column"} & error.keys(), "an error has a place"
        assert len(error["found"]) <= 80
    return problem


PAIRS = made_up_pairs(3)
TRANSCRIPT = "\n\nHuman: What is it?\n\nAssistant:"


def changed(row: int, **fields: Any) -> Rows:
    rows = [dict(each) for each in PAIRS]
    rows[row].update(fields)
    return rows


BAD_FILES: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "malformed row": ("a.jsonl", jsonl(PAIRS[:1]) + b'{"prompt": "x", \n' + jsonl(PAIRS[2:]), {"line": 2}),
    "empty response": ("a.jsonl", jsonl(changed(1, rejected="")), {"line": 2}),
    "equal pair": ("a.jsonl", jsonl(changed(2, rejected=PAIRS[2]["chosen"])), {"line": 3}),
    "context mismatch": (
        "a.jsonl",
        jsonl(
            [
                {"chosen": f"{TRANSCRIPT} This.", "rejected": f"{TRANSCRIPT} That."},
                {"chosen": f"\n\nHuman: One?{TRANSCRIPT} This.", "rejected": f"\n\nHuman: Two?{TRANSCRIPT} That."},
            ]
        ),
        {"line": 2},
    ),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(jsonl(made_up_pairs(200)))[:-40], {}),
    "wrong encoding": ("a.jsonl", '{"prompt": "é", "chosen": "a", "rejected": "b"}\n'.encode("latin-1"), {}),
    "missing column": ("a.csv", b"prompt,chosen\nHello?,Yes\n", {}),
    "no rows": ("a.jsonl", b"", {}),
    "not a number": ("a.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "c", "weight": NaN}\n', {"line": 1}),
    "long text": ("a.jsonl", jsonl(changed(1, chosen=7)) + b"x" * 500, {"line": 2}),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("way", ["put", "post"])
def test_a_bad_file_is_refused_with_its_place_and_leaves_nothing(client: TestClient, case: str, way: str) -> None:
    name, content, place = BAD_FILES[case]
    before = everything(client)
    if way == "put":
        answer = client.put("/v1/datasets", content=content, params={"filename": name})
    else:
        answer = client.post("/v1/datasets", files={"file": (name, content)})
    problem = checked(answer, 422)
    assert problem["errors"], problem
    assert place.items() <= problem["errors"][0].items()
    assert all(error["expected"] and error["fix"] for error in problem["errors"])
    assert everything(client) == before
    services = client.app.state.services  # type: ignore[attr-defined]
    assert list(services.settings.staging_folder.iterdir()) == []
    assert not services.settings.artifact_folder.exists()


def test_bad_rows_are_skipped_and_reported_when_asked(client: TestClient) -> None:
    content = jsonl(changed(1, rejected=""))
    answer = client.put("/v1/datasets", content=content, params={"filename": "a.jsonl", "on_bad_row": "skip"})
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert (dataset["summary"]["rows"], dataset["summary"]["rejected"]) == (2, 1)
    assert dataset["summary"]["findings"][0]["line"] == 2
    report = client.get(f"/v1/datasets/{dataset['id']}/files/rejected_rows.jsonl")
    assert json.loads(report.text)["line"] == 2


TRAIN = {"kind": "train", "data": "DATASET", "model": "MODEL"}
BAD_JOBS: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "unknown field": ({**TRAIN, "learning_rate": 1}, 422, {"code": "unknown_field", "pointer": "/learning_rate"}),
    "misspelt field": (
        {**TRAIN, "optimisation": {"learning_rte": 0.1}},
        422,
        {"pointer": "/optimisation/learning_rte", "fix": "Did you mean `learning_rate`?"},
    ),
    "evaluated on training data": (
        {"kind": "pipeline", "dataset": "ds_1", "evaluation_dataset": "ds_1", "model": "tiny"},
        422,
        {
            "pointer": "/evaluation_dataset",
            "found": '"ds_1"',
            "expected": "a dataset that is not trained on; null holds out a split of `dataset` itself",
        },
    ),
    "unknown model": ({**TRAIN, "model": "nothing"}, 404, {"pointer": "/model", "found": "nothing"}),
    "keep of 0": ({"kind": "select", "scoring": "sc_1", "selection": {"keep": 0}}, 422, {"pointer": "/selection/keep"}),
    "keep of 2": (
        {"kind": "select", "scoring": "sc_1", "selection": {"keep": 2}},
        422,
        {"pointer": "/selection/keep", "found": "2", "expected": "a number less than or equal to 1, or 'auto'"},
    ),
    "quota that is no share": (
        {"kind": "select", "scoring": "sc_1", "selection": {"quota": {"a": 0.5, "b": 0.6}}},
        422,
        {"pointer": "/selection/quota", "expected": "shares that sum to 1, not to 1.1"},
    ),
    "weight below 0": (
        {"kind": "select", "scoring": "sc_1", "aspects": {"helpful": -1}},
        422,
        {"pointer": "/aspects/helpful", "found": "-1"},
    ),
    "missing id": ({**TRAIN, "data": "ds_" + "0" * 26}, 404, {"pointer": "/data"}),
    "id of the wrong kind": (
        {"kind": "select", "scoring": "DATASET"},
        422,
        {"pointer": "/scoring", "code": "wrong_kind", "found": "dataset"},
    ),
    "unknown kind": (
        {"kind": "trian"},
        422,
        {"pointer": "/kind", "found": "trian", "fix": "Did you mean `train`?", "code": "unknown_kind"},
    ),
    "no kind": ({}, 422, {"pointer": "/kind", "found": "nothing"}),
    "unknown method": ({**TRAIN, "method": {"type": "ppo"}}, 422, {"pointer": "/method/type", "found": "ppo"}),
    "someone's team": ({**TRAIN, "team_id": "team_stranger"}, 422, {"pointer": "/team_id"}),
    "own status": ({**TRAIN, "status": "succeeded"}, 422, {"pointer": "/status"}),
    "endless epochs": ({**TRAIN, "optimisation": {"epochs": 10**12}}, 422, {"pointer": "/optimisation/epochs"}),
    "true for a number": ({**TRAIN, "optimisation": {"epochs": True}}, 422, {"pointer": "/optimisation/epochs"}),
    "a shell's syntax": (
        {**TRAIN, "lora": {"target_modules": ["q;rm -rf /"]}},
        422,
        {"pointer": "/lora/target_modules"},
    ),
    "an option for an id": ({**TRAIN, "model": "--output"}, 422, {"pointer": "/model"}),
    "an output folder": ({**TRAIN, "output_dir": "/"}, 422, {"pointer": "/output_dir"}),
    "a long unknown field": ({**TRAIN, "x" * 5000: 1}, 422, {"code": "unknown_field"}),
    "a path in a pipeline": (
        {"kind": "pipeline", "dataset": "DATASET", "model": "MODEL", "arms": ["deft", "best"]},
        422,
        {"pointer": "/arms/1", "found": '"best"'},
    ),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_a_bad_job_is_refused_with_its_pointer_and_changes_nothing(
    client: TestClient, upload: Upload, model: str, case: str
) -> None:
    spec, status, place = BAD_JOBS[case]
    text = json.dumps(spec).replace("DATASET", upload()["id"]).replace("MODEL", model)
    before = everything(client)
    answer = client.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    problem = checked(answer, status)
    assert place.items() <= problem["errors"][0].items(), problem["errors"]
    assert everything(client) == before
    assert len(answer.content) < 4000


BAD_JSON = {
    "not a number": (b'{"kind": "select", "scoring": NaN}', "not_finite", "/scoring"),
    "infinity": (b'{"a": [1, -Infinity]}', "not_finite", "/a/1"),
    "overflow": (b'{"a": {"b": 1e999}}', "not_finite", "/a/b"),
    "a key twice": (b'{"kind": "select", "kind": "score"}', "duplicate_key", "/kind"),
    "a key twice, deep": (b'{"a": [{"b/c": 1, "b/c": 2}]}', "duplicate_key", "/a/0/b~1c"),
    "half a pair": (b'{"name": "\\ud800"}', "invalid_text", "/name"),
    "NUL": (b'{"name": "\\u0000"}', "invalid_text", "/name"),
    "cut": (b'{"kind": ', "invalid_json", ""),
    "empty": (b"", "invalid_json", ""),
    "deep": (b"[" * 15000, "invalid_json", ""),
    "somewhat deep": (b"[" * 100 + b"]" * 100, "too_deep", ""),
    "utf-16": ('{"kind": "select"}'.encode("utf-16"), "invalid_json", ""),
    "byte order mark": (b'\xef\xbb\xbf{"kind": "select"}', "invalid_json", ""),
    "a long integer": (b'{"a": ' + b"9" * 10000 + b"}", "invalid_json", ""),
    "a list": (b"[]", "invalid_value", ""),
    "null": (b"null", "invalid_value", ""),
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/subsets", "/v1/models"])
@pytest.mark.parametrize("case", BAD_JSON)
def test_json_that_is_not_json_is_refused_with_its_pointer(client: TestClient, path: str, case: str) -> None:
    content, code, pointer = BAD_JSON[case]
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    error = checked(answer, 422)["errors"][0]
    assert (error["code"], error["pointer"]) == (code, pointer)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_refused(client: TestClient, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert checked(client.post("/v1/jobs", content=b"{}", headers=headers), 415)["code"] == "unsupported_media"
    assert checked(client.post("/v1/datasets", content=b"{}", headers=headers), 415)["code"] == "unsupported_media"


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    checked(client.post("/v1/jobs", content=gzip.compress(b"{}"), headers=headers), 415)


BAD_QUERIES = [
    ("/v1/jobs?limit=0", "limit"),
    ("/v1/jobs?limit=201", "limit"),
    ("/v1/jobs?limit=-1", "limit"),
    ("/v1/jobs?limit=x", "limit"),
    (f"/v1/jobs?limit={10**30}", "limit"),
    ("/v1/jobs?order=newest", "order"),
    ("/v1/jobs?status=done", "status"),
    ("/v1/jobs?stauts=running", "stauts"),
    ("/v1/datasets?after=%00", "after"),
    ("/v1/jobs?after=nothing", "after"),
]


@pytest.mark.parametrize(("url", "parameter"), BAD_QUERIES)
def test_a_bad_parameter_is_named(client: TestClient, url: str, parameter: str) -> None:
    error = checked(client.get(url), 422)["errors"][0]
    assert parameter in (error.get("column"), error.get("pointer", "").removeprefix("/"))


def test_a_parameter_sent_twice_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/jobs?limit=1&limit=2")
    assert (answer.status_code, answer.json()["code"]) == (422, "repeated_parameter")
    assert answer.json()["errors"][0]["column"] == "limit"


def test_a_misspelt_filter_is_told_the_right_one(client: TestClient) -> None:
    error = checked(client.get("/v1/jobs?stauts=running"), 422)["errors"][0]
    assert error["fix"] == "Did you mean `status`?"


def test_unknown_addresses_and_methods_are_problems(client: TestClient) -> None:
    assert checked(client.get("/nothing"), 404)["code"] == "not_found"
    assert checked(client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert checked(client.get("/v1/jobs/"), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("DELETE", "/v1/datasets", "GET, POST, PUT"),
        ("POST", "/v1/subsets/sub_1/files/kept.jsonl", "GET, HEAD"),
        ("GET", "/v1/jobs/job_1/cancel", "POST"),
    ],
)
def test_another_method_is_told_all_that_there_are(client: TestClient, method: str, address: str, allowed: str) -> None:
    answer = client.request(method, address)
    assert checked(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == allowed


HOSTILE = [
    "../x",
    "..%2fx",
    "%2e%2e%2fmanifest.json",
    "..\\x",
    "%252e%252e/x",
    "%00",
    "a%0ab",
    "/etc/passwd",
    "x" * 9000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_and_paths_are_absent(client: TestClient, upload: Upload, text: str) -> None:
    dataset = upload()["id"]
    for url in (
        f"/v1/jobs/{text}",
        f"/v1/models/{text}",
        f"/v1/datasets/{text}",
        f"/v1/datasets/{dataset}/files/{text}",
    ):
        assert client.get(url).status_code == 404, url
    assert client.get(f"/v1/datasets/{dataset}/files/manifest.json").status_code == 404


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.jsonl", "C:\\x\\a.jsonl", "a\u202eb.jsonl", "/a/b.jsonl", "a\nb.jsonl"]
)
def test_a_clients_file_name_never_becomes_a_path(client: TestClient, name: str) -> None:
    answer = client.put("/v1/datasets", content=jsonl(PAIRS), params={"filename": name})
    assert answer.status_code == 201, answer.text
    assert set(answer.json()["summary"]["files"][0]["name"]) <= set("abcdefghijklmnopqrstuvwxyz._")


BAD_MODELS: list[tuple[dict[str, Any], str]] = [
    ({"name": "m", "folder": "/etc"}, "/folder"),
    ({"name": "m", "folder": "ROOT/../../../etc"}, "/folder"),
    ({"name": "m"}, "/folder"),
    ({"name": "m", "hub_id": "a/b"}, "/revision"),
    ({"name": "m", "hub_id": "a/b", "revision": "main"}, "/revision"),
    ({"name": "m/../x", "folder": "ROOT"}, "/name"),
    ({"name": "m", "folder": "ROOT", "trust_remote_code": True}, "/trust_remote_code"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_MODELS)
def test_a_model_from_elsewhere_is_refused(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    roots = client.app.state.services.settings.model_roots  # type: ignore[attr-defined]
    sent = json.loads(json.dumps(body).replace("ROOT", str(roots[0])))
    before = everything(client)
    assert checked(client.post("/v1/models", json=sent), 422)["errors"][0]["pointer"] == pointer
    assert everything(client) == before


@pytest.mark.parametrize(
    ("systems", "models", "pointer", "found"),
    [
        (["a"], {"base": "b", "c": "d"}, "/options/server/models", '{"base": "b", "c": "d"}'),
        (["a", "a"], {"base": "b", "a": "d"}, "/systems", '"arm"'),
    ],
)
def test_names_that_do_not_fit_together_are_shown_where_they_stand(
    client: TestClient, systems: list[str], models: dict[str, str], pointer: str, found: str
) -> None:
    body = {
        "kind": "evaluate",
        "dataset": "ds_1",
        "model": "tiny",
        "systems": [{"name": name, "arm": "deft", "adapter": "ad_1"} for name in systems],
        "options": {"server": {"endpoint": "vllm", "models": models}},
    }
    (error,) = checked(client.post("/v1/jobs", json=body), 422)["errors"]
    assert error["pointer"] == pointer
    assert found in error["found"]
