"""The words, on synthetic systems whose effect is known."""

from dataclasses import replace

import numpy as np
import pytest

from deft.evaluation.comparison import gather
from deft.evaluation.metrics import BASE, SHORTER, Measurement
from deft.evaluation.verdict import compare

PROMPTS = 400
ARMS = ("deft", "no_reward_term", "random_with_term", "random")


def _measured(metric: str, arm: str, values: np.ndarray, draw: int = 1, **facts: object) -> Measurement:
    sums = np.column_stack([values, np.ones(len(values))])
    name = arm if draw == 1 else f"{arm}-{draw}"
    facts = ({"bounds": (0.0, 1.0)} if metric.endswith("accuracy") else {}) | facts
    return Measurement(metric, name, arm, sums, len(values), **facts)  # type: ignore[arg-type]


def _systems(
    accuracy: dict[str, float],
    *,
    fall: dict[str, float] | None = None,
    kl: dict[str, float] | None = None,
    has_drift: bool = True,
    prompts: int = PROMPTS,
) -> list[Measurement]:
    """Systems that are right in exactly that share of pairs; log p(chosen) of 10 tokens fell by *fall*."""
    order = np.random.default_rng(0).permutation(prompts)
    ones = np.ones(prompts)
    found = [_measured("preference_accuracy", BASE, ones / 2, is_by_definition=True)]
    found.append(_measured("preference_accuracy", SHORTER, (order < 0.57 * prompts).astype(float)))
    for arm, share in accuracy.items():
        found.append(_measured("preference_accuracy", arm, (order < round(share * prompts)).astype(float)))
        if has_drift:
            change = -(fall or {}).get(arm, 1.0) * ones
            found.append(_measured("chosen_logp_change", arm, change))
            found.append(_measured("chosen_logp_change_per_token", arm, change / 10))
            found.append(_measured("kl", arm, (kl or {}).get(arm, 0.02) * ones))
    return found


def _compare(systems: list[Measurement], focus: str | None = "deft", **more: object) -> dict:
    return compare(gather(systems, resamples=1000, seed=0), focus, **more)  # type: ignore[arg-type]


def test_a_clear_gain_is_said_first_with_its_control_size_interval_and_n() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60}))
    assert found["verdict"] == "clear gain"
    assert found["against"] == "random"
    lead = found["sentences"][0]
    assert lead.startswith(
        "Clear gain: `deft` is ahead of `random` by 0.100 in preference accuracy (95 % interval +0.0"
    )
    assert "400 pairs of 400 prompts" in lead
    assert "after Holm's correction for 2 comparisons" in lead
    assert found["sentence"].startswith(lead)


def test_a_clear_loss_is_called_a_loss() -> None:
    found = _compare(_systems({"deft": 0.50, "random": 0.60}))
    assert found["sentences"][0].startswith("Clear loss: `deft` is behind `random` by 0.100 in preference accuracy")


def test_a_small_difference_is_within_noise_and_the_smallest_visible_one_is_told() -> None:
    found = _compare(_systems({"deft": 0.605, "random": 0.60}, prompts=200))
    assert found["sentences"][0].startswith("Within noise: `deft` is ahead of `random` by 0.005")
    smallest = found["smallest_detectable_difference"]
    assert 0.005 < smallest < 0.05
    assert found["sentences"][1] == (
        f"The smallest difference that could have been seen here is {smallest:.3f} (80 % power at 5 %, two-sided: "
        "2.80 times the paired standard error, for one comparison)."
    )


def test_equal_systems_are_within_noise_and_might_still_differ() -> None:
    found = _compare(_systems({"deft": 0.6, "random": 0.6}))
    assert found["sentences"][0].startswith("Within noise: `deft` is level with `random` in preference accuracy")
    assert found["sentences"][1].startswith(
        "No prompt told the two apart; with so many prompts a difference of up to 0.009"
    )


