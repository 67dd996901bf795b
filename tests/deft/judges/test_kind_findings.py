"""Which judges of safety may decide, by what they say of answers that people labelled."""

from collections.abc import Sequence

import pytest

from deft.data.answer_kinds import KINDS, Kind
from deft.judges.kind_findings import about_judge
from deft.specs import JudgeSpec

SPEC = JudgeSpec.model_validate(
    {"evaluation": "ev_1", "judge": {"endpoint": "e", "model": "m"}, "mode": "safety", "bootstrap": 200, "seed": 1}
)
MIXES: dict[str, dict[Kind, int]] = {
    "two, balanced": {"compliance": 100, "refusal": 100},
    "three": {"compliance": 70, "refusal": 70, "partial": 70},
    "four": {"compliance": 60, "refusal": 60, "partial": 60, "incoherent": 60},
    "as XSTest of GPT-4": {"compliance": 230, "refusal": 211, "partial": 9},
    "as XSTest of Mistral": {"compliance": 374, "refusal": 49, "partial": 27},
    "mostly refusals": {"compliance": 30, "refusal": 150, "partial": 20},
    "mostly incoherent": {"compliance": 60, "refusal": 60, "incoherent": 200},
}


def people_of(mix: dict[Kind, int]) -> list[Kind]:
    return [kind for kind, number in mix.items() for _ in range(number)]


def labelled(people: Sequence[Kind], told: Sequence[Kind | None]) -> list[tuple[Kind, Kind | None, float]]:
    return [(a, b, n / 1000) for n, (a, b) in enumerate(zip(people, told, strict=True))]


@pytest.mark.parametrize("constant", KINDS)
@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
def test_a_judge_that_always_says_the_same_may_never_decide(mix: dict[Kind, int], constant: Kind) -> None:
    people = people_of(mix)
    found = about_judge([constant] * 10, labelled(people, [constant] * len(people)), SPEC)
    assert not found["may_decide"]
    assert any("which always saying the same would reach" in reason for reason in found["may_not_decide_because"])


@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
def test_a_judge_that_is_right_but_for_one_in_25_may_decide(mix: dict[Kind, int]) -> None:
    people = people_of(mix)
    told: list[Kind] = [
        ("refusal" if kind == "compliance" else "compliance") if n % 25 == 0 else kind for n, kind in enumerate(people)
    ]
    found = about_judge(["refusal"] * 10, labelled(people, told), SPEC)
    assert found["may_not_decide_because"] == []
    assert found["may_decide"]


def test_a_judge_must_know_both_what_complies_and_what_refuses() -> None:
    """One takes compliance for nonsense, the other refusals: each agrees on the kind more often than one label does."""
    people = people_of({"compliance": 80, "refusal": 80, "partial": 60, "incoherent": 80})
    blind: dict[str, Kind] = {"compliance or not": "compliance", "refusal or not": "refusal"}
    for what, unseen in blind.items():
        told: list[Kind] = ["incoherent" if kind == unseen else kind for kind in people]
        if unseen == "refusal":
            told = ["incoherent" if kind == "partial" else kind for kind in told]
        found = about_judge(["refusal"] * 10, labelled(people, told), SPEC)
        assert found["agreement"]["low"] > found["agreement"]["baseline"]["saying_the_commonest_label"]
        assert [reason for reason in found["may_not_decide_because"] if f" on {what}, " in reason]
        assert not found["may_decide"]


def test_only_replies_that_were_read_count_as_labels_and_in_the_floors() -> None:
    people = people_of({"compliance": 40, "refusal": 30})
    told: list[Kind | None] = [None if n < 30 else kind for n, kind in enumerate(people)]
    agreed = about_judge(["refusal"] * 10, labelled(people, told), SPEC, unasked=7)["agreement"]
    assert (agreed["n"], agreed["asked"], agreed["incoherent_unasked"]) == (40, 70, 7)
    assert agreed["baseline"]["saying_the_commonest_label"] == pytest.approx(30 / 40)
    assert agreed["compliance_or_not"]["commonest"] == agreed["refusal_or_not"]["commonest"] == pytest.approx(30 / 40)


def test_few_labels_that_were_asked_about_are_said_with_those_that_were_not() -> None:
    people = people_of({"compliance": 20, "refusal": 20})
    found = about_judge(["refusal"] * 10, labelled(people, people), SPEC, unasked=60)
    (reason,) = found["may_not_decide_because"]
    assert "only 40 labelled answers were judged (60 that the rules find incoherent were not asked about)" in reason
