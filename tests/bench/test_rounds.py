"""Rounds are paired and turned, lengths keep the mix, and a GPU that is not there is named."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.machine import Clock, interleaved, ratio, ratios
from bench.texts import made_up_pairs
from bench.workload import HH_TOKENS, PERCENTILES, drawn_lengths


def test_ways_take_turns_and_the_order_is_turned_every_other_round() -> None:
    order: list[str] = []
    ways = {name: lambda _, name=name: order.append(name) for name in "abc"}
    interleaved(ways, rounds=3)
    assert "".join(order) == "abccbaabc"


def test_no_third_round_begins_when_the_time_is_over() -> None:
    rounds = interleaved({"a": lambda _: None}, rounds=9, seconds=0)
    assert len(rounds.clocks["a"]) == 2


def test_ratios_are_paired_by_round_and_by_part() -> None:
    def way(first: float, second: float) -> list[Clock]:
        return [Clock({"first": f, "second": second}, {"first": f, "second": second}) for f in (first, 3 * first)]

    rounds = interleaved({}, rounds=2)
    rounds.clocks |= {"slow": way(4.0, 0.0), "fast": way(1.0, 1.0)}
    assert ratios(rounds, ("slow",), ("fast", "first"))["wall"] == {"median": 4.0, "low": 4.0, "high": 4.0, "rounds": 2}
    assert ratios(rounds, ("slow",), ("fast",))["processor"]["low"] == 2.0
    assert ratio([6.0, 1.0, 2.0], [1.0, 1.0, 1.0])["median"] == 2.0


def test_drawn_lengths_have_the_quantiles_they_are_drawn_from() -> None:
    drawn = drawn_lengths(HH_TOKENS, 20_000)
    for column, values in enumerate(HH_TOKENS):
        found = np.percentile(drawn[:, column], PERCENTILES[1:-1])
        np.testing.assert_allclose(found, values[1:-1], rtol=0.12, atol=2)


def test_made_up_pairs_are_all_different_and_never_empty() -> None:
    pairs = list(made_up_pairs(500))
    assert len(set(pairs)) == 500
    assert all(chosen.strip() and rejected.strip() and chosen != rejected for _, chosen, rejected in pairs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_bench_says_that_there_is_no_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--device", "cuda", "scoring"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no NVIDIA GPU" in done.stderr
