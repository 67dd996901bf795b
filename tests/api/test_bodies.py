"""Reading a body: the cap, the patience, and what stays allowed."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from api import bodies
from api.bodies import capped, parse_json
from deft.errors import InvalidInput, TooLarge
from deft.specs import job_spec


class Request:
    """As much of a request as reading needs: chunks, each after a pause."""

    def __init__(self, *chunks: bytes, pause_seconds: float = 0.0) -> None:
        self.headers: dict[str, str] = {}
        self.chunks = chunks
        self.pause_seconds = pause_seconds
        self.read = 0

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await anyio.sleep(self.pause_seconds)
            self.read += 1
            yield chunk


def received(request: Any, limit: int) -> bytes:
    async def read() -> bytes:
        return b"".join([chunk async for chunk in capped(request, limit)])

    return anyio.run(read)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert received(Request(b"ab", b"cd"), 4) == b"abcd"


def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    request = Request(*[b"ab"] * 100)
    with pytest.raises(TooLarge):
        received(request, 5)
    assert request.read == 3


def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.05)
    with pytest.raises(HTTPException) as caught:
        received(Request(b"a", pause_seconds=5), 10)
    assert caught.value.status_code == 408


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc/~é", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(plain)
def test_every_plain_document_is_read_as_json_reads_it(value: Any) -> None:
    import json

    assert parse_json(json.dumps(value).encode()) == value


@settings(max_examples=60, deadline=None)
@given(plain)
def test_any_document_for_a_job_is_refused_with_places_and_never_breaks(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        bodies.validated(job_spec, value)
    assert caught.value.findings
    assert all(finding.pointer is not None and len(finding.found) <= 80 for finding in caught.value.findings)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["score", "select", "train", "evaluate", "pipeline", "measure_omega"]), st.data())
def test_any_wrong_field_of_any_kind_is_refused_with_places(kind: str, data: st.DataObject) -> None:
    names = [
        "dataset",
        "model",
        "rows",
        "tokens",
        "selection",
        "method",
        "lora",
        "systems",
        "optimisation",
        "arms",
        "xy",
    ]
    body = data.draw(st.dictionaries(st.sampled_from(names), plain, min_size=1, max_size=5))
    try:
        bodies.validated(job_spec, {**body, "kind": kind})
    except InvalidInput as error:
        assert error.findings
