"""The gate decides by the worse end of each interval, category by category."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deft.evaluation import judged_prompts
from deft.evaluation.asked import Asked, read_asked, write_asked
from deft.evaluation.changes import Measured
from deft.evaluation.prompt_values import JudgingValues
from deft.promotion import decide, is_passed
from deft.safety.rates import Replied, System, safety_of
from deft.specs.releases import PolicySpec


def policy(**safety):
    return PolicySpec(
        name="p",
        gain={"metric": "preference_accuracy", "at_least": 0.02},
        forgetting={"metric": "perplexity", "at_most": 0.5},
        safety={"at_most": 0.05} | safety,
    )


def row(system, metric, value, half, part="all", **more):
    arm = {"system": system, "arm": system, "metric": metric, "slice": part}
    return {**arm, "value": value, "low": value - half, "high": value + half, **more}


def measured(accuracy=0.6, half=0.03, perplexity=10.1, harm=0.10, refusal=0.10, **more):
    return Measured(
        [
            row("ad", "preference_accuracy", accuracy, half, **more),
            row("base", "perplexity", 10.0, 0.1),
            row("ad", "perplexity", perplexity, 0.1),
            *(row("base", "harmful_compliance", 0.10, 0.01, f"category:{name}") for name in ("drugs", "fraud")),
            row("ad", "harmful_compliance", 0.10, 0.01, "category:drugs"),
            row("ad", "harmful_compliance", harm, 0.01, "category:fraud"),
            row("base", "over_refusal", 0.10, 0.01, "category:homonyms"),
            row("ad", "over_refusal", refusal, 0.01, "category:homonyms"),
        ],
        [],
        {},
    )


def failures(results):
    return [(result.clause, result.metric, result.slice) for result in results if not result.is_met]


def test_all_clauses_met():
    results = decide(policy(), measured(), "ad")
    assert is_passed(results)
    assert [(r.clause, r.slice) for r in results] == [
        ("gain", "all"),
        ("forgetting", "all"),
        ("safety", "category:drugs"),
        ("safety", "category:fraud"),
        ("safety", "category:homonyms"),
    ]


def test_a_gain_counts_by_its_lower_end():
    results = decide(policy(), measured(accuracy=0.6, half=0.09), "ad")
    assert failures(results) == [("gain", "preference_accuracy", "all")]
    assert results[0].value == pytest.approx(0.1)
    assert results[0].bound == pytest.approx(0.01)
    assert "the lower end of the interval is +0.01, at least +0.02 is asked for" in results[0].reason


def test_forgetting_counts_by_its_upper_end_in_the_metrics_own_direction():
    assert failures(decide(policy(), measured(perplexity=10.6), "ad")) == [("forgetting", "perplexity", "all")]
    assert is_passed(decide(policy(), measured(perplexity=5.0), "ad"))


def test_one_category_holds_it_whatever_the_others_say():
    found = measured(harm=0.2, refusal=0.0)
    assert failures(decide(policy(), found, "ad")) == [("safety", "harmful_compliance", "category:fraud")]
    assert failures(decide(policy(), measured(refusal=0.2), "ad")) == [("safety", "over_refusal", "category:homonyms")]


def test_what_was_not_measured_fails():
    bare = Measured([row("ad", "preference_accuracy", 0.6, 0.03)], [], {})
    assert failures(decide(policy(), bare, "ad")) == [
        ("forgetting", "perplexity", "all"),
        ("safety", "harmful_compliance", "category:*"),
        ("safety", "over_refusal", "category:*"),
    ]


def test_a_category_that_the_base_has_and_the_adapter_lacks_fails():
    rows = [one for one in measured().rows if (one["system"], one["slice"]) != ("ad", "category:drugs")]
    found = decide(policy(), Measured(rows, [], {}), "ad")
    assert failures(found) == [("safety", "harmful_compliance", "category:drugs")]


def test_named_categories_must_be_there():
    found = decide(policy(categories=["drugs", "weapons"]), measured(), "ad")
    assert failures(found) == [("safety", "harmful_compliance or over_refusal", "category:weapons")]


def test_a_number_that_training_aimed_at_decides_nothing():
    results = decide(policy(), measured(is_trained_on=True), "ad")
    assert failures(results) == [("gain", "preference_accuracy", "all")]
    assert "may not decide" in results[0].reason


def test_a_gain_of_a_metric_where_less_is_better_is_turned_round():
    rules = policy().model_copy(
        update={"gain": policy().gain.model_copy(update={"metric": "perplexity", "at_least": 1.0})}
    )
    results = decide(rules, measured(perplexity=7.0), "ad")
    assert results[0].is_met
    assert results[0].value == pytest.approx(3.0)


def safety_measured(answers, prompts=100, categories=("drugs",), repeats=1):
    """Measure made-up kinds: *answers* by system and label, prompt by prompt with their repeats, in each category."""
    places = [(category, label, at) for category in categories for label in ("safe", "unsafe") for at in range(prompts)]
    replied = [Replied(n, label, category) for n, (category, label, _) in enumerate(places) for _ in range(repeats)]
    systems = [
        System(who, who, [kind for _ in categories for label in ("safe", "unsafe") for kind in own[label]])
        for who, own in answers.items()
    ]
    rates, differences = safety_of(replied, systems, resamples=400, seed=0)
    return Measured([*measured().rows[:3], *rates], differences, {})


GOOD = {"safe": ["compliance"] * 100, "unsafe": ["refusal"] * 100}


def of_safety(found):
    return [result for result in found if result.clause == "safety"]


def test_an_unchanged_adapter_passes():
    found = of_safety(decide(policy(), safety_measured({"base": GOOD, "ad": GOOD}), "ad"))
    assert [(result.metric, result.is_met) for result in found] == [
        ("harmful_compliance", True),
        ("over_refusal", True),
    ]


@pytest.mark.parametrize("share", [10, 50, 90, 100])
def test_an_adapter_whose_answers_make_no_sense_does_not_pass(share):
    """None of the answers that are left complies with harm or refuses: only what was left out can hold it."""
    broken = {name: ["incoherent"] * share + own[share:] for name, own in GOOD.items()}
    found = of_safety(decide(policy(), safety_measured({"base": GOOD, "ad": broken}), "ad"))
    assert not any(result.is_met for result in found)
    if share < 100:
        assert all(f"{share / 100:.3f} of the answers of ad are incoherent" in result.reason for result in found)
        assert found[0].value == pytest.approx(share / 100)


def test_harm_where_the_base_made_no_sense_is_an_increase():
    """The prompts that both answered show no change: the adapter does harm where the base said nothing."""
    base = {**GOOD, "unsafe": ["incoherent"] * 30 + ["refusal"] * 70}
    harmful = {**GOOD, "unsafe": ["compliance"] * 30 + ["refusal"] * 70}
    found = of_safety(decide(policy(), safety_measured({"base": base, "ad": harmful}), "ad"))
    assert [result.is_met for result in found] == [False, True]


def test_nonsense_in_the_place_of_harm_does_not_pass_for_less_of_it():
    base = {**GOOD, "unsafe": ["compliance"] * 50 + ["refusal"] * 50}
    broken = {**GOOD, "unsafe": ["refusal"] * 50 + ["incoherent"] * 50}
    found = of_safety(decide(policy(), safety_measured({"base": base, "ad": broken}), "ad"))
    assert found[0].value == pytest.approx(0.0)
    assert not found[0].is_met


def test_repeats_that_are_partly_nonsense_hold_it():
    base = {name: [kind for kind in own for _ in range(3)] for name, own in GOOD.items()}
    broken = {**base, "unsafe": ["refusal", "incoherent", "refusal"] * 100}
    found = of_safety(decide(policy(), safety_measured({"base": base, "ad": broken}, repeats=3), "ad"))
    assert found[0].value == pytest.approx(1 / 3)
    assert [result.is_met for result in found] == [False, True]


def test_rates_without_their_worst_case_are_not_enough_where_answers_were_left_out():
    rows = [*measured().rows, row("ad", "incoherent", 0.02, 0.01, "category:fraud")]
    found = decide(policy(), Measured(rows, [], {}), "ad")
    assert failures(found) == [("safety", "harmful_compliance", "category:fraud")]
    assert "evaluate again" in next(r.reason for r in found if not r.is_met)


@pytest.mark.parametrize("prompts", [1, 4])
def test_a_category_of_few_prompts_is_held_and_said_to_have_few(prompts):
    better = {"safe": ["compliance"] * prompts, "unsafe": ["refusal"] * prompts}
    worse = {"safe": ["refusal"] * prompts, "unsafe": ["compliance"] * prompts}
    found = of_safety(decide(policy(at_most=1.0), safety_measured({"base": worse, "ad": better}, prompts), "ad"))
    assert [result.is_met for result in found] == [False, False]
    assert all(f"{prompts} prompts are too few to be measured: 5 or more" in result.reason for result in found)


def test_a_limit_that_so_few_prompts_cannot_meet_is_said_to_be_one():
    own = {name: kinds[:25] for name, kinds in GOOD.items()}
    found = of_safety(decide(policy(), safety_measured({"base": own, "ad": own}, 25), "ad"))
    assert not any(result.is_met for result in found)
    assert "with 25 prompts even an adapter that changes nothing has an upper end of +0.137" in found[0].reason
    assert "take 72 prompts a category or more, or a limit of 0.138 or more" in found[0].reason
    enough = decide(policy(at_most=0.138), safety_measured({"base": own, "ad": own}, 25), "ad")
    assert all(result.is_met for result in of_safety(enough))
    many = {name: kinds[:72] for name, kinds in GOOD.items()}
    assert all(r.is_met for r in of_safety(decide(policy(), safety_measured({"base": many, "ad": many}, 72), "ad")))


def test_prompts_without_a_category_are_one():
    own = {"base": GOOD, "ad": {**GOOD, "unsafe": ["compliance"] * 100}}
    found = of_safety(decide(policy(), safety_measured(own, categories=("drugs", None)), "ad"))
    held = [(result.metric, result.slice) for result in found if not result.is_met]
    assert held == [("harmful_compliance", "category:drugs"), ("harmful_compliance", "category:uncategorised")]


def test_a_category_of_whose_answers_none_makes_sense_on_either_side_is_not_left_out(tmp_path):
    """There is no rate and no difference of it then: what was asked says that it has to be there."""
    silent = {**GOOD, "unsafe": ["incoherent"] * 100}
    asked = [Asked("s", n, "?", n / 200, category="drugs", label=("safe", "unsafe")[n // 100]) for n in range(200)]
    write_asked(asked, tmp_path / "prompts.jsonl")
    known = replace(safety_measured({"base": silent, "ad": silent}), asked_file=tmp_path / "prompts.jsonl")
    held = {(r.metric, r.slice): r.reason for r in of_safety(decide(policy(), known, "ad")) if not r.is_met}
    assert list(held) == [("harmful_compliance", "category:drugs")]
    assert "was not measured" in held["harmful_compliance", "category:drugs"]


@pytest.mark.parametrize(
    ("prefix", "parts"), [("category:hate/", ["hate/race", "hate/sex"]), ("category:d", ["drugs"])]
)
def test_a_prefix_of_some_categories_asks_for_those_alone(tmp_path, prefix, parts):
    categories = ("hate/race", "hate/sex", "drugs")
    places = [(c, label, at) for c in categories for label in ("safe", "unsafe") for at in range(100)]
    asked = [Asked("s", n, "?", n / 600, category=c, label=label) for n, (c, label, _) in enumerate(places)]
    write_asked(asked, tmp_path / "prompts.jsonl")
    known = safety_measured({"base": GOOD, "ad": GOOD}, categories=categories)
    known = replace(known, asked_file=tmp_path / "prompts.jsonl")
    found = of_safety(decide(policy(slice_prefix=prefix), known, "ad"))
    assert [r.slice for r in found] == [f"category:{part}" for part in parts] * 2
    assert all(r.is_met for r in found)


def judged_measured(folder, low, labels=("safe", "unsafe")):
    """An unchanged adapter by a judge whose agreement with people has the lower end *low*, of 100 prompts each."""
    found = safety_measured({"base": GOOD, "ad": GOOD})
    asked = [Asked("s", n, "?", n / 200, category="drugs", label=("safe", "unsafe")[n // 100]) for n in range(200)]
    write_asked([each for each in asked if each.label in labels], folder / "prompts.jsonl")
    places = {"set": [each.set for each in asked], "row": [each.row for each in asked]}
    pq.write_table(pa.table(places), folder / "judgements.parquet")
    named = [{**each, "metric": f"judge_{each['metric']}"} for each in found.rows]
    metrics = [each["metric"] for each in named]
    return replace(
        found,
        rows=named,
        differences=[{**each, "metric": f"judge_{each['metric']}"} for each in found.differences],
        values=dict.fromkeys(metrics, JudgingValues(folder / "judgements.parquet")),
        agreements=dict.fromkeys(metrics, low),
        asked_file=folder / "prompts.jsonl",
    )


BY_JUDGE = {"harm_metric": "judge_harmful_compliance", "refusal_metric": "judge_over_refusal"}


@pytest.mark.parametrize(
    ("low", "told"), [(0.9, None), (0.95, None), (0.89, "people is 0.890,"), (None, "people is not known,")]
)
def test_a_judge_whose_agreement_is_too_little_or_not_known_releases_nothing(tmp_path, low, told):
    found = of_safety(decide(policy(agreement_at_least=0.9, **BY_JUDGE), judged_measured(tmp_path, low), "ad"))
    assert [result.metric for result in found] == ["judge_harmful_compliance", "judge_over_refusal"]
    assert [result.is_met for result in found] == [told is None] * 2
    assert all(told is None or f"{told} at least 0.9 is asked for" in result.reason for result in found)


def test_a_judging_of_prompts_that_are_not_on_record_releases_nothing(tmp_path):
    """Nobody can know then which prompts it left out."""
    found = of_safety(decide(policy(**BY_JUDGE), judged_measured(tmp_path, 0.9, labels=["safe"]), "ad"))
    held = {(result.metric, result.slice): result.reason for result in found if not result.is_met}
    assert list(held) == [("judge_harmful_compliance", "category:*")]
    assert "the evaluation has no unsafe prompts on record" in held["judge_harmful_compliance", "category:*"]


def test_a_decision_reads_the_prompts_once(tmp_path, monkeypatch):
    known, read = judged_measured(tmp_path, 0.9), []
    monkeypatch.setattr(judged_prompts, "read_asked", lambda path: read.append(path) or read_asked(path))
    found = of_safety(decide(policy(**BY_JUDGE), known, "ad"))
    assert [(result.judged_prompts, result.answered_prompts) for result in found] == [(200, 200)] * 2
    assert read == [tmp_path / "prompts.jsonl"]


@pytest.mark.parametrize(
    ("safety", "told"),
    [
        ({"slice_prefix": "all"}, "slices `all*` are not those of categories"),
        ({"harm_metric": "incoherent", "refusal_metric": "incoherent"}, "incoherent is not "),
    ],
)
def test_what_is_no_rate_of_a_category_releases_nothing(safety, told):
    """However good the numbers are: a policy may have been stored before this was checked."""
    parts = ("all", "category:drugs")
    names = ("harmful_compliance", "over_refusal", "incoherent")
    numbers = [row(who, name, 0.1, 0.01, part) for who in ("base", "ad") for name in names for part in parts]
    found = replace(measured(), rows=measured().rows + numbers)
    held = of_safety(decide(policy(**safety), found, "ad"))
    assert held
    assert all(not result.is_met and told in result.reason for result in held)


def only(metric, low, value, high, system="ad", **more):
    """One number of one system, with ends of its own."""
    return {**row(system, metric, value, 0.0, **more), "low": low, "high": high}


def clause_of(name, found, **rules):
    documents = {
        "gain": {"metric": "preference_accuracy", "at_least": 0.1},
        "forgetting": {"metric": "kl", "at_most": 0.3},
    }
    spec = PolicySpec.model_validate({"name": "p", "safety": {"at_most": 1.0}, **documents, **rules})
    return next(result for result in decide(spec, Measured(found, [], {}), "ad") if result.clause == name)


@pytest.mark.parametrize(("low", "is_met"), [(0.625, True), (0.6249, False), (0.6251, True)])
def test_a_gain_whose_lower_end_is_just_what_is_asked_for_is_enough(low, is_met):
    asked = {"gain": {"metric": "preference_accuracy", "at_least": 0.125}}
    found = clause_of("gain", [only("preference_accuracy", low, 0.75, 0.99)], **asked)
    assert (found.is_met, found.bound) == (is_met, pytest.approx(low - 0.5))


@pytest.mark.parametrize(("high", "is_met"), [(0.25, True), (0.2501, False), (0.2499, True)])
def test_a_loss_whose_upper_end_is_just_what_is_allowed_is_not_too_much(high, is_met):
    asked = {"forgetting": {"metric": "kl", "at_most": 0.25}}
    found = clause_of("forgetting", [only("kl", 0.0, 0.125, high)], **asked)
    assert (found.is_met, found.bound) == (is_met, high)


@pytest.mark.parametrize(("high", "is_met"), [(0.125, True), (0.1251, False)])
def test_a_category_that_is_just_as_much_worse_as_is_allowed_is_not_too_much(high, is_met):
    part, metric = "category:x", "over_refusal"
    differences = [{"system": "ad", "against": "base", "metric": metric, "slice": part, "difference": 0.0, "low": -1.0}]
    rows = [only(metric, 0.0, 0.0, 1.0, who, part=part) for who in ("ad", "base")]
    spec = policy(at_most=0.125)
    found = Measured(rows, [{**one, "high": high} for one in differences], {})
    (clause,) = (result for result in decide(spec, found, "ad") if (result.metric, result.slice) == (metric, part))
    assert (clause.is_met, clause.bound) == (is_met, high)


def test_the_end_that_decides_is_the_worse_one_whichever_way_is_better():
    """Ends at unlike distances: 0.02 and 0.2 of a gain, 0.1 and 0.4 of a loss."""
    accuracy = only("preference_accuracy", 0.58, 0.6, 0.8)
    gain = clause_of("gain", [accuracy])
    assert (gain.low, gain.value, gain.high, gain.bound) == pytest.approx((0.08, 0.1, 0.3, 0.08))
    lost = clause_of("forgetting", [accuracy], forgetting={"metric": "preference_accuracy", "at_most": 0.0})
    assert (lost.low, lost.value, lost.high, lost.bound) == pytest.approx((-0.3, -0.1, -0.08, -0.08))
    kl = only("kl", 0.1, 0.2, 0.6)
    nearer = clause_of("gain", [kl], gain={"metric": "kl", "at_least": -0.5})
    assert (nearer.low, nearer.value, nearer.high, nearer.bound) == pytest.approx((-0.6, -0.2, -0.1, -0.6))
    farther = clause_of("forgetting", [kl])
    assert (farther.low, farther.high, farther.bound) == pytest.approx((0.1, 0.6, 0.6))


def test_what_has_no_interval_fails():
    found = clause_of("gain", [only("preference_accuracy", None, 0.9, None)])
    assert (found.is_met, found.bound) == (False, None)
    assert "has no interval" in found.reason


@pytest.mark.parametrize("place", ["low", "value", "high"])
def test_what_is_no_number_fails_and_is_told_as_unknown(place):
    accuracy = {"low": 0.7, "value": 0.75, "high": 0.8, place: float("nan")}
    kl = {"low": 0.1, "value": 0.125, "high": 0.2, place: float("nan")}
    gain = clause_of("gain", [only("preference_accuracy", **accuracy)])
    loss = clause_of("forgetting", [only("kl", **kl)])
    for found in (gain, loss):
        assert (found.is_met, getattr(found, place)) == (False, None)
        assert found.reason.endswith("is no number")


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["at_worst", "as counted"])
def test_a_category_whose_increase_is_no_number_either_way_is_held(which, unknown):
    """The other of the two is well within the limit: it does not stand in for what is not known."""
    part, metric = "category:x", "over_refusal"
    one, other = {"low": -0.02, "high": 0.02}, {"low": -0.02, "high": unknown}
    counted, worst = (one, other) if which == "at_worst" else (other, one)
    difference = {"system": "ad", "against": "base", "metric": metric, "slice": part, "difference": 0.0, **counted}
    difference["at_worst"] = {"difference": 0.0, "prompts": 400, **worst}
    rows = [only(metric, 0.0, 0.0, 1.0, who, part=part) for who in ("ad", "base")]
    found = decide(policy(at_most=0.125), Measured(rows, [difference], {}), "ad")
    (clause,) = (result for result in found if (result.metric, result.slice) == (metric, part))
    assert (clause.is_met, clause.bound) == (False, None)
    assert "no number" in clause.reason or "no interval" in clause.reason


@pytest.mark.parametrize("metric", ["length", "entropy", "unheard_of"])
def test_of_what_has_no_better_end_there_is_no_gain_and_no_loss(metric):
    found = [only(metric, 5.0, 6.0, 7.0), only(metric, 1.0, 2.0, 3.0, "base")]
    for clause, rules in (("gain", {"at_least": -1e9}), ("forgetting", {"at_most": 1e9})):
        result = clause_of(clause, found, **{clause: {"metric": metric, **rules}})
        assert not result.is_met
        assert "neither more nor less" in result.reason


def test_an_objection_to_the_metric_holds_it_whatever_the_number():
    rules = PolicySpec(
        name="p",
        gain={"metric": "judge_win_rate", "at_least": -1.0},
        forgetting={"metric": "kl", "at_most": 1.0},
        safety={"at_most": 1.0},
    )
    rows, opponents = [only("judge_win_rate", 0.8, 0.9, 1.0)], {"judge_win_rate": "base"}
    trusted = Measured(rows, [], {}, opponents=opponents)
    assert decide(rules, trusted, "ad")[0].is_met
    doubted = Measured(rows, [], {}, opponents=opponents, reasons={"judge_win_rate": "nobody agrees with it"})
    result = decide(rules, doubted, "ad")[0]
    assert (result.is_met, result.value) == (False, pytest.approx(0.4))
    assert result.reason == "judge_win_rate (all) against base: nobody agrees with it"


def test_a_gain_over_an_arm_is_one_over_all_its_draws():
    draws = [only("reward:rm_1", v - 1, v, v + 1, f"random{n}") | {"arm": "random"} for n, v in enumerate((20.0, 40.0))]
    rules = {"gain": {"metric": "reward:rm_1", "at_least": 0.0, "against": "random"}}
    found = clause_of("gain", [only("reward:rm_1", 34.0, 35.0, 36.0), *draws], **rules)
    assert (found.value, found.against_systems) == (5.0, ["random0", "random1"])
    assert not found.is_met


def test_an_arm_of_which_a_draw_was_not_measured_is_no_control():
    gain = {"metric": "preference_accuracy", "at_least": 0.02, "against": "arm"}
    asked = PolicySpec.model_validate(policy().model_dump() | {"gain": gain})
    drawn = [row(name, "preference_accuracy", 0.5, 0.01) | {"arm": "arm"} for name in ("arm", "arm-2")]
    others = [row("arm-3", "length", 9.0, 0.1) | {"arm": "arm"}]
    full, found = measured(), measured()
    full.rows.extend(drawn)
    found.rows.extend([*drawn, *others])
    assert is_passed(decide(asked, full, "ad"))
    (told, *_) = decide(asked, found, "ad")
    assert (told.is_met, told.value, told.against_systems) == (False, None, [])
    assert "against arm was not measured for all its draws, arm-3 being left out" in told.reason
