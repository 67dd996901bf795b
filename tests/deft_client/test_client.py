import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

import deft_client
from deft.specs import ScoreSpec
from deft_client import Client

Handler = Callable[[httpx2.Request], httpx2.Response]


def client_of(handler: Handler, **settings: object) -> Client:
    client = Client("http://service.test", "deft_key", transport=httpx2.MockTransport(handler), **settings)
    client.exchange.pause = lambda _seconds: None
    return client


def answers(*responses: httpx2.Response | Exception) -> tuple[Handler, list[httpx2.Request]]:
    seen: list[httpx2.Request] = []
    left = iter(responses)

    def handler(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        response = next(left)
        if isinstance(response, Exception):
            raise response
        return response

    return handler, seen


def test_address_and_key_are_read_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFT_URL", "http://elsewhere.test:9/")
    monkeypatch.setenv("DEFT_API_KEY", "deft_from_environment")
    client = Client()
    assert client.url == "http://elsewhere.test:9"
    assert client.exchange.http.headers["authorization"] == "Bearer deft_from_environment"


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    assert deft_client.client.is_loopback("http://127.0.0.1:80")
    assert deft_client.client.is_loopback("http://localhost:80")
    assert deft_client.client.is_loopback("http://[::1]:80")
    assert not deft_client.client.is_loopback("http://10.0.0.1:80")
    assert not deft_client.client.is_loopback("http://service.test")


def test_a_post_is_repeated_under_one_idempotency_key() -> None:
    handler, seen = answers(
        httpx2.ConnectError("refused"), httpx2.Response(503), httpx2.Response(202, json={"id": "job_1"})
    )
    assert client_of(handler).jobs.create({"kind": "score"}) == {"id": "job_1"}
    keys = {request.headers["idempotency-key"] for request in seen}
    assert len(seen) == 3
    assert len(keys) == 1
    assert all(json.loads(request.content) == {"kind": "score"} for request in seen)


def test_a_plan_is_asked_for_with_a_mapping_or_a_spec() -> None:
    handler, seen = answers(*(httpx2.Response(200, json={"kind": "score"}) for _ in range(2)))
    client = client_of(handler)
    spec = ScoreSpec(dataset="ds_1", model="m")
    assert client.plan({"kind": "score"}, flops_per_second=1e12) == client.plan(spec) == {"kind": "score"}
    assert [request.url.path for request in seen] == ["/v1/plans", "/v1/plans"]
    assert [request.url.params.get("flops_per_second") for request in seen] == ["1000000000000.0", None]
    assert [json.loads(request.content) for request in seen] == [{"kind": "score"}, spec.model_dump(mode="json")]


def test_two_posts_have_two_keys_unless_one_is_given() -> None:
    handler, seen = answers(*(httpx2.Response(202, json={"id": "job_1"}) for _ in range(3)))
    client = client_of(handler)
    client.jobs.create({})
    client.jobs.create({})
    client.jobs.create({}, idempotency_key="mine")
    keys = [request.headers["idempotency-key"] for request in seen]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_no_answer_in_all_attempts_is_unreachable() -> None:
    handler, seen = answers(*(httpx2.ConnectError("refused") for _ in range(3)))
    with pytest.raises(deft_client.Unreachable, match=r"service\.test.*refused"):
        client_of(handler, attempts=3).jobs.get("job_1")
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, deft_client.BadRequest),
        (401, deft_client.NotAuthenticated),
        (403, deft_client.NotPermitted),
        (404, deft_client.NotFound),
        (409, deft_client.Conflict),
        (413, deft_client.TooLarge),
        (415, deft_client.UnsupportedMedia),
        (422, deft_client.InvalidInput),
        (429, deft_client.TooManyRequests),
        (500, deft_client.ServerError),
        (418, deft_client.ServiceError),
    ],
)
def test_a_problem_document_becomes_its_own_error(status: int, kind: type[deft_client.ServiceError]) -> None:
    problem = {
        "code": "invalid_rows",
        "title": "t",
        "detail": "3 rows",
        "request_id": "req_1",
        "errors": [{"line": 4, "fix": "x"}],
    }
    handler, seen = answers(httpx2.Response(status, json=problem))
    with pytest.raises(kind, match="3 rows") as caught:
        client_of(handler).jobs.get("job_1")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.request_id) == ("invalid_rows", "req_1")
    assert caught.value.errors == [{"line": 4, "fix": "x"}]
    assert len(seen) == 1


