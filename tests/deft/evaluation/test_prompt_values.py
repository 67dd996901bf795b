"""What was measured prompt by prompt is read back as it was, so that other sides than the verdict's can be compared."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from deft.evaluation.between import between
from deft.evaluation.changes import read_judging, read_measured
from deft.evaluation.comparison import gather
from deft.evaluation.metrics import Who
from deft.evaluation.prompt_values import EvaluationValues, JudgingValues
from deft.evaluation.set_values import append_values
from deft.judges.statistics import Sampling, mean_of
from tests.recorded import DRAWS, SETTINGS, accuracies, measure, writer

SHARES = {"deft": 0.7, "random": 0.4, "random-2": 0.6, "random-3": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer(accuracies(SHARES))(tmp_path)
    return tmp_path


def forget_differences(folder: Path) -> None:
    (folder / "comparison.json").unlink()


def test_sums_flags_and_ranges_come_back(folder):
    measured = read_measured(folder)
    found = EvaluationValues(folder / "values.parquet").read("preference_accuracy", measured.rows)
    own = {each.system: each for each in accuracies(SHARES)}
    assert [each.system for each in found.measurements] == list(SHARES)
    for each in found.measurements:
        assert np.array_equal(each.sums, own[each.system].sums)
        assert (each.arm, each.n, each.bounds) == (DRAWS[each.system], 60, (0.0, 1.0))
    assert EvaluationValues(folder / "values.parquet").read("kl", []) is None


def test_a_file_without_ranges_has_those_of_the_units(tmp_path):
    path = tmp_path / "values.parquet"
    own = {"ended": (0.0, 1.0), "bleu_char_pro": (0.0, 100.0), "length": (0.0, 32.0)}
    writer([measure(name, Who("deft", "deft"), [0.5, 1.0], bounds=bounds) for name, bounds in own.items()])(tmp_path)
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    found = {name: EvaluationValues(path).read(name, []).measurements[0].bounds for name in own}
    assert found == {**own, "length": None}


def test_what_prompt_sets_said_is_no_part_of_it(tmp_path):
    writer([measure("length", Who("deft", "deft"), [3.0, 4.0, 5.0], bounds=(0.0, 32.0))])(tmp_path)
    path = tmp_path / "values.parquet"
    (before,) = EvaluationValues(path).read("length", []).measurements
    of_set = {"row": 0, "sample": 0, "prompt": 0, "system": "deft", "arm": "deft", "sums": [9.0, 1.0], "set": "ds_1"}
    append_values([{**of_set, "metric": metric} for metric in ("length", "over_refusal")], path)
    (after,) = EvaluationValues(path).read("length", []).measurements
    assert np.array_equal(before.sums, after.sums)
    assert after.bounds == (0.0, 32.0)
    assert EvaluationValues(path).read("over_refusal", []) is None


def test_the_range_of_a_metric_is_that_which_was_measured_with(tmp_path):
    writer([measure("length", Who("deft", "deft"), [3.0, 4.0, 5.0], bounds=(0.0, 32.0))])(tmp_path)
    (found,) = EvaluationValues(tmp_path / "values.parquet").read("length", []).measurements
    assert found.bounds == (0.0, 32.0)


@pytest.mark.parametrize("against", ["random", "base"])
def test_a_difference_that_is_made_anew_is_that_of_the_comparison(folder, against):
    """All draws of the arm, with the luck of a run: the number that the verdict is about, to the digit."""
    told = {each["against"]: each for each in json.loads((folder / "comparison.json").read_text())["differences"]}
    recorded = read_measured(folder).change("deft", against, "preference_accuracy")
    forget_differences(folder)
    made = read_measured(folder).change("deft", against, "preference_accuracy")
    for found in (recorded, made):
        numbers = (found.value, found.low, found.high)
        assert numbers == pytest.approx(tuple(told[against][name] for name in ("difference", "low", "high")), abs=1e-12)
        assert (found.is_paired, found.has_luck) == (True, True)
    assert recorded.minus == made.minus == (("random", "random-2", "random-3") if against == "random" else ("base",))


def test_the_first_draw_alone_would_say_something_else(folder):
    """Three draws lie at 0.4, 0.6 and 0.5: the first flatters, and is less sure than their mean."""
    measured = read_measured(folder)
    arm = measured.change("deft", "random", "preference_accuracy")
    first = measured.difference(("deft",), ("random",), "preference_accuracy")
    assert (arm.value, first.value) == (pytest.approx(0.2), pytest.approx(0.3))
    assert arm.high - arm.low < 0.9 * (first.high - first.low)


def test_an_adapter_that_is_one_draw_is_set_against_the_others(folder):
    found = read_measured(folder).change("random-2", "random", "preference_accuracy")
    assert (found.value, found.minus) == (pytest.approx(0.15), ("random", "random-3"))
    assert read_measured(folder).change("deft", "deft", "preference_accuracy") is None


def test_the_value_of_an_arm_has_its_spread_as_the_table_has_it(folder):
    (row,) = (r for r in json.loads((folder / "comparison.json").read_text())["table"] if r["arm"] == "random")
    cell, measured = row["cells"]["preference_accuracy"], read_measured(folder)
    found = measured.value_of(measured.runs("random"), "preference_accuracy")
    assert (found.value, found.low, found.high) == pytest.approx((cell["value"], cell["low"], cell["high"]), abs=1e-12)
    assert measured.value_of(("deft",), "preference_accuracy") == measured.value("deft", "preference_accuracy")


def test_without_prompts_on_record_an_arm_is_as_wide_as_all_its_draws(folder):
    measured = read_measured(folder)
    draws = [measured.value(run, "preference_accuracy") for run in measured.runs("random")]
    (folder / "values.parquet").unlink()
    forget_differences(folder)
    bare = read_measured(folder)
    found = bare.value_of(bare.runs("random"), "preference_accuracy")
    assert (found.value, found.low) == (pytest.approx(0.5), min(draw.low for draw in draws))
    assert found.high == max(draw.high for draw in draws)
    change = bare.change("deft", "random", "preference_accuracy")
    assert (change.is_paired, change.has_luck) == (False, False)


def test_with_single_runs_no_luck_is_claimed(tmp_path):
    writer(accuracies({"deft": 0.7, "random": 0.5}))(tmp_path)
    recorded = read_measured(tmp_path).change("deft", "random", "preference_accuracy")
    forget_differences(tmp_path)
    made = read_measured(tmp_path).change("deft", "random", "preference_accuracy")
    assert (recorded.has_luck, made.has_luck, made.is_paired) == (False, False, True)


def judgements(path: Path) -> Path:
    """Write a judging of two systems over three prompts, one reply unread, one labelled pair."""
    said = [
        ("held_out", "deft", 0.1, 1.0),
        ("held_out", "deft", 0.1, 0.5),
        ("held_out", "deft", 0.2, 0.0),
        ("held_out", "random", 0.2, 1.0),
        ("held_out", "random", 0.3, None),
        ("labels", "preferred", 0.9, 1.0),
    ]
    rows = [
        {"set": s, "system": name, "against": "base", "cluster": c, "outcome": o, "score": None, "score_against": None}
        for s, name, c, o in said
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path


def test_verdicts_of_a_judge_are_summed_by_prompt_and_labels_are_of_no_system(tmp_path):
    rows = [{"system": "deft", "arm": "deft_arm", "metric": "judge_win_rate", "n": 3, "is_valid": False}]
    found = JudgingValues(judgements(tmp_path / "judgements.parquet")).read("judge_win_rate", rows)
    sums = {each.system: each.sums.tolist() for each in found.measurements}
    assert sums == {"deft": [[1.5, 2.0], [0.0, 1.0]], "random": [[0.0, 0.0], [1.0, 1.0]]}
    own = found.measurements[0]
    assert (own.arm, own.n, own.bounds, own.is_valid) == ("deft_arm", 3, (0.0, 1.0), False)
    assert JudgingValues(tmp_path / "judgements.parquet").read("judge_win_rate_length_controlled", rows) is None


def test_what_holds_by_definition_is_counted_as_the_other_side_is(tmp_path):
    found = JudgingValues(judgements(tmp_path / "judgements.parquet")).read("judge_win_rate", [])
    own = found.with_known("base", 0.5, "deft").measurements[-1]
    assert (own.system, own.is_by_definition, own.sums.tolist()) == ("base", True, [[1.0, 2.0], [0.5, 1.0]])
    evidence = gather([found.measurements[0], own], resamples=SETTINGS["bootstrap"], seed=0)["judge_win_rate"]
    assert evidence.estimate([0], [1]).value == pytest.approx(0.5 - 0.5)


WIN_RATE = "judge_win_rate"


def judged(folder, outcomes, prompts=60):
    """A judging: *outcomes* by system and prompt, others of the *prompts* asked and not read; with its metrics.json."""
    folder.mkdir()
    none = {"score": None, "score_against": None}
    said = [
        {"set": "held_out", "system": system, "against": "base", "cluster": float(p), "outcome": own.get(p), **none}
        for system, own in outcomes.items()
        for p in range(prompts)
    ]
    pl.DataFrame(said, infer_schema_length=None).write_parquet(folder / "judgements.parquet")
    rows = []
    for system, own in outcomes.items():
        found = mean_of(list(own.values()), list(own), Sampling(2000, 0))
        ends = {"value": found.value, "low": found.low, "high": found.high, "n": len(own)}
        rows.append({"system": system, "arm": system, "metric": WIN_RATE, "slice": "all", "is_valid": True, **ends})
    (folder / "metrics.json").write_text(json.dumps(rows))
    settings = {"prompts": "same", "bootstrap": 2000, "seed": 0}
    (folder / "judging.json").write_text(json.dumps({"may_decide": True, "against": "base", "settings": settings}))
    return read_judging(folder)


def test_prompts_that_nobody_could_read_of_a_system_are_none_of_its_own(tmp_path):
    """A system read on 30 of 60 prompts, all won: Beta(30.6, 0.6) less one half, however many were read of another."""
    half = {p: float(p % 2) for p in range(60)}
    measured = judged(tmp_path / "judging", {"a": dict.fromkeys(range(30), 1.0), "b": half})
    found, own = measured.change("a", "base", WIN_RATE), measured.value("a", WIN_RATE)
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(own.low - 0.5, abs=1e-12), 0.5)
    assert found.low == pytest.approx(0.413, abs=0.0005)
    mixed = {p: float(p % 3 > 0) for p in range(30)}
    measured = judged(tmp_path / "mixed", {"a": mixed, "b": half})
    found, own = measured.change("a", "base", WIN_RATE), measured.value("a", WIN_RATE)
    ends = (own.value - 0.5, own.low - 0.5, own.high - 0.5)
    assert (found.value, found.low, found.high) == pytest.approx(ends, abs=1e-9)


def test_two_systems_are_compared_over_the_prompts_that_were_read_of_both(tmp_path):
    """Of 60 prompts 20 were read of both: there one wins twice as often; elsewhere nothing of that is seen."""
    a = {p: 1.0 if p >= 20 else 0.0 for p in range(40)}
    b = {p: float(p % 2) if p < 40 else 1.0 for p in range(20, 60)}
    both = [{p: own[p] for p in range(20, 40)} for own in (a, b)]
    apart = judged(tmp_path / "apart", {"a": a, "b": b}).change("a", "b", WIN_RATE)
    alone = judged(tmp_path / "alone", dict(zip("ab", both, strict=True))).change("a", "b", WIN_RATE)
    assert apart.value == pytest.approx(0.5)
    assert apart == alone
    left, right = judged(tmp_path / "left", {"a": a}), judged(tmp_path / "right", {"a": b})
    found = between(left, ("a",), right, ("a",), WIN_RATE)
    assert found.is_paired
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_systems_of_which_no_prompt_was_read_together_are_not_paired(tmp_path):
    own = {"a": dict.fromkeys(range(30), 1.0), "b": dict.fromkeys(range(30, 60), 0.0)}
    found = judged(tmp_path / "judging", own).change("a", "b", WIN_RATE)
    assert (found.value, found.is_paired) == (1.0, False)
