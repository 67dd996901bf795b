import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli import artifacts, connect, data, evals, jobs, main, models, watch
from deft_client import Client
from tests.models import write_model_files

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """Lets every command talk to a played service."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)

    def play(handler: Handler) -> None:
        def connected() -> Client:
            client = Client("http://service.test", "key", transport=httpx2.MockTransport(handler), attempts=1)
            client.exchange.pause = lambda _seconds: None  # type: ignore[method-assign]
            return client

        for module in (artifacts, data, evals, jobs, models):
            monkeypatch.setattr(module, "connect", connected)

    return play


def deft(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(list(arguments))
    return int(ended.value.code or 0)


def page(*rows: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"data": list(rows), "has_more": False, "next_cursor": None})


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "job_1", "kind": "score", "name": None, "status": status, "created_at": "t", **more}


@pytest.mark.parametrize(
    ("status", "code"), [(401, 4), (403, 4), (404, 3), (409, 3), (413, 3), (422, 3), (500, 5), (503, 5)]
)
def test_the_exit_code_tells_whose_matter_it_is(status: int, code: int, service: Callable[[Handler], None]) -> None:
    service(lambda _request: httpx2.Response(status, json={"code": "some_code", "detail": "what it is"}))
    assert deft("jobs", "show", "job_1") == code


def a_plan() -> dict[str, Any]:
    cards = [
        {"card_gib": 80, "fits": True, "remedy": None, "largest_pass_examples": 90},
        {
            "card_gib": 24,
            "fits": False,
            "remedy": "smaller_micro_batch",
            "largest_pass_examples": 3,
        },
        {"card_gib": 16, "fits": False, "remedy": "nf4", "largest_pass_examples": 0},
        {"card_gib": 12, "fits": False, "remedy": None, "largest_pass_examples": 0},
        {"card_gib": 8, "fits": False, "remedy": "half_precision", "largest_pass_examples": 0},
    ]
    work = {"forward_tokens": 900, "trained_tokens": 0, "generated_tokens": 0, "flops": 1.5e12}
    return {
        "kind": "pipeline",
        "spec_hash": "abc",
        "model": {"name": "m", "parameters": 8_030_261_248, "trainable_parameters": 41_943_040, "basis": "counted"},
        "data": {
            "rows_scored": 128,
            "rows_kept": 7,
            "keep_reason": "5 % of 128",
            "rows_trained": None,
            "rows_held_out": 12,
            "prompts_held_out": 11,
            "prompts_answered": 8,
        },
        "arms": ["deft", "random"],
        "lengths": {"rows_sampled": 64, "prompt_tokens": 12.3, "response_tokens": 4.5, "longest_row_tokens": 40},
        "work": [{"name": "score", "rows": 128, "steps": None, **work}],
        "memory": [{"operation": "train", "peak_bytes": 23 * 2**30, "bytes_per_token": 2**23, "cards": cards}],
        "speed": [{"device": "h", "basis": "assumed", "forward_flops_per_second": 4e14, "total_seconds": 4000}],
        "queue": {"jobs_running": 1, "jobs_queued_before": 2, "wait_seconds": None},
        "detectable": {"difference": 0.123},
        "remarks": [{"code": "prompts_cut", "message": "8 % of the prompts are cut", "pointer": "/tokens"}],
    }


def test_a_plan_is_asked_for_with_the_body_of_a_job_and_told_in_tables(
    service: Callable[[Handler], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((str(request.url), json.loads(request.content)))
        return httpx2.Response(200, json=a_plan())

    service(answer)
    spec = tmp_path / "spec.json"
    spec.write_text('{"kind": "pipeline", "dataset": "ds_1", "model": "m", "optimisation": {"batch_size": 4}}')
    flags = ("--keep", "0.05", "--epochs", "2", "--method", "pro", "--flops-per-second", "2e12")
    assert deft("jobs", "plan", str(spec), *flags) == 0
    ((url, body),) = asked
    assert url == "http://service.test/v1/plans?flops_per_second=2000000000000.0"
    assert body["optimisation"] == {"batch_size": 4, "epochs": 2}
    assert (body["selection"], body["method"]) == ({"keep": 0.05}, {"type": "pro"})
    told = capsys.readouterr().out
    for words in (
        "8,030,261,248 parameters (counted)",
        "7 (5 % of 128)",
        "12 pairs of 11 prompts, 8 answered",
        "prompt 12, response 4 tokens (mean of 64 rows); longest example 40",
        "micro-batch 3",
        "needs nf4",
        "needs bf16",
        "8.00 GiB",
        "1 h 06 min",
        "1 running, 2 queued before it: time not known",
        "above 0.123",
        "- 8 % of the prompts are cut",
    ):
        assert words in told, words
    assert deft("jobs", "plan", str(spec), "--json") == 0
    assert json.loads(capsys.readouterr().out) == a_plan()
    assert deft("jobs", "plan", "--dataset", "ds_1") == 2


def test_usage_is_2_and_no_answer_is_5(service: Callable[[Handler], None]) -> None:
    def refuse(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    service(refuse)
    assert deft("jobs", "show") == 2
    assert deft("jobs", "frobnicate") == 2
    assert deft("jobs", "run") == 2
    assert deft("models", "register", "x") == 2
    assert deft("jobs", "ls") == 5


def test_a_problem_is_told_with_place_finding_fix_and_request(
    service: Callable[[Handler], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = {"line": 7, "column": "chosen", "found": "''", "expected": "text", "fix": "fill it in", "count": 31}
    problem = {"code": "invalid_rows", "detail": "31 rows are not usable", "request_id": "req_9", "errors": [finding]}
    service(lambda _request: httpx2.Response(422, json=problem))
    path = tmp_path / "prefs.jsonl"
    path.write_text("{}\n")
    assert deft("data", "push", str(path)) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "31 rows are not usable  [invalid_rows]" in printed.err
    assert "line 7  chosen: found '', expected text   (31 places like this" in printed.err
    assert "fix: fill it in" in printed.err
    assert "req_9" in printed.err


def test_waiting_ends_with_0_or_1(service: Callable[[Handler], None], capsys: pytest.CaptureFixture[str]) -> None:
    for status, code in (("succeeded", 0), ("failed", 1), ("cancelled", 1)):

        def answer(request: httpx2.Request, status: str = status) -> httpx2.Response:
            return httpx2.Response(200, json=job(status, artifact={"id": "sc_1", "kind": "scoring"}))

        service(answer)
        assert deft("jobs", "wait", "job_1") == code
    assert "sc_1" in capsys.readouterr().out


def test_flags_make_a_pipeline(service: Callable[[Handler], None], capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.read()))
        return httpx2.Response(202, json=job("queued"))

    service(answer)
    assert deft("jobs", "run", "--dataset", "ds_1", "--model", "m", "--keep", "0.25", "--arms", "deft,random") == 0
    assert seen[0] == {
        "kind": "pipeline",
        "dataset": "ds_1",
        "model": "m",
        "selection": {"keep": 0.25},
        "arms": ["deft", "random"],
    }
    assert capsys.readouterr().out == "job_1\n"


@pytest.mark.parametrize(
    ("flags", "said"), [(("--adapter", "ad_1"), {"adapter": "ad_1"}), (("--sft", "--epochs", "2"), {"sft": {}})]
)
def test_a_pipelines_start_is_a_flag(
    flags: tuple[str, ...], said: dict[str, Any], service: Callable[[Handler], None]
) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.read()))
        return httpx2.Response(202, json=job("queued"))

    service(answer)
    assert deft("jobs", "run", "--dataset", "ds_1", "--model", "m", *flags) == 0
    assert {name: seen[0].get(name) for name in ("adapter", "sft")} == {"adapter": None, "sft": None, **said}


def test_a_file_is_the_spec_and_flags_go_on_top(service: Callable[[Handler], None], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.read()))
        return httpx2.Response(202, json=job("queued"))

    service(answer)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kind": "score", "dataset": "ds_1", "model": "m"}))
    assert deft("jobs", "run", str(path), "--model", "other") == 0
    assert seen == [{"kind": "score", "dataset": "ds_1", "model": "other"}]


def test_a_dataset_flag_fills_the_place_that_the_kind_of_job_has_for_it(
    service: Callable[[Handler], None], tmp_path: Path
) -> None:
    sent: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.content))
        return httpx2.Response(202, json=job("queued"))

    service(answer)
    path = tmp_path / "spec.json"
    for kind, place in (("train", "data"), ("measure_omega", "data"), ("score", "dataset"), ("pipeline", "dataset")):
        path.write_text(json.dumps({"kind": kind, place: "ds_..."}))
        assert deft("jobs", "run", str(path), "--dataset", "ds_1") == 0
        assert sent[-1] == {"kind": kind, place: "ds_1"}


def test_a_method_of_the_flags_keeps_the_settings_of_the_same_method_in_the_file(
    service: Callable[[Handler], None], tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.read())["method"])
        return httpx2.Response(202, json=job("queued"))

    service(answer)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"kind": "train", "method": {"type": "pro", "sft_weight": 0.1}}))
    for method in ("pro", "dpo"):
        assert deft("jobs", "run", str(path), "--method", method) == 0
    assert seen == [{"type": "pro", "sft_weight": 0.1}, {"type": "dpo"}]


def test_a_file_that_is_no_spec_is_refused_without_asking(
    service: Callable[[Handler], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[httpx2.Request] = []
    service(lambda request: asked.append(request) or httpx2.Response(500))
    path = tmp_path / "spec.json"
    for content in ("{", "[]"):
        path.write_text(content)
        assert deft("jobs", "run", str(path)) == 3
        assert "spec.json" in capsys.readouterr().err
    assert asked == []


def test_a_spec_that_the_service_refuses_is_told_in_its_words(
    service: Callable[[Handler], None], capsys: pytest.CaptureFixture[str]
) -> None:
    finding = {"pointer": "/selection/keep", "found": "2", "expected": "at most 1", "fix": "Give a share."}
    problem = {"status": 422, "code": "invalid_body", "detail": "no", "errors": [finding]}
    service(lambda _: httpx2.Response(422, json=problem, headers={"content-type": "application/problem+json"}))

    assert deft("jobs", "run", "--dataset", "ds_1", "--model", "m", "--keep", "2") == 3
    shown = capsys.readouterr().err
    assert "/selection/keep" in shown
    assert "Give a share." in shown


def test_lists_are_plain_lines_without_a_terminal_and_json_on_request(
    service: Callable[[Handler], None], capsys: pytest.CaptureFixture[str]
) -> None:
    service(lambda _request: page(job("running", phase="score"), job("queued")))
    assert deft("jobs", "ls") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "id\tname\tkind\tstatus\tphase\tcreated"
    assert lines[1] == "job_1\t-\tscore\trunning\tscore\tt"
    assert deft("jobs", "ls", "--json") == 0
    assert [row["status"] for row in json.loads(capsys.readouterr().out)] == ["running", "queued"]


def test_pull_takes_the_newest_by_the_word_last(service: Callable[[Handler], None], tmp_path: Path) -> None:
    class Row(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"row\n"

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/subsets"):
            return page({"id": "sub_9"})
        if "/files/" in request.url.path:
            return httpx2.Response(200, stream=Row())
        entry = {"path": "kept.jsonl", "bytes": 4, "sha256": hashlib.sha256(b"row\n").hexdigest(), "url": ""}
        return httpx2.Response(200, json={"id": "sub_9", "files": [entry]})

    service(answer)
    assert deft("subsets", "pull", "last", str(tmp_path / "here")) == 0
    assert (tmp_path / "here" / "kept.jsonl").read_text() == "row\n"


def test_check_finds_the_row_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prefs.jsonl"
    good = {"prompt": "What is it?", "chosen": " A pear.", "rejected": " No."}
    rows = [good, {**good, "chosen": ""}, {**good, "prompt": "And now?"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert deft("data", "check", str(path)) == 3
    printed = capsys.readouterr()
    assert "prefs.jsonl:2" in printed.out
    assert "fix:" in printed.out
    assert "rejected  1" in printed.out
    path.write_text(json.dumps(good) + "\n")
    assert deft("data", "check", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1


def test_a_deep_check_names_what_is_wrong_with_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"what is {n}?", "chosen": f"a long answer to {n}", "rejected": f"no {n}"} for n in range(4)]
    rows += [rows[1], {**rows[2], "chosen": "no 2", "rejected": "a long answer to 2"}]
    path, held_out = tmp_path / "pairs.jsonl", tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out.write_text(json.dumps({"prompt": "What is 3?", "chosen": "three", "rejected": "four"}) + "\n")
    model = write_model_files(tmp_path / "model")
    flags = ["--deep", "--evaluation", str(held_out), "--model", str(model)]
    assert deft("data", "check", str(path), *flags) == 0
    said = capsys.readouterr().out
    assert "1 rows (16.7%), lines 2=5" in said
    assert "2 rows (33.3%), lines 3=6" in said
    assert "1 rows (100.0%), lines 1" in said
    assert "! 2 rows (33.3%) contradict" in said
    assert deft("data", "check", str(path), *flags, "--json") == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["duplicates"]["lines"] == [[2, 5]]
    assert report["truncation"]["rows_sampled"] == 6


def test_check_takes_a_column_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prefs.csv"
    path.write_text("question,good,bad\nWhat is it?,A pear.,No.\n")
    assert deft("data", "check", str(path), "--map", "prompt=question,chosen=good,rejected=bad") == 0
    assert deft("data", "check", str(path), "--map", "prompt") == 2
    assert deft("data", "check", str(path)) == 3
    assert "good" in capsys.readouterr().err


def test_the_local_server_is_found_by_its_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEFT_URL", "DEFT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEFT_DATA_FOLDER", str(tmp_path))
    (tmp_path / "serve.json").write_text('{"url": "http://127.0.0.1:4321", "pid": 1}')
    (tmp_path / "api-key").write_text("deft_local\n")
    client = connect.connect()
    assert client.url == "http://127.0.0.1:4321"
    assert client.exchange.http.headers["authorization"] == "Bearer deft_local"
    monkeypatch.setenv("DEFT_URL", "http://elsewhere.test")
    elsewhere = connect.connect()
    assert elsewhere.url == "http://elsewhere.test"
    assert "authorization" not in elsewhere.exchange.http.headers  # a local key is not sent to others
