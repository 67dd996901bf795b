import numpy as np
import pytest

from deft.evaluation.comparison import default_focus, described, differences, gather, system_metrics, table
from deft.evaluation.metrics import BASE, SHORTER, Measurement

PROMPTS = 400


def measured(
    arm: str, values: np.ndarray, *, metric: str = "preference_accuracy", draw: int = 1, **facts: object
) -> Measurement:
    """A measurement of one value a prompt."""
    sums = np.column_stack([values, np.ones(len(values))])
    facts = ({"bounds": (0.0, 1.0)} if metric.endswith("accuracy") else {}) | facts
    name = arm if draw == 1 else f"{arm}-{draw}"
    return Measurement(metric, name, arm, sums, len(values), **facts)  # type: ignore[arg-type]


def right(share: float, prompts: int = PROMPTS, seed: int = 0) -> np.ndarray:
    """Exactly that share of ones, in an order of *seed*."""
    values = np.arange(prompts) < round(share * prompts)
    return np.random.default_rng(seed).permutation(values).astype(float)


def base(prompts: int = PROMPTS) -> Measurement:
    return measured(BASE, np.full(prompts, 0.5), is_by_definition=True)


def _gather(*measurements: Measurement, seed: int = 0) -> dict:
    return gather(measurements, resamples=1000, seed=seed)


def test_table_has_one_row_an_arm_with_base_and_length_baseline_first() -> None:
    evidence = _gather(
        measured("deft", right(0.6)),
        measured("random", right(0.5)),
        measured(SHORTER, right(0.55)),
        base(),
        measured(BASE, right(0.7), metric="r_d_accuracy"),
    )
    rows = table(evidence)
    assert [row["arm"] for row in rows] == [BASE, SHORTER, "deft", "random"]
    cell = rows[2]["cells"]["preference_accuracy"]
    assert (cell["value"], cell["n"], cell["is_trained_on"]) == (pytest.approx(0.6), PROMPTS, False)
    assert cell["low"] < 0.6 < cell["high"]


def test_what_the_base_has_by_definition_is_in_no_table_and_no_list() -> None:
    evidence = _gather(measured("deft", right(0.6)), base(), measured(BASE, right(0.7), metric="r_d_accuracy"))
    assert set(table(evidence)[0]["cells"]) == {"r_d_accuracy"}
    rows = system_metrics(evidence, {"preference_accuracy": "h1", "r_d_accuracy": "h2"})
    assert [(row["system"], row["metric"], row["settings_hash"]) for row in rows] == [
        ("deft", "preference_accuracy", "h1"),
        ("base", "r_d_accuracy", "h2"),
    ]


def test_metrics_rows_have_the_agreed_fields() -> None:
    (row,) = system_metrics(_gather(measured("deft", right(0.6))), {"preference_accuracy": "h"})
    expected = "system arm metric slice value n low high is_trained_on is_valid settings_hash"
    assert set(row) == set(expected.split())


def test_draws_of_an_arm_are_pooled_in_the_table_and_apart_in_the_rows() -> None:
    draws = [measured("random", right(share, seed=i), draw=i + 1) for i, share in enumerate((0.3, 0.5, 0.7))]
    evidence = _gather(*draws)
    (row,) = table(evidence)
    alone = table(_gather(draws[1]))[0]["cells"]["preference_accuracy"]
    pooled = row["cells"]["preference_accuracy"]
    assert (row["draws"], pooled["value"]) == (3, pytest.approx(0.5))
    assert pooled["high"] - pooled["low"] > 2 * (alone["high"] - alone["low"])
    rows = system_metrics(evidence, {"preference_accuracy": "h"})
    assert [r["value"] for r in rows] == pytest.approx([0.3, 0.5, 0.7])


def test_differences_are_paired_and_have_the_sign_of_arm_minus_against() -> None:
    shared = right(0.5, seed=1)
    better = shared.copy()
    better[np.flatnonzero(shared == 0)[:20]] = 1.0
    (difference,) = differences(_gather(measured("deft", better), measured("random", shared)), "deft")
    assert difference.estimate.value == pytest.approx(20 / PROMPTS)
    assert difference.estimate.high - difference.estimate.low < 0.06
    assert difference.plain_verdict == "clear gain"


