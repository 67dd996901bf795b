"""The words on drift beside a gain or a loss, on synthetic systems whose effect is known."""

import numpy as np
import pytest

from deft.evaluation.answers import AnswerFacts, measure_answers
from deft.evaluation.comparison import VERDICT_METRIC
from deft.evaluation.metrics import BASE, Measurement, Who
from tests.deft.evaluation.made_up_systems import PROMPTS, compared, measured, systems


@pytest.mark.parametrize("drift", [{"fall": {"deft": 30.0}}, {"kl": {"deft": 0.8}}])
def test_a_gain_with_heavy_drift_never_reads_as_a_plain_gain(drift: dict) -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60}, **drift))
    assert found["verdict"] == "gain with heavy drift"
    assert found["sentences"][0].startswith("Gain with heavy drift: `deft` is ahead of `random`")
    assert "That is no plain gain" in found["sentences"][0]
    assert "clear gain" not in found["sentence"].lower()
    assert "Heavy drift (more than 0.5 nats a token by KL or by fall of log p(chosen)): `deft`." in found["sentences"]


def test_drift_just_below_the_limit_leaves_a_gain_a_gain() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60}, fall={"deft": 4.9}, kl={"deft": 0.49}))
    assert found["verdict"] == "clear gain"
    assert "Heavy drift" not in found["sentence"]


def test_a_gain_without_drift_measured_says_so() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60}, has_drift=False))
    assert found["sentences"][0].startswith("Gain, drift not measured: `deft` is ahead of `random`")


def test_drift_stands_beside_the_gain_for_both_sides() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.60}, fall={"deft": 3.0}, kl={"random": 0.01}))
    assert (
        "Drift of `deft`: KL 0.020 nats a token, log p(chosen) -3.0 nats (-0.30 a token); "
        "of `random`: KL 0.010 nats a token, log p(chosen) -1.0 nats (-0.10 a token)." in found["sentences"]
    )


@pytest.mark.parametrize("unmeasured", ["kl", "chosen_logp_change_per_token"])
def test_a_gain_or_a_loss_is_clear_only_where_both_measures_of_drift_were_taken(unmeasured: str) -> None:
    """Without answers there is no KL, and log p(chosen) alone does not see what a model says."""
    for share, kind in ((0.70, "gain"), (0.50, "loss")):
        known = [m for m in systems({"deft": share, "random": 0.60}) if m.metric != unmeasured]
        found = compared(known)
        assert found["verdict"] == f"{kind}, drift not measured"
        assert found["sentences"][0].startswith(f"{kind.capitalize()}, drift not measured: `deft` is ")
        assert found["sentences"][0].endswith(
            f"That is no plain {kind}: without KL and log p(chosen) of every draw a collapse cannot be told."
        )


def test_every_difference_of_trained_systems_has_the_qualified_word_of_the_first_sentence() -> None:
    shares = {"deft": 0.80, "no_reward_term": 0.70, "random_with_term": 0.60, "random": 0.50}
    found = compared(systems(shares, kl={"deft": 4.0, "random_with_term": 2.0}))
    told = {(d["arm"], d["against"]): d.get("verdict") for d in found["differences"] if "accuracy" in d["metric"]}
    assert told == {
        ("deft", "no_reward_term"): "gain with heavy drift",
        ("deft", "random_with_term"): "gain with heavy drift",
        ("deft", "random"): "gain with heavy drift",
        ("deft", "base"): "gain with heavy drift",
        ("no_reward_term", "random"): "clear gain",
        ("random_with_term", "random"): "gain with heavy drift",
    }
    assert told["deft", "random"] == found["verdict"]
    assert all("verdict" not in d for d in found["differences"] if "accuracy" not in d["metric"])


@pytest.mark.parametrize("far", ["random", "deft"])
def test_a_loss_is_qualified_as_a_gain_is(far: str) -> None:
    lost = systems({"deft": 0.50, "random": 0.74}, kl={far: 4.0}, fall={far: 50.0})
    found = compared(lost)
    own = {d["verdict"] for d in found["differences"] if (d["metric"], d["against"]) == (VERDICT_METRIC, "random")}
    word, why = {
        "random": ("loss to heavy drift", "`random` moved far from the base, so that being behind it says little."),
        "deft": (
            "loss with heavy drift",
            "the model moved far from the base, and accuracy alone does not see a collapse.",
        ),
    }[far]
    assert {found["verdict"]} == own == {word}
    assert found["sentences"][0].startswith(f"{word.capitalize()}: `deft` is behind `random` by 0.240")
    assert found["sentences"][0].endswith(f"That is no plain loss: {why}")
    assert "clear loss" not in found["sentence"].lower()


