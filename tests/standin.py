"""A torch-free stand-in for `python -m deft` that speaks the same protocol and misbehaves on request.

The job's name is its plan, `key=value` words: `steps`, `seconds` (of one step), `every` (checkpoint), `die`, `raise`,
`oom`, `hang` at a step, `times` (how often it misbehaves), `log` (bytes written to standard error), `grandchild=1`,
`deaf=1` (ignores SIGTERM), `bare=1` (keeps no checkpoint), `review` (asks a person to look, at a step), `diesoon`
(after every checkpoint, in tenths of a second).
Its result is a hash over all steps, so a resumed run must have continued from the right state.
The jobs of a scoring in shards read the plan of the scoring: `seconds` is that of a row, `raise` is at a row, `review`
is the count's; the merged result is a line for every row.
What it did goes to `$STANDIN_SCRATCH/<plan's id>.jsonl`.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deft import __main__ as deft_main
from deft import operations
from deft.errors import Interrupted, OutOfMemory, ReviewNeeded
from deft.folders import publish, seal, verify
from deft.reports import Report


def plan_of(name: str | None) -> dict[str, float]:
    words = [word.partition("=") for word in (name or "").split() if "=" in word]
    return {key: float(value) for key, _, value in words}


class Diary:
    def __init__(self, name: str) -> None:
        self.path = Path(os.environ["STANDIN_SCRATCH"]) / f"{name.split()[0]}.jsonl"

    def write(self, **entry: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({**entry, "pid": os.getpid(), "at": time.time()}) + "\n")

    def count(self, what: str) -> int:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return sum(json.loads(line)["what"] == what for line in lines)


def latest(checkpoints: Path) -> tuple[int, str]:
    for folder in sorted(checkpoints.glob("step-*"), reverse=True):
        verify(folder)
        state = json.loads((folder / "state.json").read_text())
        return state["step"], state["value"]
    return 0, ""


def save(checkpoints: Path, step: int, value: str) -> Path:
    staged = checkpoints / f".step-{step:06d}"
    staged.mkdir(parents=True, exist_ok=True)
    (staged / "state.json").write_text(json.dumps({"step": step, "value": value}))
    seal(staged, {"step": step})
    final = checkpoints / f"step-{step:06d}"
    publish(staged, final)
    return final


def misbehave(plan: dict[str, float], step: int, diary: Diary) -> None:
    if diary.count("misbehaved") >= plan.get("times", 1):
        return
    for deed in ("die", "raise", "oom", "hang"):
        if plan.get(deed) != step:
            continue
        diary.write(what="misbehaved", deed=deed, step=step)
        if deed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "raise":
            raise RuntimeError("the stand-in was told to raise")
        if deed == "oom":
            raise OutOfMemory
        time.sleep(600)


def run_standin(spec, *, inputs, out, checkpoints, report: Report, **_):
    plan, diary = plan_of(spec.name), Diary(spec.name)
    step, value = latest(checkpoints)
    diary.write(what="started", step=step, inputs=sorted(inputs))
    sys.stderr.write("a stand-in runs\n")
    if "log" in plan:
        sys.stderr.write("x" * 99 + "\n" * 1)
        for _ in range(int(plan["log"]) // 100):
            sys.stderr.write("y" * 99 + "\n")
    if "grandchild" in plan:
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        diary.write(what="grandchild", grandchild=grandchild.pid)
    report.phase("standing_in")
    steps = int(plan.get("steps", 3))
    while step < steps:
        step += 1
        time.sleep(plan.get("seconds", 0))
        value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
        misbehave(plan, step, diary)
        report.progress(step, steps, "steps")
        report.metrics(step, {"loss": 1 / step})
        if "bare" not in plan and (
            step % int(plan.get("every", 5)) == 0 or (report.is_stopping and "deaf" not in plan)
        ):
            report.checkpoint(step, save(checkpoints, step, value))
            if "diesoon" in plan and step < steps:  # once the worker has heard of it
                time.sleep(plan["diesoon"] / 10)
                os.kill(os.getpid(), signal.SIGKILL)
        if plan.get("review") == step and "odd_numbers" not in report.accepted:
            report.checkpoint(step, save(checkpoints, step, value))
            diary.write(what="review", step=step)
            raise ReviewNeeded("the numbers are odd", code="odd_numbers")
        if report.is_stopping and "deaf" not in plan:
            diary.write(what="stopped", step=step)
            raise Interrupted
    (out / "result.txt").write_text(value)
    diary.write(what="finished", step=step)
    return {"value": value, "steps": steps}


def run_count(spec, *, inputs, out, checkpoints, report: Report):
    plan, diary = plan_of(spec.score.name), Diary(spec.score.name)
    diary.write(what="started", part="count")
    if "review" in plan and "odd_numbers" not in report.accepted:
        raise ReviewNeeded("the numbers are odd", code="odd_numbers")
    (out / "counts.txt").write_text("counted")
    return {}


def run_shard(spec, *, inputs, out, checkpoints, report: Report):
    plan, diary = plan_of(spec.score.name), Diary(spec.score.name)
    diary.write(what="started", part=spec.start)
    counted = (inputs["counted"] / "counts.txt").read_text()
    report.phase("score")
    with (out / "rows.txt").open("w") as file:
        for row in range(spec.start, spec.stop):
            time.sleep(plan.get("seconds", 0))
            if plan.get("raise") == row:
                raise RuntimeError("the stand-in was told to raise")
            if report.is_stopping:
                diary.write(what="stopped", part=spec.start)
                raise Interrupted
            file.write(f"{row} {counted}\n")
            report.progress(row + 1 - spec.start, spec.stop - spec.start, "examples")
    diary.write(what="finished", part=spec.start)
    return {"rows": spec.stop - spec.start}


def run_merge(spec, *, inputs, out, checkpoints, report: Report):
    diary = Diary(spec.score.name)
    diary.write(what="started", part="merge")
    parts = [(inputs[f"part.{index}"] / "rows.txt").read_text() for index in range(len(spec.parts))]
    (out / "result.txt").write_text("".join(parts))
    diary.write(what="finished", part="merge")
    return {"parts": len(parts)}


PARTS = {"score_count": run_count, "score_shard": run_shard, "score_merge": run_merge}


if __name__ == "__main__":
    operations.operation_of = lambda kind: PARTS.get(kind, run_standin)
    operations.require_inputs = lambda _spec, _given: None
    sys.exit(deft_main.main())
