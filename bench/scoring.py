"""Scoring against the obvious script, in turned rounds: tokens of data a second, the prompt counted for each response.

The obvious script scores batches of 8 responses in file order; batches of 1, which pad nothing, stand beside it.
"""

from typing import Any

import numpy as np

from bench.machine import Clock, interleaved, ratios
from bench.obvious import obvious_scores
from bench.workload import Workload, random_difference, tokens_apart
from deft.reward import head_direction
from deft.scoring.scorer import score_examples

PAIRS = {"cpu": 48, "cuda": 2048}


def measure(work: Workload) -> dict[str, Any]:
    """Time the three ways and compare their numbers."""
    pairs = work.pairs(8 if work.is_small else PAIRS[work.device])
    model = work.model()
    q_diff = random_difference(model.get_output_embeddings().weight.shape[0])
    direction = head_direction(model, q_diff)
    found: dict[str, np.ndarray] = {}

    def ours(clock: Clock) -> None:
        with clock.part("score"):
            found["deft"] = score_examples(model, pairs, direction).r_d

    def obvious(batch: int, clock: Clock) -> None:
        with clock.part("score"):
            found[f"obvious_batch_{batch}"] = obvious_scores(model, pairs, q_diff, batch)

    ways = {
        "deft": ours,
        "obvious_batch_8": lambda clock: obvious(8, clock),
        "obvious_batch_1": lambda clock: obvious(1, clock),
    }
    score_examples(model, pairs[:2], direction)  # the first pass of a process is slower
    rounds = interleaved(ways, rounds=2 if work.is_small else 5, seconds=240)
    tokens = tokens_apart(pairs)
    spread = float(found["obvious_batch_1"].std())
    return {
        **work.facts(pairs),
        "goal": "at least 3x the obvious script at batch 8 on a CPU, more on a GPU",
        "tokens_per_second": {way: round(tokens / float(np.median(rounds.seconds(way))), 1) for way in ways},
        "speedup": {way: ratios(rounds, (way,), ("deft",)) for way in ways if way != "deft"},
        "largest_difference_by_spread": float(np.abs(found["deft"] - found["obvious_batch_1"]).max() / spread),
        "seconds": rounds.as_dict(),
    }
