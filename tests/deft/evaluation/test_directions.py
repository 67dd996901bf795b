import pytest

from deft.evaluation.directions import BETTER, better_of, has_change, is_known, is_lower_better, told_by
from deft.evaluation.metrics import JUDGED, RULES
from deft.safety.rates import RATES


def test_every_metric_that_anything_measures_has_its_direction():
    told = {"judge_win_rate_length_controlled", "human_win_rate", "lm_eval"}
    assert set(BETTER) == {*RULES, *JUDGED, *RATES, *(f"judge_{name}" for name in RATES), *told}


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("preference_accuracy", "higher"),
        ("kl", "lower"),
        ("perplexity", "lower"),
        ("harmful_compliance", "lower"),
        ("length", None),
        ("entropy", None),
        ("partial_refusal", None),
        ("silent", "lower"),
        ("reward:rm_1", "higher"),
        ("lm_eval:arc_easy/acc", "higher"),
        ("unheard_of", None),
    ],
)
def test_the_better_end(metric, better):
    assert better_of(metric) == better
    assert is_lower_better(metric) == (better == "lower")
    assert is_known(metric) == (metric != "unheard_of")


def test_who_tells_a_metric():
    assert [told_by(name) for name in ("judge_score", "human_win_rate", "kl")] == ["judging", "study", None]


def test_what_a_program_of_its_own_measures_is_not_compared_prompt_by_prompt():
    assert [has_change(name) for name in ("lm_eval:arc_easy/acc", "reward:rm_1")] == [False, True]
    assert [has_change(name) for name in ("human_win_rate", "human_win_rate:st_1")] == [True, False]
    assert [has_change(name) for name in ("judge_win_rate", "judge_win_rate:jg_1")] == [True, False]
