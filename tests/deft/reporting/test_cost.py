"""Every arm pays for what it alone needs, and for nothing else."""

from typing import Any

import pytest

from deft.reporting.cost import cost_quality
from deft.specs import PipelineSpec, SftStage

SECONDS = {
    "check_data": 3.0,
    "score": 100.0,
    "select:lowest": 1.0,
    "select:highest": 1.5,
    "select:random-0": 2.0,
    "select:random-1": 2.0,
    "measure_omega": 10.0,
    "train:deft": 50.0,
    "train:no_reward_term": 40.0,
    "train:random_with_term": 50.0,
    "train:random_with_term-2": 54.0,
    "train:random": 40.0,
    "train:random-2": 44.0,
    "train:full": 400.0,
    "evaluate": 70.0,
}


def _spec(**more: Any) -> PipelineSpec:
    arms = ["deft", "no_reward_term", "random_with_term", "random", "full"]
    return PipelineSpec.model_validate({"dataset": "ds_1", "model": "tiny", "arms": arms, "random_draws": 2, **more})


def _table(*arms: str) -> list[dict[str, Any]]:
    cell = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 40}
    return [{"arm": arm, "draws": 1, "cells": {"preference_accuracy": cell}} for arm in arms]


def _curve(spec: PipelineSpec, seconds: dict[str, float] = SECONDS) -> dict[str, Any]:
    return cost_quality(spec, _table(*spec.arms), seconds, counting=20.0)


def test_each_arm_pays_for_what_it_needs() -> None:
    parts = {point["arm"]: point["seconds"] for point in _curve(_spec())["points"]}
    assert parts == {
        "deft": {"score": 100.0, "select": 1.0, "omega": 10.0, "train": 50.0},
        "no_reward_term": {"score": 100.0, "select": 1.0, "train": 40.0},
        "random_with_term": {"count": 20.0, "select": 2.0, "omega": 10.0, "train": 52.0},
        "random": {"select": 2.0, "train": 42.0},
        "full": {"train": 400.0},
    }


def test_random_equal_cost_pays_for_its_own_rows_and_stands_in_the_sentence() -> None:
    spec = _spec(arms=["deft", "random", "random_equal_cost", "full"], random_draws=1, equal_cost_count=90)
    seconds = {**SECONDS, "select:random_equal_cost": 3.0, "train:random_equal_cost": 160.0}
    found = _curve(spec, seconds)
    parts = {point["arm"]: point["seconds"] for point in found["points"]}
    assert parts["random_equal_cost"] == {"select": 3.0, "train": 160.0}
    assert found["sentence"].endswith(
        ": 3.83 times the time of `random` (0.600), 0.99 times the time of `random_equal_cost` (0.600) and 0.40 times "
        "the time of `full` (0.600)."
    )


def test_points_are_in_order_of_cost_with_the_quality_and_its_interval() -> None:
    points = _curve(_spec())["points"]
    assert [(p["arm"], p["total_seconds"]) for p in points] == [
        ("random", 44.0),
        ("random_with_term", 84.0),
        ("no_reward_term", 141.0),
        ("deft", 161.0),
        ("full", 400.0),
    ]
    assert {(p["value"], p["low"], p["high"], p["n"]) for p in points} == {(0.6, 0.5, 0.7, 40)}


def test_the_sentence_stands_beside_random_and_everything() -> None:
    assert _curve(_spec())["sentence"] == (
        "`deft` took 161 s, scoring included, for a preference accuracy of 0.600: 3.66 times the time of `random` "
        "(0.600) and 0.40 times the time of `full` (0.600)."
    )
    assert _curve(_spec(arms=["random"]))["sentence"] == "The cost of `deft` is not known."


def test_a_start_that_the_pipeline_makes_is_paid_by_every_arm() -> None:
    spec = _spec(sft=SftStage().model_dump())
    points = _curve(spec, {**SECONDS, "sft": 30.0})["points"]
    assert all(point["seconds"]["start"] == 30.0 for point in points)


@pytest.mark.parametrize("missing", ["train:full"])
def test_an_arm_without_a_time_is_named_and_has_no_point(missing: str) -> None:
    seconds = {name: value for name, value in SECONDS.items() if name != missing}
    assert _curve(_spec(), seconds)["left_out"] == ["full"]