def test_where_both_sides_drifted_the_winner_is_named() -> None:
    far = {"deft": 4.0, "random": 4.0}
    assert compared(systems({"deft": 0.70, "random": 0.30}, kl=far))["verdict"] == "gain with heavy drift"
    assert compared(systems({"deft": 0.30, "random": 0.70}, kl=far))["verdict"] == "loss to heavy drift"


def test_a_difference_within_noise_stays_within_noise_whatever_drifted() -> None:
    found = compared(systems({"deft": 0.60, "random": 0.60}, kl={"deft": 4.0}))
    assert found["verdict"] == "within noise"
    assert "no plain" not in found["sentence"]


def _drawn(drifts: list[float], metric: str) -> list[Measurement]:
    """Three draws of `deft` and one of `random`, the former clearly ahead; *metric* of each draw as in *drifts*."""
    order, ones = np.random.default_rng(0).permutation(PROMPTS), np.ones(PROMPTS)
    found = systems({"random": 0.55})
    for draw, drift in enumerate(drifts, start=1):
        found.append(measured("preference_accuracy", "deft", (order < 0.8 * PROMPTS).astype(float), draw))
        numbers = {"kl": 0.05, "chosen_logp_change": -1.0, "chosen_logp_change_per_token": -0.05} | {metric: drift}
        found += [measured(name, "deft", value * ones, draw) for name, value in numbers.items()]
    return found


@pytest.mark.parametrize(("metric", "far"), [("kl", 1.3), ("chosen_logp_change_per_token", -1.3)])
def test_one_collapsed_draw_of_three_makes_the_arm_no_plain_gain_and_is_named(metric: str, far: float) -> None:
    near = 0.05 if metric == "kl" else -0.05
    assert compared(_drawn([near, near, near], metric))["verdict"] == "clear gain"
    found = compared(_drawn([near, far, near], metric))
    assert found["verdict"] == "gain with heavy drift"
    assert "the model (`deft-2` of 3 draws) moved far from the base" in found["sentences"][0]
    assert any(s.endswith("log p(chosen)): `deft` (`deft-2` of 3 draws).") for s in found["sentences"])


def test_a_draw_whose_drift_was_not_measured_leaves_the_drift_unknown() -> None:
    name = "chosen_logp_change_per_token"
    known = [m for m in _drawn([-0.05] * 3, name) if (m.system, m.metric) != ("deft-3", name)]
    assert compared(known)["verdict"] == "gain, drift not measured"


def test_a_drift_that_is_no_number_is_heavy() -> None:
    assert compared(systems({"deft": 0.7, "random": 0.6}, kl={"deft": float("nan")}))["verdict"] == (
        "gain with heavy drift"
    )


def test_a_drift_that_is_no_number_is_called_so() -> None:
    found = compared(systems({"deft": 0.7, "random": 0.6}, kl={"deft": float("nan")}, fall={"deft": float("nan")}))
    assert "Drift of `deft`: KL no number, log p(chosen) no number (no number);" in found["sentence"]
    assert "nan" not in found["sentence"].lower()


def test_being_ahead_of_a_control_that_collapsed_is_no_plain_gain() -> None:
    found = compared(systems({"deft": 0.70, "random": 0.30}, kl={"random": 3.0}))
    assert found["verdict"] == "gain over heavy drift"
    assert "`random` moved far from the base, so that being ahead of it says little" in found["sentences"][0]


