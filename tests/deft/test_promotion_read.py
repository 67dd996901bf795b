"""A number by a judge decides nothing where the judge's replies could be read of both sides for few of the prompts."""

import polars as pl
import pytest

from deft.evaluation.changes import Measured
from deft.evaluation.prompt_values import JudgingValues
from deft.judges.statistics import Sampling, mean_of
from deft.promotion import decide
from deft.specs.releases import PolicySpec

WIN_RATE = "judge_win_rate"
AGAIN = "judge again, with a judge whose replies can be read"


def judged(folder, outcomes, rows_each=1):
    """The numbers of a judging against the base: *outcomes* by system and prompt, each prompt of *rows_each* rows."""
    none = {"score": None, "score_against": None}
    said = [
        {"set": "held_out", "row": row, "system": system, "against": "base", "cluster": p / 100, "outcome": won, **none}
        for system, own in outcomes.items()
        for p, won in own.items()
        for row in range(p * rows_each, (p + 1) * rows_each)
    ]
    pl.DataFrame(said, infer_schema_length=None).write_parquet(folder / "judgements.parquet")
    rows = []
    for system, own in outcomes.items():
        found = mean_of(list(own.values()), list(own), Sampling(2000, 0))
        arm = {"system": system, "arm": system.split("-")[0], "metric": WIN_RATE, "slice": "all"}
        rows.append({**arm, "value": found.value, "low": found.low, "high": found.high, "n": len(own)})
    settings, values = {"bootstrap": 2000, "seed": 0}, JudgingValues(folder / "judgements.parquet")
    return Measured(rows, [], {WIN_RATE: settings}, {WIN_RATE: values}, {WIN_RATE: "base"})


def gain_of(measured, against="random", at_least=0.02, metric=WIN_RATE):
    rules = PolicySpec(
        name="p",
        gain={"metric": metric, "against": against, "at_least": at_least},
        forgetting={"metric": "perplexity", "at_most": 0.5},
        safety={"at_most": 0.05},
    )
    return decide(rules, measured, "deft")[0]


def won(prompts, where):
    """An outcome for each of *prompts*: 1 in *where*, 0 elsewhere."""
    return {p: float(p in where) for p in prompts}


@pytest.mark.parametrize("rows_each", [1, 3])
def test_a_gain_over_few_prompts_that_were_read_of_both_is_not_met(tmp_path, rows_each):
    """On the 5 of 60 prompts the adapter wins all; over its own 33 it wins 5, the other 27 of its 32."""
    shared = range(28, 33)
    own = {"deft": won(range(33), shared), "random": won(range(28, 60), range(33, 60))}
    result = gain_of(judged(tmp_path, own, rows_each))
    assert (result.is_met, result.value, result.read_prompts) == (False, 1.0, 5)
    assert result.bound > 0.02
    told = f"only 5 of 60 judged prompts could be read of both `deft` and `random`: {AGAIN}"
    assert result.reason == f"judge_win_rate (all) against random: {told}"


@pytest.mark.parametrize(("number", "is_met"), [(40, True), (30, True), (29, False)])
def test_a_gain_over_half_of_the_prompts_or_more_decides(tmp_path, number, is_met):
    own = {"deft": won(range(number), range(60)), "random": won(range(60), ())}
    result = gain_of(judged(tmp_path, own))
    assert (result.is_met, result.value, result.read_prompts) == (is_met, 1.0, number)
    assert is_met or f"only {number} of 60" in result.reason


def test_a_gain_over_40_of_60_prompts_is_held_by_its_interval_alone(tmp_path):
    own = {"deft": won(range(50), range(0, 50, 2)), "random": won(range(10, 60), range(11, 60, 2))}
    result = gain_of(judged(tmp_path, own))
    assert (result.is_met, result.value, result.read_prompts) == (False, 0.0, 40)
    assert "the lower end of the interval is" in result.reason


def test_a_gain_over_no_prompt_that_was_read_of_both_is_not_met(tmp_path):
    own = {"deft": won(range(30), range(60)), "random": won(range(30, 60), ())}
    result = gain_of(judged(tmp_path, own))
    assert (result.is_met, result.value, result.is_paired, result.read_prompts) == (False, 1.0, False, 0)
    assert "only 0 of 60 judged prompts" in result.reason


def test_a_gain_over_the_base_is_over_the_prompts_that_were_read_of_the_system(tmp_path):
    few, half = ({"deft": won(range(n), range(60)), "random": won(range(60), ())} for n in (20, 30))
    result = gain_of(judged(tmp_path, few), "base")
    assert (result.is_met, result.value, result.read_prompts) == (False, 0.5, 20)
    told = f"only 20 of 60 judged prompts could be read of `deft`: {AGAIN}"
    assert result.reason == f"judge_win_rate (all) against base: {told}"
    result = gain_of(judged(tmp_path, half), "base")
    assert (result.is_met, result.reason, result.read_prompts) == (True, None, 30)


def test_a_gain_over_an_arm_names_all_its_draws(tmp_path):
    own = {"deft": won(range(60), range(60)), "random": won(range(40), ()), "random-2": won(range(20, 60), ())}
    result = gain_of(judged(tmp_path, own))
    assert (result.is_met, result.read_prompts) == (False, 20)
    assert (
        f"only 20 of 60 judged prompts could be read of all of `deft`, `random` and `random-2`: {AGAIN}"
        in result.reason
    )


@pytest.mark.parametrize(("number", "is_met"), [(40, True), (8, False)])
def test_a_gain_in_scores_counts_the_prompts_of_which_the_system_was_not_read(tmp_path, number, is_met):
    """The base's own rows have no gain over the base; every prompt was judged all the same."""
    said = [
        {
            "set": "held_out",
            "row": p,
            "system": system,
            "against": "base",
            "cluster": p / 100,
            "outcome": None,
            **scores,
        }
        for p in range(60)
        for system, scores in (
            ("base", {"score": 6.0 + p % 2, "score_against": 6.0 + p % 2}),
            ("deft", {"score": 9.0 if p < number else None, "score_against": 6.0 + p % 2}),
        )
    ]
    pl.DataFrame(said, infer_schema_length=None).write_parquet(tmp_path / "judgements.parquet")
    metric, values = "judge_score_gain", JudgingValues(tmp_path / "judgements.parquet")
    row = {"system": "deft", "arm": "deft", "metric": metric, "slice": "all", "n": number}
    measured = Measured(
        [row | {"value": 2.5, "low": 2.0, "high": 3.0}],
        [],
        {metric: {"bootstrap": 2000, "seed": 0}},
        {metric: values},
        {metric: "base"},
    )
    result = gain_of(measured, "base", metric=metric)
    assert (result.is_met, result.read_prompts) == (is_met, number)
    assert is_met or f"only 8 of 60 judged prompts could be read of `deft`: {AGAIN}" in result.reason
