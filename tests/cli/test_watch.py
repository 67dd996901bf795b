import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from cli import watch
from cli.watch import Bars, Lines


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def child(name: str, status: str, phase: str | None = None, done: int = 0, total: int = 0) -> dict[str, Any]:
    progress = {"done": done, "total": total, "unit": "pairs", "seconds_remaining": 12.0} if total else None
    return {"id": f"job_{name}", "name": name, "kind": "train", "status": status, "phase": phase, "progress": progress}


def parent(*children: dict[str, Any], status: str = "running") -> dict[str, Any]:
    return {"id": "job_p", "name": None, "kind": "pipeline", "status": status, "children": list(children)}


def test_lines_come_at_each_change_and_after_thirty_silent_seconds() -> None:
    written: list[str] = []
    clock = Clock()
    lines = Lines(written.append, clock)
    lines.show(parent(child("score", "queued"), child("train", "waiting")))
    assert written == []
    lines.show(parent(child("score", "running", "count", 0, 10), child("train", "waiting")))
    clock.time = 5
    lines.show(parent(child("score", "running", "count", 5, 10), child("train", "waiting")))
    clock.time = 31
    lines.show(parent(child("score", "running", "count", 8, 10), child("train", "waiting")))
    lines.show(parent(child("score", "running", "score", 1, 4), child("train", "waiting")))
    lines.show(parent(child("score", "succeeded"), child("train", "failed")))
    texts = [line.partition("]  ")[2] for line in written]
    assert texts == [
        "score  count  0/10 pairs  about 12 s left",
        "score  count  8/10 pairs  about 12 s left",
        "score  score  1/4 pairs  about 12 s left",
        "score  succeeded",
        "train  failed",
    ]


def test_a_job_that_waits_says_why() -> None:
    written: list[str] = []
    clock = Clock()
    lines = Lines(written.append, clock)
    job = {"id": "job_1", "kind": "score", "status": "queued", "queue_position": 3, "waiting_reason": "1 slot is busy"}
    lines.show(job)
    clock.time = 30
    lines.show(job)
    assert [line.partition("]  ")[2] for line in written] == ["job_1  queued, 3 in the queue: 1 slot is busy"]


def test_bars_keep_finished_phases_as_lines() -> None:
    out = io.StringIO()
    progress = Progress(console=Console(file=out, width=120))
    bars = Bars(progress, Clock())
    bars.show(parent(child("score", "queued")))
    assert len(progress.tasks) == 1
    bars.show(parent(child("score", "running", "count", 1, 10)))
    bars.show(parent(child("score", "running", "score", 1, 4), child("train", "running", "train", 0, 5)))
    assert [task.completed for task in progress.tasks] == [1, 0]
    bars.show(parent(child("score", "succeeded", "score", 4, 4), child("train", "cancelled"), status="cancelled"))
    bars.show(parent(child("score", "succeeded", "score", 4, 4), child("train", "cancelled"), status="cancelled"))
    assert progress.tasks == []
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines == [
        ["score", "count", "10", "pairs", "0", "s"],
        ["score", "score", "4", "pairs", "0", "s"],
        ["train", "train", "5", "pairs", "0", "s"],
        ["x", "train", "cancelled"],
    ]


def test_a_failure_is_told_with_its_code_and_the_end_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    class Jobs:
        def get(self, job_id: str) -> dict[str, Any]:
            failure = {"category": "user", "code": "training_diverged", "message": "loss is NaN", "reference": "ref_1"}
            return {"id": job_id, "name": "train:deft", "kind": "train", "status": "failed", "failure": failure}

        def log(self, _job_id: str) -> str:
            return "\n".join(f"line {number}" for number in range(40))

    class Fake:
        jobs = Jobs()

    watch.explain_failure(Fake(), parent(child("train:deft", "failed"), status="failed"))  # type: ignore[arg-type]
    printed = capsys.readouterr().err
    assert "job_train:deft (train:deft) failed: loss is NaN" in printed
    assert "category user, code training_diverged, reference ref_1" in printed
    assert "line 39" in printed
    assert "line 20" not in printed
