"""Scoring against the obvious script, in one run, on one machine: tokens of data a second.

The obvious script scores batches of 8 responses in file order: full logits, float32 log-softmax, its mean over the
response, times Q_diff. Batches of 1, which pad nothing, stand beside it. The rounds are interleaved. Wall clock and
processor time are both given: the first is what a user waits, the second is steady when others use the machine.

Lengths follow the HH mix (means 121 / 39 / 47 tokens; gamma of shape 1.1, which pads batches as the real pairs do).
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deft.models import load_base
from deft.reward import head_direction
from deft.scorer import score_examples
from deft.tokens import TokenizedExample

RESULT = Path(__file__).parent / "results" / "scoring.json"
SHAPE = 1.1


def pairs(count: int, vocabulary_size: int, seed: int = 0) -> list[TokenizedExample]:
    """Random tokens in pairs of HH's lengths."""
    rng = np.random.default_rng(seed)

    def ids(mean: int, longest: int) -> list[int]:
        size = int(np.clip(rng.gamma(SHAPE, mean / SHAPE), 2, longest))
        return rng.integers(17, vocabulary_size, size).tolist()

    return [TokenizedExample(ids(121, 384), [ids(39, 128), ids(47, 128)], [False, False]) for _ in range(count)]


@torch.inference_mode()
def obvious(
    model: nn.Module, examples: list[TokenizedExample], q_diff: NDArray[np.float64], batch: int
) -> NDArray[np.float64]:
    """R_d of every response as a first script would compute it."""
    rows = [(e.prompt_ids, ids) for e in examples for ids in e.response_ids]
    q = torch.from_numpy(q_diff).float()
    found = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        longest = max(len(p) + len(r) for p, r in part)
        ids = torch.tensor([p + r + [0] * (longest - len(p) - len(r)) for p, r in part])
        mask = torch.tensor([[1] * (len(p) + len(r)) + [0] * (longest - len(p) - len(r)) for p, r in part])
        logps = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits.float(), dim=-1)
        for row, (p, r) in enumerate(part):
            found.append(float(logps[row, len(p) - 1 : len(p) + len(r) - 1].mean(0) @ q))
    return np.array(found)


def timed(run: Callable[[], NDArray[np.float64]]) -> tuple[NDArray[np.float64], float, float]:
    """Return what *run* returns, its wall-clock seconds and its processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - processor


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Time the three ways in turn, *rounds* times, and compare their numbers."""
    model = load_base(folder, precision="fp32", device="cpu")
    vocabulary_size = model.get_output_embeddings().weight.shape[0]
    examples = pairs(count, vocabulary_size)
    q_diff = np.random.default_rng(1).standard_t(2, vocabulary_size)
    q_diff = q_diff / np.abs(q_diff).sum()
    q_diff -= q_diff.mean()
    direction = head_direction(model, q_diff)
    ways: dict[str, Callable[[], NDArray[np.float64]]] = {
        "deft": lambda: score_examples(model, examples, direction).r_d,
        "obvious_batch_8": lambda: obvious(model, examples, q_diff, 8),
        "obvious_batch_1": lambda: obvious(model, examples, q_diff, 1),
    }
    score_examples(model, examples[:2], direction)  # the first pass of a process is slower
    wall, processor = {name: [] for name in ways}, {name: [] for name in ways}
    r_d = {}
    for _ in range(rounds):
        for name, run in ways.items():
            r_d[name], seconds, busy = timed(run)
            wall[name].append(seconds)
            processor[name].append(busy)
    tokens = sum(len(e.prompt_ids) + len(ids) for e in examples for ids in e.response_ids)
    return {
        "model": folder.name,
        "dtype": "float32",
        "pairs": count,
        "rounds": rounds,
        "tokens_with_prompts_repeated": tokens,
        "tokens_per_second": {name: round(tokens / float(np.median(wall[name])), 1) for name in ways},
        "wall_seconds": {name: [round(s, 2) for s in wall[name]] for name in ways},
        "processor_seconds": {name: [round(s, 2) for s in processor[name]] for name in ways},
        "speedup_by_wall_clock": ratios(wall),
        "speedup_by_processor_time": ratios(processor),
        "largest_difference_by_spread": float(np.abs(r_d["deft"] - r_d["obvious_batch_1"]).max() / r_d["deft"].std()),
    }


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median over the rounds of (seconds of the other way / seconds of ours)."""
    ours = np.array(seconds["deft"])
    return {name: round(float(np.median(np.array(s) / ours)), 2) for name, s in seconds.items() if name != "deft"}


def machine() -> dict[str, Any]:
    """Where and on which commit this was measured."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": f"{os.cpu_count()}-core {platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average_at_start": round(os.getloadavg()[0], 1),
        "commit": commit,
    }


def main() -> None:
    """Measure and write bench/results/scoring.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path.home() / ".cache/deft/models/smollm2-135m", help="by default the demo's"
    )
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_known_args()[0]
    result = {**machine(), **measure(asked.model, asked.pairs, asked.rounds)}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
