"""Operations as the worker runs them, `python -m deft ... --events` in a child process, and the time of each phase."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.machine import REPOSITORY
from bench.texts import write_pairs
from bench.workload import Workload
from deft.data.datasets import import_files
from worker.child import environment_for_child


def run_operation(spec: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Run *spec* into *out*; return the seconds of every phase, of the `start` before them, and of `all`."""
    path = out.with_suffix(".json")
    path.write_text(json.dumps(spec), encoding="utf-8")
    given = [part for name, folder in inputs.items() for part in ("--input", f"{name}={folder}")]
    command = [sys.executable, "-m", "deft", str(path), *given, "--out", str(out), "--events"]
    log = out.with_suffix(".log")
    started_at = time.perf_counter()
    marks = [("start", started_at)]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=REPOSITORY,
            env=environment_for_child(os.environ),
        ) as child,
    ):
        assert child.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] == "phase":
                marks.append((event["phase"], time.perf_counter()))
    ended_at = time.perf_counter()
    if child.returncode:
        raise RuntimeError(f"{spec['kind']} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    seconds: dict[str, float] = {}
    for (name, at), (_, until) in zip(marks, [*marks[1:], ("", ended_at)], strict=True):
        seconds[name] = round(seconds.get(name, 0.0) + until - at, 2)
    return {**seconds, "all": round(ended_at - started_at, 2)}


def dataset_of(work: Workload, pairs: int) -> Path:
    """Write *pairs* pairs as a dataset folder and return it."""
    folder = work.scratch / f"dataset-{pairs}"
    if not folder.exists():
        source = work.scratch / f"pairs-{pairs}.jsonl"
        write_pairs(source, pairs, work.scratch)
        import_files([source], folder)
    return folder