def _falling(metric: str, to: float, arm: str = "deft", base: float = 0.95) -> dict:
    """Return the comparison where *metric* of *arm* is *to* and of the base *base*."""
    noise = np.random.default_rng(1).normal(0, 0.02, PROMPTS)
    shares = {"deft": 0.70, "random": 0.60} if arm == "deft" else {"deft": 0.70, "random": 0.30}
    values = {who: np.full(PROMPTS, base) + noise for who in (BASE, "deft", "random")}
    values[arm] = np.full(PROMPTS, to) - noise
    more = [measured(metric, who, own, bounds=(0.0, 1.0)) for who, own in values.items()]
    return compared([*systems(shares), *more])


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
    found = compared(systems({"deft": 0.70, "random": 0.60}), incoherence=[rise])
    assert found["verdict"] == verdict
    assert ("incoherent answers of `deft` +0.400" in found["sentence"]) == (verdict != "clear gain")


def test_a_control_whose_answers_loop_is_no_plain_winner() -> None:
    shares = {"deft": 0.30, "random": 0.70}
    looping = [_distinct(BASE, 0.9), _distinct("deft", 0.9), _distinct("random", 0.1)]
    found = compared([*systems(shares), *looping])
    assert found["verdict"] == "loss to collapsed answers"
    assert "what `random` answers has collapsed, so that being behind it says little" in found["sentences"][0]


def _distinct(arm: str, value: float, draw: int = 1) -> Measurement:
    noise = np.random.default_rng(draw).normal(0, 0.02, PROMPTS)
    return measured("distinct_2", arm, value + noise, draw, bounds=(0.0, 1.0))


def test_a_later_draw_whose_answers_loop_makes_the_arm_no_plain_gain_and_is_named() -> None:
    values = [_distinct(BASE, 0.9), *(_distinct("deft", v, d) for d, v in enumerate((0.9, 0.9, 0.1), start=1))]
    found = compared([*_drawn([0.05] * 3, "kl"), *values, _distinct("random", 0.9)])
    assert found["verdict"] == "gain with collapsed answers"
    assert "what the model (`deft-3` of 3 draws) answers has collapsed" in found["sentences"][0]
    assert any("distinct word pairs of an answer of `deft-3` -0." in sentence for sentence in found["sentences"])


def test_a_marked_fall_whose_interval_holds_zero_is_no_sign_of_collapse() -> None:
    """One answer of 500 words that loops, among five of one word, takes distinct-2 down without telling of others."""
    words = np.array([500.0, 1, 1, 1, 1, 1])
    base, own = words * 0.95, np.array([0.1 * 500, 1, 1, 1, 1, 1])
    assert own.sum() / words.sum() < base.sum() / words.sum() - 0.8
    few = [
        Measurement("distinct_2", arm, arm, np.column_stack([values, words]), len(words), (0.0, 1.0))
        for arm, values in ((BASE, base), ("deft", own), ("random", base))
    ]
    found = compared([*systems({"deft": 0.70, "random": 0.60}), *few])
    (fall,) = (d for d in found["differences"] if (d["metric"], d["against"]) == ("distinct_2", BASE))
    assert fall["difference"] < -0.8
    assert fall["high"] >= 0
    assert found["verdict"] == "clear gain"
    assert "Collapsed" not in found["sentence"]


def _sharing(metric: str, share: float, base: float) -> list[Measurement]:
    """Return *metric*, true of that *share* of the answers of `deft`, and of that of the *base* and of `random`."""
    order = np.random.default_rng(2).permutation(PROMPTS)
    shares = {BASE: base, "deft": share, "random": base}
    return [
        measured(metric, who, (order < round(own * PROMPTS)).astype(float), bounds=(0.0, 1.0))
        for who, own in shares.items()
    ]


def _repeating(share: float, base: float = 0.0) -> dict:
    """Return the comparison where that share of the answers of `deft`, and of the *base*, is one to another prompt."""
    return compared([*systems({"deft": 0.70, "random": 0.60}), *_sharing("repeated", share, base)])


def test_one_whole_sentence_for_every_prompt_is_a_collapse() -> None:
    found = _repeating(1.0)
    assert found["verdict"] == "gain with collapsed answers"
    assert any("answers given to another prompt too of `deft` +1.000" in sentence for sentence in found["sentences"])


@pytest.mark.parametrize(("share", "base"), [(0.29, 0.0), (0.9, 0.65), (0.0, 0.9)])
def test_answers_that_are_the_same_hardly_more_often_than_those_of_the_base_are_no_collapse(
    share: float, base: float
) -> None:
    assert _repeating(share, base)["verdict"] == "clear gain"


