"""A function in a process of its own, with the peak of its memory: `python -m bench.fresh MODULE FUNCTION JSON`."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.machine import REPOSITORY


def in_fresh_process(module: str, function: str, **arguments: object) -> dict[str, Any]:
    """Call *function* of *module* in a new interpreter and return its answer, a JSON object."""
    command = [sys.executable, "-m", "bench.fresh", module, function, json.dumps(arguments, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    if done.returncode:
        raise RuntimeError(f"{module}.{function} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def megabytes(name: str) -> float:
    """Return a field of this process's status in MB: `VmRSS` now, `VmHWM` the peak since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1000


def forget_peak() -> None:
    """Begin the peak `VmHWM` anew at what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


if __name__ == "__main__":
    module_name, function_name, given = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module_name), function_name)(**json.loads(given))))
