"""The words, on synthetic systems whose effect is known."""

from dataclasses import replace

import numpy as np

from deft.evaluation.metrics import BASE, Measurement
from tests.deft.evaluation.made_up_systems import PROMPTS, compared, measured, systems


def test_a_clear_gain_is_said_first_with_its_control_size_interval_and_n() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60}))
    assert found["verdict"] == "clear gain"
    assert found["against"] == "random"
    lead = found["sentences"][0]
    assert lead.startswith(
        "Clear gain: `deft` is ahead of `random` by 0.100 in preference accuracy (95 % interval +0.0"
    )
    assert "400 pairs of 400 prompts" in lead
    assert "after Holm's correction for 2 comparisons" in lead
    assert found["sentence"].startswith(lead)


def test_a_gain_over_an_arm_that_lost_to_the_base_as_well_says_so_at_once() -> None:
    lead = compared(systems({"deft": 0.40, "random": 0.25}))["sentences"][0]
    assert lead.startswith("Clear gain: `deft` is ahead of `random` by 0.150")
    assert " But `deft` is behind the base (-0.100, -0." in lead
    assert lead.endswith("): no training at all did better.")
    assert "behind the base" not in compared(systems({"deft": 0.49, "random": 0.25}))["sentences"][0]
    assert "behind the base" not in compared(systems({"deft": 0.25, "random": 0.40}))["sentences"][0]


def test_a_clear_loss_is_called_a_loss() -> None:
    found = compared(systems({"deft": 0.50, "random": 0.60}))
    assert found["sentences"][0].startswith("Clear loss: `deft` is behind `random` by 0.100 in preference accuracy")


def test_a_small_difference_is_within_noise_and_the_smallest_visible_one_is_told() -> None:
    found = compared(systems({"deft": 0.605, "random": 0.60}, prompts=200))
    assert found["sentences"][0].startswith("Within noise: `deft` is ahead of `random` by 0.005")
    smallest = found["smallest_detectable_difference"]
    assert 0.005 < smallest < 0.05
    assert found["sentences"][1] == (
        f"The smallest difference that could have been seen here is {smallest:.3f} (80 % power at 5 %, two-sided, "
        "for one comparison)."
    )


def test_where_two_draws_are_far_apart_no_difference_was_sure_to_be_seen() -> None:
    (other,) = (m for m in systems({"random": 0.7}) if (m.arm, m.metric) == ("random", "preference_accuracy"))
    found = compared([*systems({"deft": 0.6, "random": 0.3}), replace(other, system="random-2")])
    assert found["smallest_detectable_difference"] > 1
    assert found["sentences"][1] == (
        "No difference that there can be was sure to be seen here (80 % power at 5 %, two-sided, for one comparison): "
        "too few prompts, or draws of an arm."
    )


def test_no_difference_is_sure_to_be_seen_that_is_larger_than_there_can_be() -> None:
    few = compared(systems({"deft": 0.6}, prompts=5))
    assert 0.5 < few["smallest_detectable_difference"] < 1
    assert few["sentences"][1].startswith("No difference that there can be was sure to be seen here")


def test_what_a_large_gain_could_have_been_told_from_does_not_grow_with_it() -> None:
    order = np.random.default_rng(0).permutation(7)
    arms = [
        measured("preference_accuracy", arm, each) for arm, each in (("deft", order * 0 + 1.0), ("random", order / 90))
    ]
    found = compared([*arms, *(m for m in systems({"deft": 1, "random": 0}, prompts=7) if "accuracy" not in m.metric)])
    assert found["verdict"] == "clear gain"
    assert found["smallest_detectable_difference"] < found["differences"][0]["difference"]


def test_equal_systems_are_within_noise_and_might_still_differ() -> None:
    found = compared(systems({"deft": 0.6, "random": 0.6}))
    assert found["sentences"][0].startswith("Within noise: `deft` is level with `random` in preference accuracy")
    assert found["sentences"][1].startswith(
        "No prompt told the two apart; with so many prompts a difference of up to 0.009"
    )


def test_the_two_by_two_tells_selection_from_term() -> None:
    shares = {"deft": 0.60, "no_reward_term": 0.50, "random_with_term": 0.605, "random": 0.60}
    sentences = compared(systems(shares))["sentences"]
    selection = next(s for s in sentences if s.startswith("The selection alone"))
    term = next(s for s in sentences if s.startswith("The reward term"))
    assert "(`no_reward_term` - `random`): clear loss, -0.100" in selection
    assert "on selected rows (`deft` - `no_reward_term`) clear gain, +0.100" in term
    assert "on random rows (`random_with_term` - `random`) within noise, +0.005" in term


def test_the_two_by_two_knows_what_drifted_and_what_collapsed() -> None:
    shares = {"deft": 0.60, "no_reward_term": 0.50, "random_with_term": 0.70, "random": 0.60}
    silent = [measured("silent", arm, np.full(PROMPTS, float(arm == "random"))) for arm in (BASE, *shares)]
    sentences = compared([*systems(shares, kl={"no_reward_term": 3.0}), *silent])["sentences"]
    selection = next(s for s in sentences if s.startswith("The selection alone"))
    term = next(s for s in sentences if s.startswith("The reward term"))
    assert "(`no_reward_term` - `random`): loss to collapsed answers, -0.100" in selection
    assert "on selected rows (`deft` - `no_reward_term`) gain over heavy drift, +0.100" in term
    assert "on random rows (`random_with_term` - `random`) gain over collapsed answers, +0.100" in term


