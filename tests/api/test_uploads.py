"""Uploads: one cap over everything, several files, options; what is given up leaves nothing."""

import datetime as dt
import gzip
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import jsonl, made_up_pairs

LIMIT = 300_000
HUGE = LIMIT * 100


def nothing_is_stored(client: TestClient) -> bool:
    settings = client.app.state.services.settings  # type: ignore[attr-defined]
    staged = list(settings.staging_folder.iterdir()) if settings.staging_folder.exists() else []
    return not staged and client.get("/v1/datasets").json()["data"] == []


class Counted:
    """A body that counts how much of it was asked for."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < self.total:
            self.sent += 10_000
            yield b"x" * 10_000


def test_a_body_that_announces_too_much_is_refused_unread(client: TestClient) -> None:
    headers = {"Content-Length": str(HUGE)}
    answer = client.put("/v1/datasets", content=b"x", params={"filename": "a.jsonl"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert nothing_is_stored(client)


def test_a_json_body_has_a_limit_of_its_own(client: TestClient) -> None:
    content = b'{"name": "' + b"x" * 20_000 + b'"}'
    answer = client.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_many_files_each_under_the_cap_are_too_large_together(client: TestClient) -> None:
    files = [("file", (f"{n}.jsonl", jsonl(made_up_pairs(1000)))) for n in range(8)]
    assert client.post("/v1/datasets", files=files).status_code == 413
    assert nothing_is_stored(client)


def test_many_fields_are_refused(client: TestClient) -> None:
    fields = {f"field{n}": "x" for n in range(200)}
    answer = client.post("/v1/datasets", files={"file": ("a.jsonl", b"{}")}, data=fields)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_form")
    assert nothing_is_stored(client)


BAD_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"data": {"nmae": "x"}, "files": {"file": ("a.jsonl", b"{}")}}, "/nmae"),
    ({"data": {"on_bad_row": "drop"}, "files": {"file": ("a.jsonl", b"{}")}}, "/on_bad_row"),
    ({"data": {"columns": "{"}, "files": {"file": ("a.jsonl", b"{}")}}, "/columns"),
    ({"data": {"columns": '{"prompt": 1}'}, "files": {"file": ("a.jsonl", b"{}")}}, "/columns/prompt"),
    (
        {"data": {"columns": '{"q": "a", "chosen": "x", "chosen": "y"}'}, "files": {"file": ("a.jsonl", b"{}")}},
        "/columns/chosen",
    ),
    ({"data": {"columns": ['{"chosen": "a"}', '{"chosen": "b"}']}, "files": {"file": ("a.jsonl", b"{}")}}, "/columns"),
    ({"data": {"on_bad_row": ["", "skip"]}, "files": {"file": ("a.jsonl", b"{}")}}, "/on_bad_row"),
    ({"data": {"name": "x" * 300}, "files": {"file": ("a.jsonl", b"{}")}}, "/name"),
    ({"files": {"upload": ("a.jsonl", b"{}")}}, "file"),
    ({"data": {"x": "y"}, "files": {"upload": ("a.jsonl", b"")}}, "file"),
]


@pytest.mark.parametrize(("form", "place"), BAD_FORMS)
def test_a_bad_form_is_refused_with_its_field(client: TestClient, form: dict[str, Any], place: str) -> None:
    answer = client.post("/v1/datasets", **form)
    assert answer.status_code == 422, answer.text
    error = answer.json()["errors"][0]
    assert place in (error.get("pointer"), error.get("column"))
    assert nothing_is_stored(client)


@pytest.mark.parametrize(
    "content",
    [b"", b"--b", b"--b\r\n\r\nx", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n', b"x" * 50_000],
)
def test_a_broken_form_is_refused(client: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/datasets", content=content, headers=headers)
    assert answer.status_code == 422, answer.text
    assert nothing_is_stored(client)


def test_a_form_that_is_cut_within_its_second_file_is_refused(client: TestClient) -> None:
    files = [("file", (f"{n}.jsonl", jsonl(made_up_pairs(3)))) for n in range(2)]
    request = client.build_request("POST", "/v1/datasets", files=files)
    content = request.read()
    headers = {"Content-Type": request.headers["content-type"]}
    answer = client.post("/v1/datasets", content=content[:-60], headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_form")
    assert nothing_is_stored(client)


@pytest.mark.parametrize("value", [b"\x01", Decimal("1.5"), dt.datetime(2026, 1, 1)])
def test_messages_that_json_cannot_hold_are_bad_rows(client: TestClient, tmp_path: Path, value: object) -> None:
    answers = {
        "chosen": [[{"role": "assistant", "content": "a"}]],
        "rejected": [[{"role": "assistant", "content": "b"}]],
    }
    prompts = [[{"role": "user", "content": "x", "extra": value}]]
    pq.write_table(pa.table({"prompt": prompts, **answers}), tmp_path / "a.parquet")
    files = {"file": ("a.parquet", (tmp_path / "a.parquet").read_bytes())}
    answer = client.post("/v1/datasets", files=files)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error["column"], error["line"], error["code"]) == ("prompt[0].extra", 1, "wrong_type")
    assert nothing_is_stored(client)


def test_a_form_without_a_boundary_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/datasets", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_form")


def test_several_files_become_one_dataset_with_columns_mapped(client: TestClient) -> None:
    rows = [{"q": f"Is it {n}?", "good": "Yes.", "bad": "No."} for n in range(4)]
    files = [("file", ("a.jsonl", jsonl(rows[:2]))), ("file", ("b.jsonl.gz", gzip.compress(jsonl(rows[2:]))))]
    data = {"columns": '{"prompt": "q", "chosen": "good", "rejected": "bad"}', "name": "two files"}
    answer = client.post("/v1/datasets", files=files, data=data)
    assert answer.status_code == 201, answer.text
    dataset = answer.json()
    assert (dataset["name"], dataset["summary"]["rows"]) == ("two files", 4)
    assert [file["name"] for file in dataset["summary"]["files"]] == ["a.jsonl", "b.jsonl.gz"]


def test_what_unpacks_to_too_much_is_refused(client: TestClient) -> None:
    row = b'{"prompt": "' + b"a" * 1000 + b'", "chosen": "b", "rejected": "c"}\n'
    packed = gzip.compress(row * 100_000)
    assert len(packed) < LIMIT
    answer = client.put("/v1/datasets", content=packed, params={"filename": "a.jsonl.gz"})
    assert answer.status_code in (413, 422), answer.text
    assert nothing_is_stored(client)


def test_a_form_sent_to_the_raw_address_is_refused(client: TestClient) -> None:
    answer = client.put("/v1/datasets", files={"file": ("a.jsonl", b"{}")})
    assert answer.status_code == 415
