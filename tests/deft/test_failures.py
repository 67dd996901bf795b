import errno
import io
import json
import sys
import types

import pytest

from deft.errors import DeftError, Finding, InvalidRows, NotFound
from deft.failures import failure_of, out_of_memory
from deft.listeners import EventLines, StopRequest


def subclasses(kind):
    return [kind, *(deep for sub in kind.__subclasses__() for deep in subclasses(sub))]


@pytest.mark.parametrize("kind", subclasses(DeftError))
def test_each_of_our_errors_keeps_its_category_and_code(kind):
    failure = failure_of(kind("what happened"))
    assert (failure["category"], failure["code"]) == (kind.category, kind.code)
    assert failure["message"] == "what happened"


def test_an_errors_own_code_and_findings_are_kept():
    finding = Finding("empty", "''", "text", "fill it", line=3)
    failure = failure_of(InvalidRows("bad", code="empty_rows", findings=[finding] * 30))
    assert failure["code"] == "empty_rows"
    assert failure["findings"] == [finding.as_dict()] * 20


def test_memory_errors_are_capacity(monkeypatch):
    torch = types.ModuleType("torch")
    torch.OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "torch", torch)
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"),
    ):
        failure = failure_of(error)
        assert (failure["category"], failure["code"], failure["retryable"]) == ("capacity", "out_of_memory", True)
        assert failure["findings"] == []


def test_what_helps_against_running_out_of_memory_is_named_in_the_order_of_its_effect():
    train = {"optimisation": {"micro_batch_size": 1, "precision": "bf16"}, "tokens": {"max_total_tokens": 512}}
    error = out_of_memory(MemoryError("9 GB"), {**train, "lora": {"r": 16}})
    assert error.message == "memory ran out: 9 GB; change tokens.max_total_tokens, then lora.r"
    assert [(each.pointer, each.found) for each in error.findings] == [
        ("/tokens/max_total_tokens", "512"),
        ("/lora/r", "16"),
    ]
    score = {"tokens": {"max_total_tokens": 512}, "precision": "auto"}
    assert [each.pointer for each in out_of_memory(MemoryError(), score).findings] == [
        "/tokens/max_total_tokens",
        "/precision",
    ]


def test_a_setting_that_may_not_be_another_is_not_named(monkeypatch):
    tuned = {"lora": None, "optimisation": {"quantisation": "none", "precision": "auto"}}
    assert [each.pointer for each in out_of_memory(MemoryError(), tuned).findings] == ["/optimisation/precision"]
    on_gpu = types.SimpleNamespace(OutOfMemoryError=MemoryError, cuda=types.SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", on_gpu)
    assert not out_of_memory(MemoryError(), tuned).findings


def test_a_full_disk_is_capacity():
    assert failure_of(OSError(errno.ENOSPC, "No space left", "/data/x"))["code"] == "storage_full"


def test_another_error_is_internal():
    assert failure_of(KeyError("x"))["code"] == "internal"
    assert failure_of(NotFound())["code"] == "not_found"


def test_events_are_single_json_lines_and_nan_becomes_null():
    stream = io.StringIO()
    report = EventLines(stream, StopRequest())
    report.metrics(3, {"loss": float("nan"), "margin": 0.5})
    report.note("two\nlines")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines == [
        {"event": "metrics", "step": 3, "values": {"loss": None, "margin": 0.5}},
        {"event": "note", "message": "two\nlines"},
    ]


def test_a_burst_of_progress_is_thinned_but_its_last_count_is_told():
    stream = io.StringIO()
    report = EventLines(stream, StopRequest())
    for done in range(1, 1001):
        report.progress(done, 1000, "rows")
    told = [json.loads(line)["done"] for line in stream.getvalue().splitlines()]
    assert told[0] == 1
    assert told[-1] == 1000
    assert len(told) < 10
