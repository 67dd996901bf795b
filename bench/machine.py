"""Where and on which commit a result was measured, and the clocks that everything is measured with."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def machine(device: str) -> dict[str, Any]:
    """Return what a reader must know of the machine, the commit and the libraries."""
    import peft
    import transformers

    changes = _git("status", "--porcelain", "--", ":!bench/results")
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if changes else ""),
        "processor": f"{os.cpu_count()}-core {_processor()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gflops_float32": round(gflops(), 0),
        "torch_threads": torch.get_num_threads(),
        "settings": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    }


def gflops(size: int = 1024, repeats: int = 8) -> float:
    """Return how fast torch multiplies float32 matrices on the CPU with all its threads, the best of a few tries."""
    matrix = torch.ones(size, size)
    fastest = float("inf")
    for _ in range(repeats):
        started_at = time.perf_counter()
        torch.mm(matrix, matrix)
        fastest = min(fastest, time.perf_counter() - started_at)
    return 2e-9 * size**3 / fastest


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments],  # noqa: S607 - whichever git made the checkout
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{platform.machine()} {next(names, '')}".strip()


@dataclass(slots=True)
class Clock:
    """Wall-clock and processor seconds of named parts of one run."""

    wall: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside under *name*; the GPU's queue is emptied before either reading."""
        _wait_for_device()
        wall, processor = time.perf_counter(), time.process_time()
        yield
        _wait_for_device()
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.processor[name] = self.processor.get(name, 0.0) + time.process_time() - processor


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(slots=True)
class Rounds:
    """Clocks of several ways of doing one thing, one clock a way and round."""

    clocks: dict[str, list[Clock]]

    def seconds(self, way: str, *parts: str, kind: str = "wall") -> list[float]:
        """Return the seconds of *parts* (default: all) of *way*, one number a round."""
        return [sum(s for name, s in getattr(c, kind).items() if not parts or name in parts) for c in self.clocks[way]]

    def as_dict(self) -> dict[str, Any]:
        """Return all readings, in seconds."""
        return {
            way: {
                kind: [{name: round(s, 3) for name, s in getattr(clock, kind).items()} for clock in clocks]
                for kind in ("wall", "processor")
            }
            for way, clocks in self.clocks.items()
        }


def interleaved(ways: Mapping[str, Callable[[Clock], None]], *, rounds: int, seconds: float = float("inf")) -> Rounds:
    """Run *ways* one after another, *rounds* times, in turned order every other round.

    At least two rounds are run; no other begins once *seconds* have passed.
    """
    found = Rounds({name: [] for name in ways})
    started_at = time.perf_counter()
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - started_at > seconds:
            break
        for name in list(ways) if number % 2 == 0 else reversed(list(ways)):
            clock = Clock()
            ways[name](clock)
            found.clocks[name].append(clock)
            print(f"  round {number + 1}, {name}: {sum(clock.wall.values()):.1f} s", file=sys.stderr, flush=True)
    return found


def ratio(slower: list[float], faster: list[float]) -> dict[str, float]:
    """Return median, lowest and highest of the paired ratios *slower* / *faster*."""
    ratios = np.array(slower) / np.array(faster)
    return {
        "median": round(float(np.median(ratios)), 2),
        "low": round(float(ratios.min()), 2),
        "high": round(float(ratios.max()), 2),
        "rounds": len(ratios),
    }


def ratios(rounds: Rounds, slower: tuple[str, ...], faster: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return `ratio` of (way, part, ...) *slower* over *faster* by wall clock and by processor time."""
    return {
        kind: ratio(rounds.seconds(*slower, kind=kind), rounds.seconds(*faster, kind=kind))
        for kind in ("wall", "processor")
    }
