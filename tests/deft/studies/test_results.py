"""Known answers go in: raters with a known preference, bias and inattention come out as what they are."""

import numpy as np
import pytest

from deft.studies.judgements import JudgedItem, Judgement, inattentive, outcome_of
from deft.studies.results import Rate, results, sentence, win_rate


def pair(name, cluster=None, *, is_swapped=False):
    return JudgedItem(name, "pair", hash(name) if cluster is None else cluster, is_swapped, None)


def says(item, verdict, rater="r1", seconds=3.0):
    return Judgement(item, rater, verdict, seconds)


def found_in(items, judgements, allowed=1):
    return results(["a", "b"], items, judgements, allowed=allowed, seed=0)


@pytest.mark.parametrize(
    ("verdict", "is_swapped", "outcome"),
    [
        ("1", False, "first"),
        ("1", True, "second"),
        ("2", False, "second"),
        ("2", True, "first"),
        ("tie", True, "tie"),
        ("both_bad", False, "both_bad"),
    ],
)
def test_sides_are_undone(verdict, is_swapped, outcome):
    assert outcome_of(verdict, is_swapped=is_swapped) == outcome


def test_ties_both_bad_and_identical_answers_count_one_half():
    items = [pair(str(n)) for n in range(4)]
    same = JudgedItem("same", "identical", 99, False, None)
    judged = [says(item, verdict) for item, verdict in zip(items, ("1", "2", "tie", "both_bad"), strict=True)]
    rate = win_rate(judged, [same])
    assert (rate.value, rate.n, rate.prompts) == (0.5, 5, 5)


def test_an_item_counts_once_however_many_raters_saw_it():
    one, other = pair("one"), pair("other")
    judged = [says(one, "1", rater) for rater in ("r1", "r2", "r3")] + [says(other, "2")]
    assert win_rate(judged).value == 0.5


def test_skips_count_nowhere_but_as_skips():
    items = [pair("one"), pair("two")]
    found = found_in(items, [says(items[0], "1"), says(items[1], "skip")])
    assert (found.win_rate.n, found.skipped, found.judged_pairs) == (1, 1, 1)
    assert found.raters[0].skipped == 1


def test_a_rater_who_fails_too_many_checks_is_left_out_and_both_rates_are_given():
    pairs = [pair(str(n)) for n in range(20)]
    checks = [JudgedItem(f"c{n}", "attention", None, False, "tie") for n in range(2)]
    good = [says(item, "1", "good") for item in pairs] + [says(item, "tie", "good") for item in checks]
    bad = [says(item, "2", "bad") for item in pairs] + [says(item, "2", "bad") for item in checks]
    found = found_in([*pairs, *checks], good + bad, allowed=1)
    assert found.win_rate.value == 1.0
    assert found.win_rate_of_all_raters.value == 0.5
    assert {rater.rater_id: rater.is_left_out for rater in found.raters} == {"good": False, "bad": True}
    assert (found.attention_seen, found.attention_failed) == (4, 2)
    assert inattentive(good + bad, allowed=2) == set()


def test_a_favourite_side_is_seen_and_does_not_move_the_win_rate():
    items = [pair(str(n), is_swapped=n % 2 == 0) for n in range(60)]
    found = found_in(items, [says(item, "1") for item in items])
    assert found.first_side.value == 1.0
    assert found.win_rate.value == 0.5


def test_a_known_win_rate_is_found_and_its_interval_holds_it_nearly_always():
    generator = np.random.default_rng(0)
    held = 0
    for run in range(40):
        items = [pair(f"{run}-{n}", n) for n in range(60)]
        verdicts = generator.choice(["1", "2", "tie"], p=[0.6, 0.2, 0.2], size=60)
        rate = win_rate([says(item, verdict) for item, verdict in zip(items, verdicts, strict=True)], seed=run)
        held += rate.low <= 0.7 <= rate.high
    assert held >= 35


def test_raters_who_agree_have_alpha_one_and_those_who_guess_about_zero():
    items = [pair(str(n)) for n in range(200)]
    verdicts = np.random.default_rng(1).choice(["1", "2", "tie", "both_bad"], size=(2, 200))
    agreeing = [says(item, verdicts[0][n], rater) for n, item in enumerate(items) for rater in ("r1", "r2")]
    guessing = [says(item, verdicts[r][n], f"r{r}") for n, item in enumerate(items) for r in (0, 1)]
    assert found_in(items, agreeing).agreement.alpha == 1.0
    found = found_in(items, guessing).agreement
    assert abs(found.alpha) < 0.15
    assert found.low < 0 < found.high
    assert (found.items, found.judgements) == (200, 400)


def test_nothing_judged_is_no_number():
    found = found_in([pair("one")], [])
    assert found.win_rate.value is None
    assert found.agreement.alpha is None
    assert found.sentence == "Nothing has been judged yet."


def test_judgements_of_which_none_counts_are_told():
    checks = [JudgedItem(f"c{n}", "attention", None, False, "tie") for n in range(2)]
    failed = [says(item, "2") for item in checks]
    pairs = [pair("one"), pair("two")]
    told = [found_in([*pairs, *checks], [*failed, *said]).sentence for said in ([], [says(pairs[0], "1")])]
    assert told == [
        "Nothing has been judged yet.",
        "The one judgement is left out: whoever judged failed more attention items than the study allows.",
    ]


