"""Two evaluations set against each other: paired over the same rows, else not and said so."""

from pathlib import Path

import pytest

from deft.evaluation.between import between, differing_settings
from deft.evaluation.changes import Measured, read_measured
from deft.evaluation.differences import less
from deft.evaluation.metrics import Who
from tests.recorded import SETTINGS, accuracies, measure, right, writer

METRIC = "preference_accuracy"


def row(system, metric, value, **more):
    return {"system": system, "arm": system, "metric": metric, "slice": "all", "value": value} | more


def evaluated(folder: Path, shares, **more) -> Measured:
    folder.mkdir()
    writer(accuracies(shares), **more)(folder)
    return read_measured(folder)


def test_over_the_same_rows_it_is_paired_as_within_one_evaluation(tmp_path):
    """Two single runs measured apart differ as they would have, had one evaluation measured both."""
    values = right(0.5, seed=1)
    better = list(values)
    for place in [n for n, value in enumerate(values) if value == 0][:6]:
        better[place] = 1.0
    found = {}
    for name, systems in {
        "a": {"deft": better},
        "b": {"deft": values},
        "both": {"deft": better, "random": values},
    }.items():
        (tmp_path / name).mkdir()
        own = [measure(METRIC, Who(who, who), each, bounds=(0.0, 1.0)) for who, each in systems.items()]
        writer(own)(tmp_path / name)
        found[name] = read_measured(tmp_path / name)
    apart = between(found["a"], ("deft",), found["b"], ("deft",), METRIC)
    within = found["both"].change("deft", "random", METRIC)
    assert (apart.value, apart.low, apart.high) == pytest.approx((within.value, within.low, within.high), abs=1e-12)
    assert apart.is_paired
    unpaired = less(found["a"].value("deft", METRIC), found["b"].value("deft", METRIC))
    assert apart.high - apart.low < 0.6 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize(
    "other",
    [
        {"rows": range(100, 160)},
        {"settings": {**SETTINGS, "pairs": "rows-2"}},
        {"settings": {name: value for name, value in SETTINGS.items() if name != "pairs"}},
    ],
)
def test_over_other_rows_or_rows_of_which_nothing_is_known_it_is_not_paired(tmp_path, other):
    left = evaluated(tmp_path / "left", {"deft": 0.7, "random": 0.5})
    right_side = evaluated(tmp_path / "right", {"deft": 0.6, "random": 0.5}, **other)
    found = between(left, ("deft",), right_side, ("deft",), METRIC)
    assert not found.is_paired
    assert found == less(left.value("deft", METRIC), right_side.value("deft", METRIC))


def test_the_luck_of_a_run_that_one_evaluation_knows_is_that_of_both(tmp_path):
    draws = {"deft": 0.7, "random": 0.3, "random-2": 0.7, "random-3": 0.5}
    knows, other = evaluated(tmp_path / "a", draws), evaluated(tmp_path / "b", {"deft": 0.6})
    with_luck = between(knows, ("deft",), other, ("deft",), METRIC)
    alone = evaluated(tmp_path / "c", {"deft": 0.7})
    without = between(alone, ("deft",), other, ("deft",), METRIC)
    assert (with_luck.has_luck, without.has_luck) == (True, False)
    assert with_luck.high - with_luck.low > 1.5 * (without.high - without.low)
    back = between(other, ("deft",), knows, ("deft",), METRIC)
    assert back.has_luck
    assert back.high - back.low > 1.5 * (without.high - without.low)


def test_the_draws_of_an_arm_are_one_side(tmp_path):
    draws = {"deft": 0.7, "random": 0.3, "random-2": 0.7, "random-3": 0.5}
    one, other = evaluated(tmp_path / "a", draws), evaluated(tmp_path / "b", {"deft": 0.6})
    found = between(one, one.runs("random"), other, ("deft",), METRIC)
    assert found.value == pytest.approx(-0.1)
    assert found.low < -0.3


def test_not_paired_the_luck_that_is_known_on_both_sides_is_in_it(tmp_path):
    draws = {"deft": 0.7, "random": 0.3, "random-2": 0.7, "random-3": 0.5}
    one = evaluated(tmp_path / "a", draws)
    other = evaluated(tmp_path / "b", draws, settings={**SETTINGS, "pairs": "rows-2"})
    found = between(one, ("deft",), other, ("deft",), METRIC)
    bare = less(one.value("deft", METRIC), other.value("deft", METRIC))
    assert (found.is_paired, found.has_luck) == (False, True)
    assert found.high - found.low > 1.5 * (bare.high - bare.low)


def test_what_training_aimed_at_on_either_side_decides_nothing(tmp_path):
    sides = []
    for name, is_trained_on in (("a", False), ("b", True)):
        (tmp_path / name).mkdir()
        who = Who("deft", "deft")
        writer([measure("r_d_accuracy", who, right(0.5), is_trained_on=is_trained_on)])(tmp_path / name)
        sides.append(read_measured(tmp_path / name))
    assert not between(sides[0], ("deft",), sides[1], ("deft",), "r_d_accuracy").may_decide
    assert between(sides[0], ("deft",), sides[0], ("deft",), "r_d_accuracy").may_decide
    assert between(sides[0], ("deft",), sides[1], ("none",), "r_d_accuracy") is None


def test_settings_that_differ_are_named_with_both_values_and_the_metrics():
    left = Measured([], [], {"bleu": {"seed": 0, "prompts": "x"}, "kl": {"seed": 0, "prompts": "x"}})
    right = Measured([], [], {"bleu": {"seed": 0, "prompts": "y"}, "kl": {"seed": 0, "prompts": "y", "new": 1}})
    assert differing_settings(left, left, ["bleu", "kl"]) == {}
    assert differing_settings(left, right, ["bleu", "kl"]) == {
        "prompts": {"left": "x", "right": "y", "metrics": ["bleu", "kl"]},
        "new": {"left": None, "right": 1, "metrics": ["kl"]},
    }


def test_settings_that_are_not_on_record_are_alike_by_their_hash_alone():
    one, other = (Measured([row("a", "kl", 1.0, settings_hash=name)], [], {}) for name in ("h1", "h2"))
    assert differing_settings(one, one, ["kl"]) == {}
    assert differing_settings(one, other, ["kl"])["settings_hash"] == {"left": "h1", "right": "h2", "metrics": ["kl"]}
    unknown = Measured([row("a", "kl", 1.0)], [], {})
    assert "settings_hash" in differing_settings(unknown, unknown, ["kl"])
