"""Studies, comparisons, policies and releases: one method an endpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deft.specs.studies import StudySpec
from deft_client import Client

EXPECTED: list[tuple[Callable[[Client], Any], str, str, Any]] = [
    (lambda c: c.studies.create({"evaluation": "ev_1"}), "POST", "/v1/studies", {"evaluation": "ev_1"}),
    (lambda c: c.studies.get("st_1"), "GET", "/v1/studies/st_1", None),
    (lambda c: c.studies.close("st_1"), "POST", "/v1/studies/st_1/close", None),
    (lambda c: c.studies.invite("st_1", "Ann"), "POST", "/v1/studies/st_1/raters", {"name": "Ann"}),
    (lambda c: list(c.studies.raters("st_1")), "GET", "/v1/studies/st_1/raters", None),
    (lambda c: c.studies.revoke("st_1", "rater_1"), "POST", "/v1/studies/st_1/raters/rater_1/revoke", None),
    (lambda c: c.studies.results("st_1"), "GET", "/v1/studies/st_1/results", None),
    (lambda c: c.studies.make_dataset("st_1"), "POST", "/v1/studies/st_1/dataset", {"min_judgements": 1}),
    (lambda c: c.comparisons.create({"force": True}), "POST", "/v1/comparisons", {"force": True}),
    (lambda c: c.policies.get("strict"), "GET", "/v1/policies/strict", None),
    (lambda c: c.releases.approve("rel_1", "fine"), "POST", "/v1/releases/rel_1/approve", {"note": "fine"}),
    (lambda c: c.releases.approve("rel_1"), "POST", "/v1/releases/rel_1/approve", {}),
    (lambda c: c.releases.override("rel_1", "why"), "POST", "/v1/releases/rel_1/override", {"reason": "why"}),
    (lambda c: c.releases.recall("rel_1", "why"), "POST", "/v1/releases/rel_1/recall", {"reason": "why"}),
    (lambda c: list(c.releases.downloads("rel_1")), "GET", "/v1/releases/rel_1/downloads", None),
    (lambda c: c.leaderboard("bleu", model="m"), "GET", "/v1/leaderboard?metric=bleu&model=m", None),
    (lambda c: list(c.evaluations.list(metric="bleu")), "GET", "/v1/evaluations?metric=bleu&limit=100", None),
]


def client_of(seen: list[httpx2.Request], content: bytes = b'{"data": [], "has_more": false}') -> Client:
    def handler(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        return httpx2.Response(200, content=content)

    return Client("http://service.test", "deft_key", transport=httpx2.MockTransport(handler))


@pytest.mark.parametrize(("call", "method", "address", "body"), EXPECTED, ids=[each[2] for each in EXPECTED])
def test_a_method_asks_its_address(call: Callable[[Client], Any], method: str, address: str, body: Any) -> None:
    seen: list[httpx2.Request] = []
    call(client_of(seen))
    (request,) = seen
    path, _, query = address.partition("?")
    assert (request.method, request.url.path) == (method, path)
    assert sorted(str(request.url.query.decode()).split("&")) == sorted(query.split("&"))
    assert (json.loads(request.content) if request.content else None) == body


def test_a_spec_is_sent_whole() -> None:
    seen: list[httpx2.Request] = []
    spec = StudySpec(evaluation="ev_1", systems=["a", "b"])
    client_of(seen).studies.create(spec)
    assert json.loads(seen[0].content) == spec.model_dump(mode="json")


def test_an_export_is_written_as_it_comes(tmp_path: Path) -> None:
    seen: list[httpx2.Request] = []
    path = client_of(seen, b"a,b\r\n").studies.export("st_1", tmp_path / "x.csv", form="csv")
    assert path.read_bytes() == b"a,b\r\n"
    assert seen[0].url.path == "/v1/studies/st_1/judgements.csv"