@pytest.mark.parametrize("drift", [{"fall": {"deft": 30.0}}, {"kl": {"deft": 0.8}}])
def test_a_gain_with_heavy_drift_never_reads_as_a_plain_gain(drift: dict) -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60}, **drift))
    assert found["verdict"] == "gain with heavy drift"
    assert found["sentences"][0].startswith("Gain with heavy drift: `deft` is ahead of `random`")
    assert "That is no plain gain" in found["sentences"][0]
    assert "clear gain" not in found["sentence"].lower()
    assert "Heavy drift (more than 0.5 nats a token by KL or by fall of log p(chosen)): `deft`." in found["sentences"]


def test_drift_just_below_the_limit_leaves_a_gain_a_gain() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60}, fall={"deft": 4.9}, kl={"deft": 0.49}))
    assert found["verdict"] == "clear gain"
    assert "Heavy drift" not in found["sentence"]


def test_a_gain_without_drift_measured_says_so() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60}, has_drift=False))
    assert found["sentences"][0].startswith("Gain, drift not measured: `deft` is ahead of `random`")


def test_drift_stands_beside_the_gain_for_both_sides() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60}, fall={"deft": 3.0}, kl={"random": 0.01}))
    assert (
        "Drift of `deft`: KL 0.020 nats a token, log p(chosen) -3.0 nats (-0.30 a token); "
        "of `random`: KL 0.010 nats a token, log p(chosen) -1.0 nats (-0.10 a token)." in found["sentences"]
    )


def test_the_two_by_two_tells_selection_from_term() -> None:
    shares = {"deft": 0.60, "no_reward_term": 0.50, "random_with_term": 0.605, "random": 0.60}
    sentences = _compare(_systems(shares))["sentences"]
    selection = next(s for s in sentences if s.startswith("The selection alone"))
    term = next(s for s in sentences if s.startswith("The reward term"))
    assert "(`no_reward_term` - `random`): clear loss, -0.100" in selection
    assert "on selected rows (`deft` - `no_reward_term`) clear gain, +0.100" in term
    assert "on random rows (`random_with_term` - `random`) within noise, +0.005" in term


def test_without_the_whole_two_by_two_the_factors_are_not_told_apart() -> None:
    found = _compare(_systems({"deft": 0.6, "random": 0.6, "no_reward_term": 0.6}))
    assert "What selection and reward term did apart cannot be told without `random_with_term`." in found["sentences"]
    assert "The selection alone" not in found["sentence"]


def test_other_controls_and_the_base_follow_the_headline() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.60, "full": 0.80, "mine": 0.70}))
    others = next(s for s in found["sentences"] if "against the others" in s)
    assert "clear loss against `full` (-0.100" in others
    assert "within noise against `mine` (+0.000" in others
    assert "clear gain against the base (+0.200" in others


def test_missing_full_is_said_and_present_full_is_not() -> None:
    text = "`deft` was not compared with training on everything."
    assert text in _compare(_systems({"deft": 0.6, "random": 0.6}))["sentences"]
    assert text not in _compare(_systems({"deft": 0.6, "random": 0.6, "full": 0.6}))["sentences"]


def test_accuracy_stands_beside_the_length_baseline_and_chance() -> None:
    found = _compare(_systems({"deft": 0.6, "random": 0.6}))
    assert (
        "`deft` is right in 0.600 of the pairs, preferring the shorter response in 0.570, chance in 0.5."
        in found["sentences"]
    )


def test_arms_trained_once_are_named() -> None:
    systems = _systems({"deft": 0.6, "random": 0.6})
    again = _measured("preference_accuracy", "random", np.ones(PROMPTS) * 0.6, draw=2)
    text = "Trained once only, so that the luck of one training run is in no interval: `deft`, `random`."
    assert text in _compare(systems)["sentences"]
    lent = "Trained once only: `deft`; the luck of one run is taken to be that of the draws of `random`."
    assert lent in _compare([*systems, again])["sentences"]


def test_a_base_alone_is_compared_with_nothing() -> None:
    found = _compare(_systems({}), focus=None)
    assert found["sentence"] == "Only the base was measured: there is nothing to compare it with."
    assert (found["differences"], found["verdict"]) == ([], None)