def test_the_family_is_every_arm_the_base_and_the_factors_but_not_the_length_baseline() -> None:
    arms = ("deft", "no_reward_term", "random_with_term", "random")
    evidence = _gather(
        *(measured(a, right(0.5, seed=i)) for i, a in enumerate(arms)), base(), measured(SHORTER, right(0.5))
    )
    found = differences(evidence, "deft")
    assert [(d.arm, d.against) for d in found] == [
        ("deft", "no_reward_term"),
        ("deft", "random_with_term"),
        ("deft", "random"),
        ("deft", "base"),
        ("no_reward_term", "random"),
        ("random_with_term", "random"),
    ]
    assert {d.comparisons for d in found} == {6}


def test_correction_for_many_comparisons_can_undo_a_gain() -> None:
    values = np.random.default_rng(2).normal(0.16, 1.0, PROMPTS // 4)
    values += 0.2 - values.mean()  # about 2 standard errors above 0
    zero = np.zeros(PROMPTS // 4)
    two = [measured("deft", values, bounds=None), measured("random", zero, bounds=None)]
    many = [measured(f"other-{i}", values - right(0.5, PROMPTS // 4, seed=i) + 0.5, bounds=None) for i in range(6)]
    alone = next(d for d in differences(_gather(*two), "deft") if d.against == "random")
    among = next(d for d in differences(_gather(*two, *many), "deft") if d.against == "random")
    assert alone.plain_verdict == "clear gain"
    assert among.estimate.p < 0.05 <= among.p_adjusted
    assert among.plain_verdict == "within noise"


def test_without_an_effect_a_false_gain_or_loss_is_rare() -> None:
    generator = np.random.default_rng(0)
    false = 0
    for run in range(120):
        arms = [measured(a, (generator.random(60) < 0.6).astype(float)) for a in ("deft", "random", "full", "length")]
        found = differences(gather([*arms], resamples=400, seed=run), "deft")
        false += any(d.plain_verdict != "within noise" for d in found)
    assert false <= 12  # 5 % of 120 is 6


def test_a_metric_that_either_side_was_trained_on_says_so_and_has_no_verdict() -> None:
    evidence = _gather(
        measured("deft", right(0.9), metric="r_d_accuracy", is_trained_on=True),
        measured("random", right(0.5), metric="r_d_accuracy"),
    )
    (difference,) = differences(evidence, "deft")
    assert difference.is_trained_on
    assert "verdict" not in difference.as_dict()


def test_a_slice_describes_and_has_no_verdict() -> None:
    both = [measured("deft", right(0.9), slice="source:a"), measured("random", right(0.5), slice="source:a")]
    (found,) = described(_gather(*both), "deft")
    assert (found["slice"], found["p"] < 0.05) == ("source:a", True)
    assert "verdict" not in found
    assert described(_gather(*both), None) == []


def test_a_difference_has_an_effect_size_and_counts_prompts() -> None:
    shared = right(0.5, seed=1)
    better = shared.copy()
    better[np.flatnonzero(shared == 0)[:20]] = 1.0
    (found,) = described(_gather(measured("deft", better), measured("random", shared)), "deft")
    assert (found["prompts_better"], found["prompts_worse"]) == (20 / PROMPTS, 0.0)
    assert found["effect_size"] == pytest.approx(0.05 / np.std(better - shared, ddof=1))


def test_the_luck_of_several_draws_is_that_of_an_arm_trained_once_but_not_of_the_base() -> None:
    draws = [measured("random", right(share, seed=i), draw=i + 1) for i, share in enumerate((0.3, 0.5, 0.7))]
    alone = _gather(measured("deft", right(0.6)), base())["preference_accuracy"]
    among = _gather(measured("deft", right(0.6)), base(), *draws)["preference_accuracy"]
    assert among.luck is not None
    assert among.luck.degrees == 2
    widths = [each.high - each.low for each in (alone.estimate_arms("deft"), among.estimate_arms("deft"))]
    assert widths[1] > 5 * widths[0]
    (left, right_) = (each.estimate_arms("deft", "base").standard_error for each in (alone, among))
    assert right_ == pytest.approx(np.sqrt(left**2 + among.luck.variance))


def test_focus_is_deft_or_the_first_arm() -> None:
    assert default_focus(["random", "deft"]) == "deft"
    assert default_focus(["mine", "other"]) == "mine"
    assert default_focus([]) is None