def test_an_answer_that_is_not_the_services_is_named() -> None:
    handler, _ = answers(httpx2.Response(200, html="<p>hello</p>"), httpx2.Response(500, html="<p>oh</p>"))
    client = client_of(handler)
    with pytest.raises(deft_client.UnexpectedAnswer, match="text/html"):
        client.jobs.get("job_1")
    with pytest.raises(deft_client.ServerError, match="status 500"):
        client.jobs.get("job_1")


def test_lists_follow_the_cursor_and_stop_at_the_limit() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        start = int(request.url.params.get("after", 0))
        size = int(request.url.params["limit"])
        rows = [{"id": number} for number in range(start, min(start + size, 250))]
        more = start + size < 250
        return httpx2.Response(
            200, json={"data": rows, "has_more": more, "next_cursor": str(start + size) if more else None}
        )

    client = client_of(handler)
    assert [row["id"] for row in client.jobs.list()] == list(range(250))
    assert [row["id"] for row in client.jobs.list(limit=120)] == list(range(120))


def test_upload_streams_the_file_anew_in_each_attempt(tmp_path: Path) -> None:
    path = tmp_path / "prefs.jsonl.gz"
    path.write_bytes(b"x" * 3_000_000)
    handler, seen = answers(httpx2.Response(503), httpx2.Response(201, json={"id": "ds_1"}))
    sent: list[tuple[int, int]] = []
    dataset = client_of(handler).datasets.upload(
        path, on_bad_row="skip", on_sent=lambda done, total: sent.append((done, total))
    )
    assert dataset == {"id": "ds_1"}
    assert [len(request.content) for request in seen] == [3_000_000, 3_000_000]
    assert seen[1].method == "PUT"
    assert dict(seen[1].url.params) == {"on_bad_row": "skip", "filename": "prefs.jsonl.gz"}
    assert sent[-1] == (3_000_000, 3_000_000)


def test_upload_with_columns_or_several_files_is_a_form(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"content of {name}")
    handler, seen = answers(httpx2.Response(201, json={}), httpx2.Response(201, json={}))
    client = client_of(handler)
    client.datasets.upload(tmp_path / "a.csv", columns={"prompt": "q"})
    client.datasets.upload([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert b'{"prompt": "q"}' in seen[0].content
    assert seen[1].content.count(b'name="file"') == 2
    assert b"content of b.csv" in seen[1].content
    assert seen[1].headers["idempotency-key"]


def test_upload_of_a_missing_file_sends_nothing(tmp_path: Path) -> None:
    handler, seen = answers()
    with pytest.raises(FileNotFoundError):
        client_of(handler).datasets.upload(tmp_path / "none.jsonl")
    assert seen == []


def test_wait_reports_changes_once_and_survives_an_absence() -> None:
    running = {"id": "job_1", "status": "running"}
    done = {"id": "job_1", "status": "succeeded"}
    handler, seen = answers(
        httpx2.Response(200, json=running, headers={"etag": '"1"'}),
        httpx2.Response(304, headers={"etag": '"1"'}),
        *(httpx2.ConnectError("refused") for _ in range(4)),
        httpx2.Response(200, json=done, headers={"etag": '"2"'}),
    )
    changes: list[str] = []
    job = client_of(handler).jobs.wait("job_1", lambda job: changes.append(job["status"]))
    assert job == done
    assert changes == ["running", "succeeded"]
    assert seen[1].headers["if-none-match"] == '"1"'


def test_wait_gives_up_when_its_time_is_over() -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"status": "running"})

    with pytest.raises(deft_client.WaitedTooLong, match="goes on"):
        client_of(handler).jobs.wait("job_1", timeout_seconds=0.01)


def test_wait_does_not_hide_a_refusal() -> None:
    handler, _ = answers(httpx2.Response(401, json={"code": "not_authenticated"}))
    with pytest.raises(deft_client.NotAuthenticated):
        client_of(handler).jobs.wait("job_1")