def test_one_adapter_alone_is_compared_with_the_base() -> None:
    found = _compare(_systems({"mine": 0.7}), focus="mine")
    assert found["sentences"][0].startswith("Clear gain: `mine` is ahead of the base (0.5 by definition) by 0.200")


def test_without_preference_accuracy_there_is_no_verdict_whatever_r_d_says() -> None:
    systems = [
        _measured("r_d_accuracy", "deft", np.ones(PROMPTS), is_trained_on=True),
        _measured("r_d_accuracy", "random", np.zeros(PROMPTS)),
    ]
    found = _compare(systems)
    assert found["verdict"] is None
    assert found["sentences"][0] == "Preference accuracy was not measured: there is no verdict."
    assert "gain" not in found["sentence"]


def test_one_prompt_gives_no_claim() -> None:
    found = _compare(_systems({"deft": 1.0, "random": 0.0}, prompts=1))
    assert found["verdict"] == "within noise"


def test_remarks_come_last() -> None:
    found = _compare(_systems({"deft": 0.6, "random": 0.6}), remarks=["3 ties."])
    assert found["sentences"][-1] == "3 ties."


def test_systems_apart_on_every_prompt_are_not_called_alike() -> None:
    found = _compare(_systems({"deft": 1.0, "random": 0.0}))
    assert found["sentences"][0].startswith("Clear gain: `deft` is ahead of `random` by 1.000")
    assert found["sentences"][1].startswith("All prompts agree; with so many prompts a difference of up to")


def test_warnings_about_the_data_stand_behind_the_first_sentence_and_remarks_at_the_end() -> None:
    found = _compare(_systems({"deft": 0.7, "random": 0.6}), warnings=["Noise.", "Few."], remarks=["A remark."])
    plain = _compare(_systems({"deft": 0.7, "random": 0.6}))
    first, *others = plain["sentences"]
    assert found["sentences"] == [first, "Noise.", "Few.", *others, "A remark."]
    assert (found["warnings"], plain["warnings"]) == (["Noise.", "Few."], [])


def _drawn(drifts: list[float], metric: str) -> list[Measurement]:
    """Three draws of `deft` and one of `random`, the former clearly ahead; *metric* of each draw as in *drifts*."""
    order, ones = np.random.default_rng(0).permutation(PROMPTS), np.ones(PROMPTS)
    found = _systems({"random": 0.55})
    for draw, drift in enumerate(drifts, start=1):
        found.append(_measured("preference_accuracy", "deft", (order < 0.8 * PROMPTS).astype(float), draw))
        numbers = {"kl": 0.05, "chosen_logp_change": -1.0, "chosen_logp_change_per_token": -0.05} | {metric: drift}
        found += [_measured(name, "deft", value * ones, draw) for name, value in numbers.items()]
    return found


@pytest.mark.parametrize(("metric", "far"), [("kl", 1.3), ("chosen_logp_change_per_token", -1.3)])
def test_one_collapsed_draw_of_three_makes_the_arm_no_plain_gain_and_is_named(metric: str, far: float) -> None:
    near = 0.05 if metric == "kl" else -0.05
    assert _compare(_drawn([near, near, near], metric))["verdict"] == "clear gain"
    found = _compare(_drawn([near, far, near], metric))
    assert found["verdict"] == "gain with heavy drift"
    assert "the model (`deft-2` of 3 draws) moved far from the base" in found["sentences"][0]
    assert any(s.endswith("log p(chosen)): `deft` (`deft-2` of 3 draws).") for s in found["sentences"])


def test_a_draw_whose_drift_was_not_measured_leaves_the_drift_unknown() -> None:
    name = "chosen_logp_change_per_token"
    known = [m for m in _drawn([-0.05] * 3, name) if (m.system, m.metric) != ("deft-3", name)]
    assert _compare(known)["verdict"] == "gain, drift not measured"


def test_a_drift_that_is_no_number_is_heavy() -> None:
    assert _compare(_systems({"deft": 0.7, "random": 0.6}, kl={"deft": float("nan")}))["verdict"] == (
        "gain with heavy drift"
    )


