"""Files: ETag, HEAD, ranges and conditions; only what the manifest names, and only if it is whole."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.downloads import disposition, requested_slice
from deft.errors import RangeNotSatisfiable

Upload = Callable[..., dict[str, Any]]


@pytest.fixture
def file(upload: Upload) -> dict[str, Any]:
    """One file of a dataset."""
    entry: dict[str, Any] = next(each for each in upload()["files"] if each["path"] == "examples.parquet")
    return entry


def test_a_file_is_whole_named_and_tagged_with_its_hash(client: TestClient, file: dict[str, Any]) -> None:
    answer = client.get(file["url"])
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
    assert answer.headers["etag"] == f'"{file["sha256"]}"'
    assert int(answer.headers["content-length"]) == file["bytes"] == len(answer.content)
    assert answer.headers["content-disposition"] == 'attachment; filename="examples.parquet"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_head_says_what_get_would(client: TestClient, file: dict[str, Any]) -> None:
    head, get = client.head(file["url"]), client.get(file["url"])
    assert head.content == b""
    volatile = {"x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in get.headers.items() if k not in volatile
    }


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=100-", 100, None), ("bytes=-5", -5, None)],
)
def test_one_range_is_served(
    client: TestClient, file: dict[str, Any], header: str, start: int, end: int | None
) -> None:
    whole = client.get(file["url"]).content
    answer = client.get(file["url"], headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == whole[start:end]
    first = start % len(whole)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    "header", ["bytes=0-1,5-6", "bytes=" + ",".join(["0-"] * 10_000), "bytes=9-3", "lines=0-1", "bytes=-", "bytes=x-1"]
)
def test_several_or_odd_ranges_get_the_whole_file(client: TestClient, file: dict[str, Any], header: str) -> None:
    answer = client.get(file["url"], headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, file["bytes"])


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=99999999-100000000", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(client: TestClient, file: dict[str, Any], header: str) -> None:
    answer = client.get(file["url"], headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{file['bytes']}"
    assert answer.json()["code"] == "range_not_satisfiable"


def test_a_transfer_goes_on_only_with_the_same_version(client: TestClient, file: dict[str, Any]) -> None:
    def answer(if_range: str) -> int:
        return client.get(file["url"], headers={"Range": "bytes=5-", "If-Range": if_range}).status_code

    assert answer(f'"{file["sha256"]}"') == 206
    assert answer('"other"') == 200
    assert answer(f'W/"{file["sha256"]}"') == 200
    assert answer("Wed, 21 Oct 2026 07:28:00 GMT") == 200


def test_a_file_that_the_caller_has_is_not_sent_again(client: TestClient, file: dict[str, Any]) -> None:
    def answer(tags: str) -> int:
        return client.get(file["url"], headers={"If-None-Match": tags}).status_code

    assert answer(f'"{file["sha256"]}"') == 304
    assert answer(f'"x", W/"{file["sha256"]}"') == 304
    assert answer("*") == 304
    assert answer('"x"') == 200


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_file_that_is_not_whole_is_an_error_before_its_first_byte(
    client: TestClient, file: dict[str, Any], damage: str
) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    path = services.settings.artifact_folder / file["url"].split("/")[3] / "examples.parquet"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    answer = client.get(file["url"])
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_corrupt")


def test_a_name_of_any_characters_is_quoted_for_the_header() -> None:
    assert disposition("kept.parquet") == 'attachment; filename="kept.parquet"'
    assert (
        disposition('a"\n\u202eé.json')
        == "attachment; filename=\"a____.json\"; filename*=UTF-8''a%22%0A%E2%80%AE%C3%A9.json"
    )


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(RangeNotSatisfiable):
        requested_slice("bytes=0-", 0)
