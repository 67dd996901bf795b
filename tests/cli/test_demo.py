"""The demo's line against a service that is played: no torch, no processes."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli import watch
from cli.demo import flow, made_up, origin
from cli.demo.failure import DemoFailed
from cli.demo.flow import Checks
from cli.demo.options import DemoOptions
from cli.demo.origin import Origin
from cli.demo.report import NOT_SHOWN, commands, print_report, write_report
from cli.demo.server import Server
from deft.arms import submit_children
from deft.specs import PipelineSpec, job_spec, spec_json
from deft_client import Client

FILES = {
    "subset": {
        "kept.jsonl": b'{"a": 1}\n',
        "kept.parquet": b"PAR1",
        "ledger.jsonl": b"{}\n",
        "ledger.parquet": b"PAR1",
    },
    "adapter": {"adapter_model.safetensors": b"\0" * 1000, "adapter_config.json": b"{}", "probe.safetensors": b"\0"},
    "evaluation": {"comparison.json": b"{}", "metrics.json": b"[]", "generations.jsonl": b"{}\n"},
}
CELL = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 48, "is_trained_on": False}
TERM_CELL = {"value": 0.7, "low": 0.5, "high": 0.8, "n": 48, "is_trained_on": True}
COMPARISON = {
    "sentence": "On 48 pairs the arm deft is within noise of random.",
    "smallest_detectable_difference": 0.1234,
    "table": [
        {"arm": "base", "draws": 1, "cells": {"preference_accuracy": CELL}},
        {"arm": "deft", "draws": 1, "cells": {"preference_accuracy": CELL, "r_d_accuracy": TERM_CELL}},
    ],
}


class FakeService:
    """Plays the service: every look at the pipeline finishes one more child."""

    def __init__(self, *, failing_child: str | None = None) -> None:
        self.failing_child = failing_child
        self.uploaded = b""
        self.upload_query: dict[str, str] = {}
        self.spec: PipelineSpec | None = None
        self.children: list[dict[str, Any]] = []
        self.looks = 0
        self.cancelled: list[str] = []

    def client(self) -> Client:
        client = Client("http://service.test", "key", transport=httpx2.MockTransport(self))
        client.exchange.pause = lambda _seconds: None  # type: ignore[method-assign]
        return client

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        parts = request.url.path.strip("/").split("/")[1:]
        if request.method == "PUT":
            self.uploaded, self.upload_query = request.read(), dict(request.url.params)
            findings = [{"code": "empty", "line": 4, "found": "''", "expected": "text", "fix": "fill it in"}]
            summary = {"rows": 10, "rejected": 1, "format": "hh", "findings": findings, "splits": {"train": 8}}
            return httpx2.Response(201, json={"id": "ds_1", "summary": summary})
        if request.method == "POST":
            return self.post(parts, request)
        if parts[0] == "jobs":
            return (
                httpx2.Response(200, json=self.job(parts[1])) if len(parts) == 2 else self.list_or_log(parts, request)
            )
        return self.artifact(parts)

    def post(self, parts: list[str], request: httpx2.Request) -> httpx2.Response:
        if parts[-1] == "cancel":
            self.cancelled.append(parts[1])
            return httpx2.Response(200, json={"id": parts[1], "status": "cancelled"})
        spec = job_spec.validate_json(request.read())
        assert isinstance(spec, PipelineSpec)
        self.spec = spec

        def submit(name: str, child: Any) -> str:
            job_id = f"job_{len(self.children)}"
            self.children.append({"id": job_id, "name": name, "kind": child.kind, "status": "queued", "phase": None})
            return job_id

        submit_children(spec, submit)
        return httpx2.Response(202, json=self.job("job_p"))

    def list_or_log(self, parts: list[str], request: httpx2.Request) -> httpx2.Response:
        if parts[-1] == "log":
            return httpx2.Response(200, text="the last line of the log")
        leftover = {"id": "job_old", "name": "demo", "status": "running"}
        other = {"id": "job_mine", "name": "my own", "status": "running"}
        rows = [leftover, other] if request.url.params.get("status") == "running" else []
        return httpx2.Response(200, json={"data": rows, "has_more": False, "next_cursor": None})

    def job(self, job_id: str) -> dict[str, Any]:
        for index, child in enumerate(self.children):
            if child["id"] == job_id:
                kind = {"select": "subset", "train": "adapter"}.get(child["kind"], "evaluation")
                failure = {"category": "user", "code": "model_not_usable", "message": "no head", "reference": "r"}
                made = {"id": f"{kind}_{index}", "kind": kind}
                return {**child, "artifact": made, "failure": failure if child["status"] == "failed" else None}
        status = self.advance()
        return {
            "id": "job_p",
            "kind": "pipeline",
            "status": status,
            "children": self.children,
            "artifact": {"id": "ev_1"},
        }

    def advance(self) -> str:
        self.looks += 1
        for child in self.children:
            if child["status"] == "running":
                child["status"] = "failed" if child["name"] == self.failing_child else "succeeded"
                if child["status"] == "failed":
                    return "failed"
            if child["status"] == "queued":
                child.update(status="running", phase="work")
                return "running"
        return "succeeded"

    def artifact(self, parts: list[str]) -> httpx2.Response:
        kind = parts[0].removesuffix("s")
        if len(parts) > 2:
            return httpx2.Response(200, stream=Streamed(FILES[kind][parts[-1]]))
        files = [
            {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "url": ""}
            for name, content in FILES[kind].items()
        ]
        return httpx2.Response(200, json={"id": parts[1], "kind": kind, "files": files, "comparison": COMPARISON})


class Streamed(httpx2.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self.body = body

    def __iter__(self) -> Any:
        yield self.body


@pytest.fixture
def pairs(tmp_path: Path) -> Origin:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')
    return Origin([path], "a test's own pair")


def test_the_line_goes_from_upload_to_report(
    pairs: Origin, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)
    service, options, out = FakeService(), DemoOptions(out=tmp_path / "out"), tmp_path / "out"
    looks: list[int] = []
    with service.client() as client:
        flow.cancel_earlier_runs(client)
        dataset = flow.upload(client, pairs)
        results = flow.run_pipeline(client, dataset, options, lambda: looks.append(service.looks))
        flow.download(client, results, out)
    checked = flow.check(
        out, tmp_path / "base", Checks(lambda folder: f"opened {folder.name}", lambda *_: "same logits")
    )
    write_report(out, pairs, options, results, checked, "9 min")
    said = capsys.readouterr().err
    print_report(pairs, results, checked, "9 min")
    printed = capsys.readouterr().out

    assert service.cancelled == ["job_old"]
    assert service.uploaded == pairs.files[0].read_bytes()
    assert service.upload_query["on_bad_row"] == "skip"
    assert "10 pairs accepted, 1 rows rejected" in said
    assert "pairs.jsonl:4: found '', expected text" in said
    assert all(f"{child['name']}  succeeded" in said for child in service.children)
    assert len(looks) == len(service.children)
    assert [child["name"] for child in service.children if child["kind"] == "train"] == [
        "train:deft",
        "train:no_reward_term",
        "train:random_with_term",
        "train:random",
    ]
    names = {child["id"]: child["name"] for child in service.children}
    assert names[f"job_{results.adapter_id.split('_')[1]}"] == "train:deft"
    assert names[f"job_{results.subset_id.split('_')[1]}"] == "select:lowest"
    assert (out / "subset" / "ledger.parquet").read_bytes() == FILES["subset"]["ledger.parquet"]
    assert (out / "adapter" / "adapter_model.safetensors").stat().st_size == 1000
    assert not (out / "evaluation" / "generations.jsonl").exists()
    lines = [line for line in printed.splitlines() if line]
    assert lines[0] == COMPARISON["sentence"]
    assert "0.123" in lines[1]
    words = [line.split() for line in lines]
    assert ["base", "0.500", "-"] in words
    assert ["deft", "0.500", "0.700", "*"] in words
    assert ["[0.400,", "0.600]", "[0.500,", "0.800]"] in words
    assert printed.count("n=48") == 2
    assert NOT_SHOWN in lines
    assert "Checked: subset: opened subset" in lines
    assert "Data: a test's own pair" in lines
    report = (out / "README.md").read_text()
    assert "| deft | 0.500 [0.400, 0.600] | 0.700 * [0.500, 0.800] |" in report
    assert COMPARISON["sentence"] in report
    assert "a test's own pair" in report
    facts = json.loads((out / "demo.json").read_text())
    assert facts["adapter"] == results.adapter_id
    assert facts["is_made_up"] is False


def test_a_failed_child_ends_the_demo_with_its_reason(
    pairs: Origin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0)
    service = FakeService(failing_child="train:deft")
    with service.client() as client, pytest.raises(DemoFailed, match="job_p failed"):
        flow.run_pipeline(client, flow.upload(client, pairs), DemoOptions(), lambda: None)
    said = capsys.readouterr().err
    assert "no head" in said
    assert "model_not_usable" in said
    assert "the last line of the log" in said


def test_a_server_that_ends_while_the_job_runs_ends_the_demo(pairs: Origin) -> None:
    def look() -> None:
        raise DemoFailed("deft serve ended")

    with FakeService().client() as client, pytest.raises(DemoFailed, match="deft serve ended"):
        flow.run_pipeline(client, flow.upload(client, pairs), DemoOptions(), look)


def test_an_interrupted_demo_leaves_no_job_that_goes_on(pairs: Origin) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    service = FakeService()
    with service.client() as client, pytest.raises(KeyboardInterrupt):
        flow.run_pipeline(client, flow.upload(client, pairs), DemoOptions(), interrupt)
    assert service.cancelled == ["job_p"]


def test_the_job_is_a_valid_pipeline_with_the_sizes_asked_for() -> None:
    options = DemoOptions(score_sample=20, keep=0.5, epochs=2, batch_size=4, random_draws=2, pairs=7, prompts=3, seed=9)
    spec = job_spec.validate_python(options.spec("ds_1"))
    found = spec_json(spec)
    assert found["score_sample"] == 20
    assert (found["tokens"]["max_prompt_tokens"], found["tokens"]["max_total_tokens"]) == (192, 256)
    assert found["selection"] == {
        "keep": 0.5,
        "count": None,
        "end": "lowest",
        "by": "chosen",
        "quota": "none",
        "seed": 9,
    }
    assert (found["optimisation"]["epochs"], found["optimisation"]["batch_size"]) == (2, 4)
    assert (found["random_draws"], found["evaluation"]["pairs"], found["evaluation"]["prompts"]) == (2, 7, 3)
    assert {found["seed"], found["optimisation"]["seed"], found["evaluation"]["seed"]} == {9}


def test_next_commands_name_what_was_made(tmp_path: Path) -> None:
    results = flow.Results({"id": "ds_1"}, {"id": "job_1"}, "sub_1", "ad_1", {"id": "ev_1"})
    server = Server(tmp_path / "demo", tmp_path, is_to_stay=False)
    text = "\n".join(commands(results, DemoOptions(), "deft", "http://127.0.0.1:5", "deft_key", server))
    assert "deft evals show ev_1" in text
    assert f"deft serve --data-folder {tmp_path / 'demo'}" in text
    assert "deft_key" not in text  # the server has stopped; its folder keeps the key


def test_the_hub_is_not_asked_when_the_machine_is_offline(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked: list[Path] = []
    assert origin.find(None, alone, fetch=lambda target: asked.append(target) is None).is_made_up
    assert asked == []


# Where the data comes from -----------------------------------------------------------------------------------------


def nothing(_target: Path) -> bool:
    return False


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data beside the repository, none named, scratch space."""
    monkeypatch.delenv("DEFT_DEMO_DATA", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(origin, "REPOSITORY", tmp_path / "clone")
    return tmp_path


def test_a_file_named_goes_before_all_else(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = alone / "mine.csv", alone / "other.jsonl"
    mine.write_text("x")
    other.write_text("y")
    monkeypatch.setenv("DEFT_DEMO_DATA", str(other))
    assert origin.find(mine, alone).files == [mine]
    assert origin.find(None, alone).files == [other]


def test_the_published_file_is_found_beside_the_repository(alone: Path) -> None:
    folder = alone / "shared" / "data" / "raw" / "hh-rlhf"
    folder.mkdir(parents=True)
    (folder / "harmless.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    found = origin.find(None, alone, fetch=nothing)
    assert found.files == [folder / "harmless.jsonl.gz"]
    assert "HH-RLHF in its published form" in found.label


def test_what_was_asked_for_and_is_not_there_ends_the_demo(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="3"):
        origin.find(alone / "none.jsonl", alone, fetch=nothing)
    monkeypatch.setenv("DEFT_DEMO_DATA", str(alone / "nowhere"))
    with pytest.raises(Exception, match="3"):
        origin.find(None, alone, fetch=nothing)


def test_the_hub_is_asked_next_and_its_commit_is_told(alone: Path) -> None:
    def fetch(target: Path) -> bool:
        target.write_bytes(b"content")
        return True

    found = origin.find(None, alone, fetch=fetch)
    assert found.files[0].read_bytes() == b"content"
    assert origin.HUB_COMMIT in found.label
    assert len(origin.HUB_COMMIT) == 40


def test_made_up_pairs_are_the_last_resort_and_say_so(alone: Path) -> None:
    found = origin.find(None, alone, fetch=nothing)
    assert found.is_made_up
    assert "made up" in found.label
    assert "NOT REAL" in found.label


def test_a_hub_that_does_not_answer_leaves_nothing(tmp_path: Path) -> None:
    def refuse(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectTimeout("slow")

    def missing(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404)

    for handler in (refuse, missing):
        assert not origin.download(tmp_path / "x", "https://hub.test/x", httpx2.MockTransport(handler))
    assert list(tmp_path.iterdir()) == []


def test_made_up_pairs_are_many_different_usable_and_always_the_same(tmp_path: Path) -> None:
    pairs = list(made_up.pairs())
    assert len(pairs) >= 400
    assert len({pair["prompt"] for pair in pairs}) == len(pairs)
    assert all(pair["chosen"].strip() and pair["rejected"].strip() for pair in pairs)
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)
    assert all(pair["prompt"].endswith("\n\nAssistant:") for pair in pairs)
    assert made_up.write(tmp_path / "a") == made_up.write(tmp_path / "b") == len(pairs)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_command_line_never_loads_torch() -> None:
    script = (
        "import sys; import cli.main, cli.demo.command, cli.serve\n"
        "loaded = {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