def test_being_ahead_of_a_control_that_collapsed_is_no_plain_gain() -> None:
    found = _compare(_systems({"deft": 0.70, "random": 0.30}, kl={"random": 3.0}))
    assert found["verdict"] == "gain over heavy drift"
    assert "`random` moved far from the base, so that being ahead of it says little" in found["sentences"][0]


def _falling(metric: str, to: float, arm: str = "deft", base: float = 0.95) -> dict:
    """Return the comparison where *metric* of *arm* is *to* and of the base *base*."""
    noise = np.random.default_rng(1).normal(0, 0.02, PROMPTS)
    shares = {"deft": 0.70, "random": 0.60} if arm == "deft" else {"deft": 0.70, "random": 0.30}
    values = {who: np.full(PROMPTS, base) + noise for who in (BASE, "deft", "random")}
    values[arm] = np.full(PROMPTS, to) - noise
    more = [_measured(metric, who, own, bounds=(0.0, 1.0)) for who, own in values.items()]
    return _compare([*_systems(shares), *more])


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("distinct_1", "distinct words of an answer"),
        ("distinct_2", "distinct word pairs of an answer"),
        ("ended", "answers that end"),
    ],
)
def test_a_gain_whose_answers_loop_below_the_limit_of_kl_is_no_plain_gain(metric: str, title: str) -> None:
    found = _falling(metric, 0.3)
    assert found["verdict"] == "gain with collapsed answers"
    assert "what the model answers has collapsed" in found["sentences"][0]
    told = next(s for s in found["sentences"] if s.startswith("Collapsed answers, against the base: "))
    assert f"{title} of `deft` -0.64" in told
    assert "95 % interval -0.6" in told


def test_a_small_fall_of_distinct_words_or_of_ended_answers_leaves_a_gain_a_gain() -> None:
    for metric in ("distinct_1", "distinct_2", "ended"):
        found = _falling(metric, 0.8)
        assert found["verdict"] == "clear gain"
        assert "collapsed" not in found["sentence"].lower()


def test_a_control_whose_answers_loop_makes_no_clear_gain() -> None:
    found = _falling("distinct_2", 0.1, arm="random")
    assert found["verdict"] == "gain over collapsed answers"
    assert "what `random` answers has collapsed, so that being ahead of it says little" in found["sentences"][0]


@pytest.mark.parametrize(
    ("difference", "low", "verdict"),
    [
        (0.4, 0.3, "gain with collapsed answers"),
        (0.4, -0.01, "clear gain"),
        (0.05, 0.01, "clear gain"),
    ],
)
def test_a_marked_rise_of_incoherent_answers_makes_a_gain_no_plain_one(
    difference: float, low: float, verdict: str
) -> None:
    who = {"system": "deft", "arm": "deft", "against": BASE, "metric": "incoherent", "slice": "all"}
    rise = who | {"difference": difference, "low": low, "high": 0.5}
    found = _compare(_systems({"deft": 0.70, "random": 0.60}), incoherence=[rise])
    assert found["verdict"] == verdict
    assert ("incoherent answers of `deft` +0.400" in found["sentence"]) == (verdict != "clear gain")


def test_a_p_below_its_level_beside_an_interval_that_holds_zero_is_no_gain() -> None:
    rows = np.array([2, 2, 2, 3, 2, 2, 2, 2, 3, 1], np.float64)
    right = np.array([1, 2, 1, 3, 2, 1, 2, 0, 2, 1], np.float64)
    base = Measurement("preference_accuracy", BASE, BASE, np.column_stack([rows / 2, rows]), 21, (0.0, 1.0))
    deft = Measurement("preference_accuracy", "deft", "deft", np.column_stack([right, rows]), 21, (0.0, 1.0))
    found = _compare([replace(base, is_by_definition=True), deft])
    (difference,) = found["differences"]
    assert difference["p_adjusted"] < 0.05
    assert difference["low"] < 0
    assert found["verdict"] == difference["verdict"] == "within noise"
    assert "p alone is below 0.05; the interval does not leave out 0" in found["sentences"][0]
