import json

import pytest

from deft.evaluation.changes import Measured, read_judging, read_measured
from deft.evaluation.differences import Change


def row(system, metric, value, low=None, high=None, **more):
    return {
        "system": system,
        "arm": system,
        "metric": metric,
        "slice": "all",
        "value": value,
        "low": low,
        "high": high,
    } | more


def paired(arm, against, metric, difference, low, high, **more):
    return {"arm": arm, "against": against, "metric": metric, "difference": difference, "low": low, "high": high} | more


def test_a_paired_difference_goes_before_that_of_two_intervals_in_either_direction():
    rows = [row("a", "length", 5.0, 4, 6), row("b", "length", 3.0, 2, 4)]
    measured = Measured(rows, [paired("a", "b", "length", 2.0, 1.5, 2.5)], {})
    assert measured.change("a", "b", "length") == Change(2.0, 1.5, 2.5, is_paired=True, minus=("b",))
    assert measured.change("b", "a", "length") == Change(-2.0, -2.5, -1.5, is_paired=True, minus=("a",))


def test_the_difference_of_an_arm_of_several_draws_is_not_that_of_one_of_them():
    rows = [row("a", "length", 5.0, 4, 6), *(row(f"b{n}", "length", 3.0, 2, 4, arm="b") for n in range(2))]
    measured = Measured(rows, [paired("a", "b", "length", 2.0, 1.5, 2.5)], {})
    assert not measured.change("a", "b0", "length").is_paired


def test_a_difference_of_two_systems_needs_no_arms(tmp_path):
    rows = [row(name, "over_refusal", 0.1, 0, 0.2, slice="category:x", arm="one") for name in ("a", "base")]
    told = paired("one", "base", "over_refusal", 0.02, 0.01, 0.03, system="a", slice="category:x")
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    safety = {"differences": [told], "rates": rows, "settings": {"prompts": "p"}}
    (tmp_path / "safety.json").write_text(json.dumps(safety))
    found = read_measured(tmp_path)
    told = found.change("a", "base", "over_refusal", "category:x")
    assert told == Change(0.02, 0.01, 0.03, is_paired=True, minus=("base",))
    assert found.settings_of("over_refusal") == {"prompts": "p"}


def test_the_base_has_by_definition_what_nothing_could_change():
    measured = Measured([row("a", "preference_accuracy", 0.6, 0.55, 0.65)], [], {})
    found = measured.change("a", "base", "preference_accuracy")
    assert (found.value, found.low, found.high) == tuple(map(pytest.approx, (0.1, 0.05, 0.15)))
    assert measured.change("a", "base", "length") is None
    assert Measured([row("a", "bleu", 3.0, 2, 4)], [], {}).change("a", "base", "bleu") is None


def test_what_was_trained_on_or_is_not_valid_may_not_decide():
    for flag in ({"is_trained_on": True}, {"is_valid": False}):
        measured = Measured([row("a", "kl", 1.0, 0, 2, **flag)], [], {})
        assert not measured.change("a", "base", "kl").may_decide


def test_slices_are_found_by_their_prefix():
    rows = [row("a", "harm", 0.1, slice=name) for name in ("category:b", "all", "category:a", "source:x")]
    assert Measured(rows, [], {}).slices("a", "harm", "category:") == ["category:a", "category:b"]
    assert Measured(rows, [], {}).metrics(("a",)) == ["harm"]


def test_it_reads_the_files_of_an_evaluation(tmp_path):
    assert read_measured(tmp_path) == Measured([], [], {})
    (tmp_path / "metrics.json").write_text(json.dumps([row("a", "kl", 1.0)]))
    (tmp_path / "evaluation.json").write_text(json.dumps({"settings": {"kl": {"seed": 1}}}))
    found = read_measured(tmp_path)
    assert found.value("a", "kl").value == 1.0
    assert found.settings == {"kl": {"seed": 1}}


@pytest.mark.parametrize(
    ("agreement", "may_decide"),
    [({"low": 0.9}, False), (None, False), ({"low": 0.9, "refusal_or_not": {"low": 0.9}}, True)],
)
def test_a_judging_of_safety_without_its_agreement_on_refusal_decides_nothing(tmp_path, agreement, may_decide):
    told = {"mode": "safety", "may_decide": True, "may_not_decide_because": [], "agreement": agreement}
    (tmp_path / "judging.json").write_text(json.dumps(told))
    rows = [row("a", "judge_over_refusal", 0.1, 0.0, 0.2, is_valid=True)]
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    found = read_judging(tmp_path)
    assert [each["is_valid"] for each in found.rows] == [may_decide]
    assert ("judge again" in found.reasons.get("judge_over_refusal", "")) == (not may_decide)