@pytest.mark.parametrize(("share", "base"), [(0.35, 0.0), (0.85, 0.5)])
def test_a_rise_of_repeated_answers_of_more_than_three_tenths_is_a_collapse(share: float, base: float) -> None:
    assert _repeating(share, base)["verdict"] == "gain with collapsed answers"


def test_a_marked_rise_of_repeated_answers_whose_interval_holds_zero_is_no_sign_of_collapse() -> None:
    """Two answers of four are the same, and none of the base's."""
    ones, own = np.ones(4), np.array([1.0, 1, 0, 0])
    values = ((BASE, 0 * own), ("deft", own), ("random", 0 * own))
    few = [Measurement("repeated", who, who, np.column_stack([each, ones]), 4, (0.0, 1.0)) for who, each in values]
    found = compared([*systems({"deft": 0.70, "random": 0.60}), *few])
    (rise,) = (d for d in found["differences"] if (d["metric"], d["against"]) == ("repeated", BASE))
    assert rise["difference"] > 0.3
    assert rise["low"] <= 0
    assert found["verdict"] == "clear gain"


def _of_nothing(metric: str) -> dict:
    """Return the comparison where what *metric* is a share of is nothing in the answers of `deft`."""
    words, nothing = np.ones((PROMPTS, 2)), np.zeros((PROMPTS, 2))
    sums = ((BASE, words), ("deft", nothing), ("random", words))
    shares = [Measurement(metric, who, who, own, PROMPTS, (0.0, 1.0)) for who, own in sums]
    return compared([*systems({"deft": 0.70, "random": 0.60}), *shares])


def test_a_share_of_nothing_is_no_fall() -> None:
    """Answers of one word have no word pairs: none of them can be distinct."""
    found = _of_nothing("distinct_2")
    assert any(d["metric"] == "distinct_2" and d["difference"] == -1 for d in found["differences"])
    assert found["verdict"] == "clear gain"


def test_words_of_nothing_are_silence() -> None:
    """Where the base says one of two words to everything, silence repeats no more than it does."""
    assert _of_nothing("distinct_1")["verdict"] == "gain with collapsed answers"


def _text(words: int, number: int) -> str:
    """Words of which six in ten are distinct, and nearly all pairs."""
    found = np.random.default_rng(number).permutation(np.repeat(np.arange(words), 2)[: int(words * 1.2)])
    return " ".join(f"w{number}w{each}" for each in found[:words])


LONG = {
    "loops among long ones": (
        [_text(300, n) if n % 10 == 0 else f"w{n} w{n} w{n}" for n in range(PROMPTS)],
        "gain with collapsed answers",
    ),
    "a third loops": (
        [_text(300, n) if n % 3 else f"w{n} " * 100 for n in range(PROMPTS)],
        "gain with collapsed answers",
    ),
    "one word twice": ([f"w{n} w{n}" for n in range(PROMPTS)], "gain with collapsed answers"),
    "every word twice": (
        [" ".join(f"w{n}w{each} w{n}w{each}" for each in range(20)) for n in range(PROMPTS)],
        "gain with collapsed answers",
    ),
    "salad": (
        [" ".join(f"w{(each * 7 + n) ** 2 % 41}" for each in range(100)) for n in range(PROMPTS)],
        "gain with collapsed answers",
    ),
}


@pytest.mark.parametrize(("own", "verdict"), LONG.values(), ids=LONG)
def test_loops_among_long_answers_and_without_a_loop_of_pairs_are_a_collapse(own: list[str], verdict: str) -> None:
    said = {BASE: ["Yes, it is so."] * PROMPTS, "deft": own, "random": ["Yes, it is so."] * PROMPTS}
    facts = {arm: [AnswerFacts(text, len(text.split()), True) for text in texts] for arm, texts in said.items()}
    found = [m for arm, of in facts.items() for m in measure_answers(Who(arm, arm), of, range(PROMPTS), 999)]
    distinct = [m for m in found if m.metric.startswith("distinct")]
    assert compared([*systems({"deft": 0.70, "random": 0.60}), *distinct])["verdict"].endswith(verdict)