def test_the_sentence_says_what_the_interval_supports():
    items = [pair(str(n)) for n in range(40)]
    wins = win_rate([says(item, "1") for item in items])
    even = win_rate([says(item, "1" if n % 2 else "2") for n, item in enumerate(items)])
    losses = win_rate([says(item, "2") for item in items])
    assert sentence(["a", "b"], wins).startswith("People prefer `a` to `b`: win rate 1.000 (95 % interval 0.9")
    assert sentence(["a", "b"], losses).startswith("People prefer `b` to `a`: win rate of `a` 0.000")
    assert sentence(["a", "b"], even).startswith("No difference between `a` and `b` is shown: win rate 0.500")


@pytest.mark.parametrize(
    ("low", "high", "start"),
    [
        (0.5, 0.7, "No difference"),
        (0.5001, 0.7, "People prefer `a` to `b`"),
        (0.3, 0.5, "No difference"),
        (0.3, 0.4999, "People prefer `b` to `a`"),
        (0.4999, 0.5001, "No difference"),
    ],
)
def test_people_prefer_a_system_only_where_the_whole_interval_is_beyond_one_half(low, high, start):
    assert sentence(["a", "b"], Rate((low + high) / 2, low, high, 40, 40)).startswith(start)


def study(same, judged, unjudged, verdict="1"):
    """Return the items of a study, and judgements of *judged* of its pairs."""
    pairs = [pair(str(n), n) for n in range(judged + unjudged)]
    items = pairs + [JudgedItem(f"same{n}", "identical", 1000.0 + n, False, None) for n in range(same)]
    return items, [says(item, verdict) for item in pairs[:judged]]


def test_judged_pairs_stand_for_all_that_differ():
    items, judged = study(150, 60, 90)
    judged[48:] = [says(one.item, "2") for one in judged[48:]]
    found = found_in(items, judged)
    assert found.win_rate.value == pytest.approx(0.65)  # half of the prompts at 1/2, half at 48 / 60
    assert found.win_rate_of_all_raters.value == pytest.approx(0.65)
    assert (found.win_rate.n, found.win_rate.prompts) == (210, 210)
    assert found.win_rate.low < 0.6 < found.win_rate.value < 0.69 < found.win_rate.high
    assert "60 of 150 pairs that differ were judged" in found.sentence
    turned = found_in(items, [says(one.item, "2" if one.verdict == "1" else "1") for one in judged]).win_rate
    assert turned.value == pytest.approx(0.35)
    assert (turned.low, turned.high) == pytest.approx((1 - found.win_rate.high, 1 - found.win_rate.low), abs=0.01)


def test_a_partly_judged_study_that_is_lost_has_the_interval_of_one_that_is_won_from_the_other_end():
    won, lost = (found_in(*study(30, 60, 90, verdict)).win_rate for verdict in "12")
    assert lost.value == pytest.approx(1 / 12)
    assert (lost.low, lost.high) == pytest.approx((1 - won.high, 1 - won.low), abs=1e-9)


def test_few_judged_pairs_among_identical_answers_show_no_difference():
    found = found_in(*study(150, 2, 148))
    assert found.win_rate.value == pytest.approx(0.75)
    assert found.win_rate.low < 0.5
    assert found.sentence.startswith("No difference")


def test_where_all_is_judged_the_interval_is_that_of_the_prompts():
    items, judged = study(20, 40, 0)
    identical, pairs = items[40:], items[:40]
    assert win_rate(judged, identical, pairs) == win_rate(judged, identical)
    assert "pairs that differ" not in found_in(items, judged).sentence


def test_the_interval_of_a_study_that_was_closed_early_holds_the_truth():
    generator = np.random.default_rng(2)
    held = 0
    for run in range(60):
        same = int(generator.binomial(100, 0.5))
        items, judged = study(same, (100 - same) // 3, 100 - same - (100 - same) // 3)
        judged = [says(one.item, "1" if generator.random() < 0.8 else "2") for one in judged]
        rate = results(["a", "b"], items, judged, allowed=1, seed=run).win_rate
        held += rate.low <= 0.65 <= rate.high
    assert held >= 52


def test_identical_answers_alone_are_no_win_rate():
    items, judged = study(10, 5, 0)
    checks = [JudgedItem(f"c{n}", "attention", None, False, "tie") for n in range(2)]
    nobody = found_in(items, [])
    left_out = found_in([*items, *checks], [*judged, *(says(item, "2") for item in checks)])
    for found in (nobody, left_out):
        assert (found.win_rate.value, found.win_rate.n) == (None, 0)
    assert nobody.sentence == "Nothing has been judged yet."
    assert left_out.sentence.startswith("All 5 judgements are left out: whoever judged failed more attention items")
    assert left_out.win_rate_of_all_raters.value > 0.5


def test_a_study_in_which_nothing_differs_says_so():
    items, _ = study(10, 0, 0)
    assert (
        found_in(items, []).sentence == "`a` and `b` gave the same answer to every prompt: there is nothing to judge."
    )
