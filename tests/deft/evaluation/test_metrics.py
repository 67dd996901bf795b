import numpy as np
import pytest

from deft.evaluation.intervals import ratio
from deft.evaluation.metrics import (
    RULES,
    Measurement,
    PairScores,
    Who,
    in_order,
    measure_length_baseline,
    measure_pairs,
    rule_of,
    wanted,
    wins,
)


def _scores(chosen: list[float], rejected: list[float], **more: object) -> PairScores:
    tokens = {"chosen_tokens": np.array([4, 2, 3]), "rejected_tokens": np.array([5, 2, 1])}
    return PairScores(np.array(chosen), np.array(rejected), **(tokens | more))


def _values(measurements: list[Measurement]) -> dict[str, float]:
    return {m.metric: float(RULES[m.metric].statistic(m.sums.sum(axis=0)[None])[0]) for m in measurements}


def test_pair_metrics_by_hand() -> None:
    base = _scores([-10.0, -20.0, -30.0], [-12.0, -18.0, -30.0])
    tuned = _scores([-9.0, -24.0, -33.0], [-15.0, -17.0, -33.0])
    found = _values(measure_pairs(Who("deft", "deft"), tuned, base, ["a", "b", "b"], beta=0.5))
    # margins: 0.5 * (1 + 3) = 2; 0.5 * (-4 - 1) = -2.5; 0.5 * (-3 + 3) = 0, a tie
    assert found["preference_accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["margin"] == pytest.approx((2 - 2.5 + 0) / 3)
    assert found["chosen_logp_change"] == pytest.approx((1 - 4 - 3) / 3)
    assert found["chosen_logp_change_per_token"] == pytest.approx((1 - 4 - 3) / (4 + 2 + 3))
    assert "r_d_accuracy" not in found


def test_a_list_counts_as_one_row_by_the_mean_over_its_pairs() -> None:
    """Row 0 has one other response, row 1 three. Log-ratios: row 0: 1 and -1; row 1: 2, then 3, 0 and 2.

    Margins with beta 0.5: 1; -0.5, 1, 0 (a tie). Pairs of row 1's list: 2-3 wrong, 2-0 right, 2-2 tie, 3-0 and 3-2
    right, 0-2 wrong: 3.5 of 6.
    """
    lists = {"row_of": np.array([0, 1, 1, 1]), "chosen_tokens": np.array([4, 3]), "rejected_tokens": np.arange(1, 5)}
    base = PairScores(np.array([-9.0, -8.0]), np.array([-5.0, -6.0, -7.0, -8.0]), **lists)
    tuned = PairScores(np.array([-8.0, -6.0]), np.array([-6.0, -3.0, -7.0, -6.0]), **lists)
    found = measure_pairs(Who("deft", "deft"), tuned, base, ["a", "b"], beta=0.5)
    values = _values(found)
    assert values["preference_accuracy"] == pytest.approx((1 + (0 + 1 + 0.5) / 3) / 2)
    assert values["margin"] == pytest.approx((1 + (-0.5 + 1 + 0) / 3) / 2)
    assert values["ranking_accuracy"] == pytest.approx((1 + 3.5 / 6) / 2)
    assert values["chosen_logp_change"] == pytest.approx((1 + 2) / 2)
    n = {m.metric: m.n for m in found}
    assert (n["preference_accuracy"], n["ranking_accuracy"], n["chosen_logp_change"]) == (4, 2, 2)
    assert tuned.place_of_rejected.tolist() == [1, 1, 2, 3]
    shorter = _values([measure_length_baseline(base, ["a", "b"])])["preference_accuracy"]
    assert shorter == pytest.approx((0 + (0 + 0.5 + 1) / 3) / 2)


def test_pairs_have_no_ranking_accuracy_of_their_own() -> None:
    base = _scores([-10.0, -20.0, -30.0], [-12.0, -18.0, -30.0])
    assert "ranking_accuracy" not in _values(measure_pairs(Who("x", "x"), base, base, [0, 1, 2], 0.1))


def test_base_scores_one_half_by_definition_and_says_so() -> None:
    base = _scores([-10.0, -20.0, -30.0], [-12.0, -18.0, -30.0])
    found = measure_pairs(Who("base", "base"), base, base, [0, 1, 2], beta=0.1)
    assert _values(found)["preference_accuracy"] == 0.5
    assert all(m.is_by_definition for m in found)


def test_r_d_accuracy_is_measured_of_the_base_and_marked_where_it_was_an_objective() -> None:
    r_d = {"r_d_chosen": np.array([0.2, 0.1, 0.3]), "r_d_rejected": np.array([0.1, 0.1, 0.4])}
    base = _scores([-1.0] * 3, [-2.0] * 3, **r_d)
    marks = {}
    for who in (Who("base", "base"), Who("deft", "deft", has_reward_term=True), Who("random", "random")):
        (found,) = [m for m in measure_pairs(who, base, base, [0, 1, 2], 0.1) if m.metric == "r_d_accuracy"]
        assert _values([found])["r_d_accuracy"] == pytest.approx(0.5)
        assert not found.is_by_definition
        marks[who.system] = found.is_trained_on
    assert marks == {"base": False, "deft": True, "random": False}


def test_length_baseline_prefers_fewer_tokens() -> None:
    found = measure_length_baseline(_scores([0.0] * 3, [0.0] * 3), [0, 1, 2])
    assert found.system == "shorter"
    assert _values([found])["preference_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)


def test_wins_count_a_tie_as_one_half() -> None:
    assert wins(np.array([2.0, -1.0, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_rows_of_one_prompt_share_a_cluster() -> None:
    scores = _scores([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    margin = next(m for m in measure_pairs(Who("x", "x"), scores, scores, ["p", "p", "q"], 0.1) if m.metric == "margin")
    assert margin.sums.shape == (2, 2)
    assert margin.n == 3


def test_only_metrics_that_were_asked_for_stay_with_their_companions() -> None:
    found = [Measurement(name, "x", "x", np.zeros((1, 2)), 1) for name in RULES]
    kept = {m.metric for m in wanted(found, ["length", "chosen_logp_change"])}
    assert kept == {"length", "ended", "chosen_logp_change", "chosen_logp_change_per_token"}
    bartscore = {"bartscore_precision", "bartscore_recall", "bartscore_f"}
    assert {m.metric for m in wanted(found, ["bartscore"])} == bartscore
    assert RULES["kl"].statistic is ratio


def test_a_metric_of_one_reward_model_has_the_rule_of_all_and_a_title_of_its_own() -> None:
    rule = rule_of("reward:rm_1")
    assert (rule.title, rule.unit) == ("reward by rm_1", "0-100")
    assert rule_of("kl") == RULES["kl"]
    assert in_order(["reward:b", "kl", "reward:a", "kl", "margin"]) == ["margin", "kl", "reward:b", "reward:a"]
    found = [Measurement(name, "x", "x", np.zeros((1, 2)), 1) for name in ("reward:rm_1", "reward_logit:rm_1")]
    assert [m.metric for m in wanted(found, ["reward"])] == ["reward:rm_1"]


def test_a_pair_metric_knows_its_rows_and_their_pairs() -> None:
    lists = {"row_of": np.array([0, 1, 1, 1]), "chosen_tokens": np.array([4, 3]), "rejected_tokens": np.arange(1, 5)}
    base = PairScores(np.array([-9.0, -8.0]), np.array([-5.0, -6.0, -7.0, -8.0]), **lists)
    (found,) = [m for m in measure_pairs(Who("x", "x"), base, base, ["a", "b"], 0.1) if m.metric == "margin"]
    assert found.by_row is not None
    assert found.by_row.counts.tolist() == [1, 3]
    assert found.by_row.columns.tolist() == [[0.0, 1.0], [0.0, 1.0]]
