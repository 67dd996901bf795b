import json

import pytest

from deft.evaluation.changes import Change, Measured, Value, differing_settings, less, read_measured


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


def test_two_intervals_make_that_of_the_difference():
    found = less(Value(5.0, 2.0, 9.0), Value(1.0, -3.0, 4.0))
    assert (found.value, found.low, found.high) == (
        4.0,
        pytest.approx(4 - (9 + 9) ** 0.5),
        pytest.approx(4 + (16 + 16) ** 0.5),
    )
    assert not found.is_paired


def test_an_interval_that_is_not_known_leaves_none():
    assert less(Value(5.0, None, 9.0), Value(1.0, 0.0, 2.0)) == Change(4.0, None, None, is_paired=False)


def test_a_paired_difference_goes_before_that_of_two_intervals_in_either_direction():
    rows = [row("a", "length", 5.0, 4, 6), row("b", "length", 3.0, 2, 4)]
    measured = Measured(rows, [paired("a", "b", "length", 2.0, 1.5, 2.5)], {})
    assert measured.change("a", "b", "length") == Change(2.0, 1.5, 2.5, is_paired=True)
    assert measured.change("b", "a", "length") == Change(-2.0, -2.5, -1.5, is_paired=True)


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
    assert found.change("a", "base", "over_refusal", "category:x") == Change(0.02, 0.01, 0.03, is_paired=True)
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
    assert Measured(rows, [], {}).metrics("a") == ["harm"]


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


def test_it_reads_the_files_of_an_evaluation(tmp_path):
    assert read_measured(tmp_path) == Measured([], [], {})
    (tmp_path / "metrics.json").write_text(json.dumps([row("a", "kl", 1.0)]))
    (tmp_path / "evaluation.json").write_text(json.dumps({"settings": {"kl": {"seed": 1}}}))
    found = read_measured(tmp_path)
    assert found.value("a", "kl").value == 1.0
    assert found.settings == {"kl": {"seed": 1}}
