"""One LoRA-DPO epoch and DEFT as a whole, by us and by TRL, in turned rounds.

First TRL's fastest batch size and reference (each step, or computed before) are looked for. Then, each round: score all
pairs, keep 5 %, train on those; the same number of random pairs; all pairs by our trainer; all pairs by TRL.
"""

from typing import Any

import numpy as np

from bench.machine import Clock, Rounds, interleaved, ratio, ratios
from bench.ours import train_ours
from bench.trl_dpo import train_trl
from bench.workload import Workload, random_difference
from deft.reward import head_direction
from deft.scoring.scorer import score_examples
from deft.tokens import TokenizedExample

PAIRS = {"cpu": 40, "cuda": 1280}
TRL_BATCHES = {"cpu": (1, 2, 4), "cuda": (4, 8, 16, 32)}
KEEP = 0.05
CLEARLY_SLOWER = 1.2
SECONDS = 420
"""No third round begins after them: on two cores a round of 40 pairs takes four to five minutes."""


def measure(work: Workload) -> dict[str, Any]:
    """Look for TRL's best settings, then time the rounds."""
    pairs = work.pairs(8 if work.is_small else PAIRS[work.device])
    kept = max(round(KEEP * len(pairs)), 1)
    sweep = {} if work.is_small else trl_sweep(work)
    best = {"batch": 1, "precompute": False} if work.is_small else min(sweep.values(), key=lambda s: s["first"])
    losses: dict[str, list[float]] = {}

    def deft(clock: Clock) -> None:
        base = work.model()
        q_diff = random_difference(base.get_output_embeddings().weight.shape[0])
        with clock.part("score"):
            r_d = score_examples(base, pairs, head_direction(base, q_diff)).r_d[::2]
        train_ours(work, [pairs[index] for index in np.argsort(r_d, kind="stable")[:kept]], clock)

    def ours(clock: Clock) -> None:
        losses["ours"] = train_ours(work, pairs, clock)

    def trl(precompute: bool, clock: Clock) -> None:
        losses["trl"] = train_trl(work, pairs, clock, batch=best["batch"], precompute=precompute)

    ways = {
        "deft": deft,
        "random": lambda clock: _none(train_ours(work, pairs[:kept], clock)),
        "ours": ours,
        "trl_online": lambda clock: trl(False, clock),
        "trl_precomputed": lambda clock: trl(True, clock),
    }
    rounds = interleaved(ways, rounds=2 if work.is_small else 3, seconds=SECONDS)
    return {
        **work.facts(pairs),
        "kept": kept,
        "trl": {"sweep": sweep, "chosen_batch": best["batch"]},
        "pairs_per_second": _rates(rounds, len(pairs)),
        **_speedups(rounds),
        "largest_difference_of_a_loss": max(abs(a - b) for a, b in zip(losses["ours"], losses["trl"], strict=True)),
        "seconds": rounds.as_dict(),
    }


def trl_sweep(work: Workload) -> dict[str, dict[str, Any]]:
    """Return seconds a pair of TRL's first epoch, and of a later one, by batch size and kind of reference.

    The sizes rise until one is clearly slower than the fastest before it.
    """
    pairs = work.pairs(8 if work.device == "cpu" else 128)
    found: dict[str, dict[str, Any]] = {}
    for batch in TRL_BATCHES[work.device]:
        before = min((each["first"] for each in found.values()), default=float("inf"))
        own = {f"batch {batch}, reference {name}": _tried(work, pairs, batch, name) for name in ("each step", "before")}
        found |= own
        if min(each["first"] for each in own.values()) > CLEARLY_SLOWER * before:
            break
    return found


def _tried(work: Workload, pairs: list[TokenizedExample], batch: int, reference: str) -> dict[str, Any]:
    clock, precompute = Clock(), reference == "before"
    train_trl(work, pairs, clock, batch=batch, precompute=precompute)
    return {
        "batch": batch,
        "precompute": precompute,
        "first": round(sum(clock.wall.values()) / len(pairs), 4),
        "later": round(clock.wall["epoch"] / len(pairs), 4),
    }


def _rates(rounds: Rounds, pairs: int) -> dict[str, float]:
    def rate(way: str, *parts: str) -> float:
        return round(pairs / float(np.median(rounds.seconds(way, *parts))), 4)

    return {
        "ours, first epoch": rate("ours"),
        "ours, later epoch or arm": rate("ours", "epoch"),
        "TRL, first epoch, reference each step": rate("trl_online"),
        "TRL, first epoch, reference before": rate("trl_precomputed"),
        "TRL, later epoch, reference before": rate("trl_precomputed", "epoch"),
    }


def _speedups(rounds: Rounds) -> dict[str, Any]:
    """Return the ratios of the goals, TRL always at the faster of its two kinds of reference."""
    quicker = {
        kind: [
            min(both)
            for both in zip(
                rounds.seconds("trl_online", kind=kind), rounds.seconds("trl_precomputed", kind=kind), strict=True
            )
        ]
        for kind in ("wall", "processor")
    }
    return {
        "goal": "first epoch >= 1.6x, later >= 2.3x (CPU); score all and train on 5 % >= 2.5x ours, >= 6x TRL's",
        "first_epoch_against_trl": {k: ratio(v, rounds.seconds("ours", kind=k)) for k, v in quicker.items()},
        "later_epoch_against_trl": ratios(rounds, ("trl_precomputed", "epoch"), ("ours", "epoch")),
        "later_epoch_against_trl_reference_each_step": ratios(rounds, ("trl_online", "epoch"), ("ours", "epoch")),
        "all_in_against_our_plain_epoch": ratios(rounds, ("ours",), ("deft",)),
        "all_in_against_trl_plain_epoch": {k: ratio(v, rounds.seconds("deft", kind=k)) for k, v in quicker.items()},
        "all_in_against_random_of_the_same_size": ratios(rounds, ("deft",), ("random",)),
    }


def _none(_: object) -> None:
    return None