class Files:
    """An artifact with one file, served with Range, that can break off, lie or truncate."""

    def __init__(self, content: bytes, *, path: str = "data/kept.jsonl") -> None:
        self.content = content
        self.served = content
        self.path = path
        self.ranges: list[str | None] = []
        self.break_after: list[int] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.startswith("/v1/subsets/sub_1/files/"):
            entry = {
                "path": self.path,
                "bytes": len(self.content),
                "sha256": hashlib.sha256(self.content).hexdigest(),
                "url": "",
            }
            return httpx2.Response(200, json={"id": "sub_1", "files": [entry]})
        asked = request.headers.get("range")
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = self.served[start:]
        if self.break_after:
            return httpx2.Response(206 if asked else 200, stream=Broken(body[: self.break_after.pop(0)]))
        return httpx2.Response(206 if asked else 200, stream=Streamed(body))


class Streamed(httpx2.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self.body


class Broken(Streamed):
    def __iter__(self) -> Iterator[bytes]:
        yield self.body
        raise httpx2.ReadError("connection reset")


def test_a_broken_download_resumes_and_is_checked(tmp_path: Path) -> None:
    files = Files(bytes(range(256)) * 4000)
    files.break_after = [300_000, 0, 400_000]
    paths = client_of(files).subsets.download("sub_1", tmp_path)
    assert paths == [tmp_path / "data" / "kept.jsonl"]
    assert paths[0].read_bytes() == files.content
    assert files.ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=700000-"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["kept.jsonl"]


def test_a_download_goes_on_from_an_earlier_call_and_skips_what_is_there(tmp_path: Path) -> None:
    files = Files(b"0123456789" * 10)
    files.break_after = [40, *itertools.repeat(0, 4)]
    with pytest.raises(deft_client.Unreachable):
        client_of(files).subsets.download("sub_1", tmp_path)
    assert not (tmp_path / "data" / "kept.jsonl").exists()
    client_of(files).subsets.download("sub_1", tmp_path)
    assert (tmp_path / "data" / "kept.jsonl").read_bytes() == files.content
    assert files.ranges[-1] == "bytes=40-"
    before = len(files.ranges)
    client_of(files).subsets.download("sub_1", tmp_path)
    assert len(files.ranges) == before


def test_a_wrong_part_is_fetched_afresh(tmp_path: Path) -> None:
    files = Files(b"right content")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kept.jsonl.part").write_bytes(b"wrong")
    client_of(files).subsets.download("sub_1", tmp_path)
    assert (tmp_path / "data" / "kept.jsonl").read_bytes() == b"right content"
    assert files.ranges == ["bytes=5-", None]


def test_a_file_with_another_hash_is_never_put_in_place(tmp_path: Path) -> None:
    files = Files(b"right content")
    files.served = b"other content"
    with pytest.raises(deft_client.DownloadCorrupt, match=r"kept\.jsonl"):
        client_of(files).subsets.download("sub_1", tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "", "a\\..\\b"])
def test_a_service_cannot_write_outside_the_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(deft_client.UnexpectedAnswer, match="outside"):
        client_of(Files(b"x", path=path)).subsets.download("sub_1", tmp_path / "here")
    assert not (tmp_path / "evil").exists()


def test_asking_for_a_file_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(deft_client.UnexpectedAnswer, match=r"kept\.xlsx.*data/kept\.jsonl"):
        client_of(Files(b"x")).subsets.download("sub_1", tmp_path, only=["kept.xlsx"])


def test_log_is_text_in_either_form() -> None:
    handler, _ = answers(httpx2.Response(200, text="a\nb"), httpx2.Response(200, json={"lines": ["a", "b"]}))
    client = client_of(handler)
    assert client.jobs.log("job_1") == "a\nb"
    assert client.jobs.log("job_1") == "a\nb"


def test_a_subset_is_asked_for_with_what_was_given() -> None:
    handler, seen = answers(httpx2.Response(202, json={"id": "job_1"}), httpx2.Response(202, json={"id": "job_2"}))
    client_of(handler).subsets.create("sc_1", {"keep": 0.1}, distribution="sc_2", aspects={"helpful": 1.0})
    client_of(handler).subsets.create("sc_1")
    assert [json.loads(request.content) for request in seen] == [
        {"scoring": "sc_1", "selection": {"keep": 0.1}, "distribution": "sc_2", "aspects": {"helpful": 1.0}},
        {"scoring": "sc_1"},
    ]