def test_without_the_whole_two_by_two_the_factors_are_not_told_apart() -> None:
    found = compared(systems({"deft": 0.6, "random": 0.6, "no_reward_term": 0.6}))
    assert "What selection and reward term did apart cannot be told without `random_with_term`." in found["sentences"]
    assert "The selection alone" not in found["sentence"]


def test_other_controls_and_the_base_follow_the_headline() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60, "full": 0.80, "mine": 0.70}))
    others = next(s for s in found["sentences"] if "against the others" in s)
    assert "clear loss against `full` (-0.100" in others
    assert "within noise against `mine` (+0.000" in others
    assert "clear gain against the base (+0.200" in others


def test_missing_full_is_said_and_present_full_is_not() -> None:
    text = "`deft` was not compared with training on everything."
    assert text in compared(systems({"deft": 0.6, "random": 0.6}))["sentences"]
    assert text not in compared(systems({"deft": 0.6, "random": 0.6, "full": 0.6}))["sentences"]


def test_accuracy_stands_beside_the_length_baseline_and_chance() -> None:
    found = compared(systems({"deft": 0.6, "random": 0.6}))
    assert (
        "`deft` is right in 0.600 of the pairs, preferring the shorter response in 0.570, chance in 0.5."
        in found["sentences"]
    )


def test_arms_trained_once_are_named() -> None:
    once = systems({"deft": 0.6, "random": 0.6})
    again = measured("preference_accuracy", "random", np.ones(PROMPTS) * 0.6, draw=2)
    text = "Trained once only, so that the luck of one training run is in no interval: `deft`, `random`."
    assert text in compared(once)["sentences"]
    lent = "Trained once only: `deft`; the luck of one run is taken to be that of the draws of `random`."
    assert lent in compared([*once, again])["sentences"]


def test_a_base_alone_is_compared_with_nothing() -> None:
    found = compared(systems({}), focus=None)
    assert found["sentence"] == "Only the base was measured: there is nothing to compare it with."
    assert (found["differences"], found["verdict"]) == ([], None)


def test_one_adapter_alone_is_compared_with_the_base() -> None:
    found = compared(systems({"mine": 0.7}), focus="mine")
    assert found["sentences"][0].startswith("Clear gain: `mine` is ahead of the base (0.5 by definition) by 0.200")


def test_without_preference_accuracy_there_is_no_verdict_whatever_r_d_says() -> None:
    only_r_d = [
        measured("r_d_accuracy", "deft", np.ones(PROMPTS), is_trained_on=True),
        measured("r_d_accuracy", "random", np.zeros(PROMPTS)),
    ]
    found = compared(only_r_d)
    assert found["verdict"] is None
    assert found["sentences"][0] == "Preference accuracy was not measured: there is no verdict."
    assert "gain" not in found["sentence"]


def test_one_prompt_gives_no_claim() -> None:
    found = compared(systems({"deft": 1.0, "random": 0.0}, prompts=1))
    assert found["verdict"] == "within noise"


def test_remarks_come_last() -> None:
    found = compared(systems({"deft": 0.6, "random": 0.6}), remarks=["3 ties."])
    assert found["sentences"][-1] == "3 ties."


def test_systems_apart_on_every_prompt_are_not_called_alike() -> None:
    found = compared(systems({"deft": 1.0, "random": 0.0}))
    assert found["sentences"][0].startswith("Clear gain: `deft` is ahead of `random` by 1.000")
    assert found["sentences"][1].startswith("All prompts agree; with so many prompts a difference of up to")


def test_warnings_about_the_data_stand_behind_the_first_sentence_and_remarks_at_the_end() -> None:
    found = compared(systems({"deft": 0.7, "random": 0.6}), warnings=["Noise.", "Few."], remarks=["A remark."])
    plain = compared(systems({"deft": 0.7, "random": 0.6}))
    first, *others = plain["sentences"]
    assert found["sentences"] == [first, "Noise.", "Few.", *others, "A remark."]
    assert (found["warnings"], plain["warnings"]) == (["Noise.", "Few."], [])


def test_a_p_below_its_level_beside_an_interval_that_holds_zero_is_no_gain() -> None:
    rows = np.array([2, 2, 2, 3, 2, 2, 2, 2, 3, 1], np.float64)
    right = np.array([1, 2, 1, 3, 2, 1, 2, 0, 2, 1], np.float64)
    base = Measurement("preference_accuracy", BASE, BASE, np.column_stack([rows / 2, rows]), 21, (0.0, 1.0))
    deft = Measurement("preference_accuracy", "deft", "deft", np.column_stack([right, rows]), 21, (0.0, 1.0))
    found = compared([replace(base, is_by_definition=True), deft])
    (difference,) = found["differences"]
    assert difference["p_adjusted"] < 0.05
    assert difference["low"] < 0
    assert found["verdict"] == difference["verdict"] == "within noise"
    assert "p alone is below 0.05; the interval does not leave out 0" in found["sentences"][0]
