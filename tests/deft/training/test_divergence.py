"""The guards of training, on made-up steps: what ends a run, what does not, and that a resumed one counts on."""

import math
from typing import Any

import pytest

from deft.errors import TrainingDiverged
from deft.training.divergence import PATIENCE, WINDOW, DivergenceGuard


def see(guard: DivergenceGuard, steps: range, **values: Any) -> None:
    metrics = {"deft/base_loss": 0.7, "grad_norm": 1.0, "rewards/margins": 0.1, **values}
    named = {name: value for name, value in metrics.items() if value is not None}
    for step in steps:
        guard.see(step, named)


def test_fifty_steps_without_a_margin_end_the_run_and_forty_nine_do_not() -> None:
    guard = DivergenceGuard()
    margin = {"rewards/margins": 0.0}
    see(guard, range(1, PATIENCE), **margin)
    see(guard, range(PATIENCE, PATIENCE + 1))
    see(guard, range(PATIENCE + 1, 2 * PATIENCE), **margin)
    with pytest.raises(TrainingDiverged, match=r"50 optimiser steps up to 100.*raise optimisation\.learning_rate"):
        see(guard, range(2 * PATIENCE, 2 * PATIENCE + 2), **margin)


def test_a_method_without_margins_is_not_blamed_for_having_none() -> None:
    see(DivergenceGuard(), range(1, 200), **{"rewards/margins": None})


def test_a_loss_far_above_its_start_ends_the_run() -> None:
    guard = DivergenceGuard()
    see(guard, range(1, 41))
    see(guard, range(41, 41 + WINDOW - 1), **{"deft/base_loss": 5.3})
    with pytest.raises(TrainingDiverged, match=r"up to 60 is 5\.3, over the first 20 it was 0\.7.*learning_rate"):
        see(guard, range(60, 61), **{"deft/base_loss": 5.3})


@pytest.mark.parametrize("start", [math.log(2), 2.5, 13.0], ids=["dpo", "sft", "pro"])
def test_single_spikes_and_a_loss_that_doubles_do_not(start: float) -> None:
    guard = DivergenceGuard()
    for step in range(1, 400):
        spike = 10.0 if step % 15 == 0 else 1.0
        metrics = {"deft/base_loss": start * spike * (1 if step <= WINDOW else 1.9), "grad_norm": 1.0}
        guard.see(step, metrics)


def test_a_loss_that_grows_beyond_every_bound_in_a_few_steps_is_seen_at_once() -> None:
    guard = DivergenceGuard()
    see(guard, range(1, 60))
    with pytest.raises(TrainingDiverged, match="exploded"):
        see(guard, range(60, 61), **{"deft/base_loss": 1e4})


def test_a_gradient_that_is_not_finite_ends_the_run() -> None:
    with pytest.raises(TrainingDiverged, match="gradient of optimiser step 3 is nan"):
        see(DivergenceGuard(), range(3, 4), grad_norm=math.nan)


def test_a_resumed_run_counts_on() -> None:
    first = DivergenceGuard()
    see(first, range(1, PATIENCE), **{"rewards/margins": 0.0})
    second = DivergenceGuard()
    second.restore(first.state())
    assert second.state() == first.state()
    with pytest.raises(TrainingDiverged, match="margin"):
        see(second, range(PATIENCE, PATIENCE + 1), **{"rewards/margins": 0.0})
