from collections import Counter

import pytest

from deft.errors import InvalidInput
from deft.specs.studies import AttentionItem, StudySpec
from deft.studies.generations import AnsweredPrompt, LaterTurn
from deft.studies.items import LABELS, make_items, refuse_unknown_sources, turns_of

PROMPTS = [AnsweredPrompt(row, f"Question {row}?", row / 100, "web", (f"A{row}", f"B{row}")) for row in range(60)]


def spec_of(**more):
    return StudySpec(evaluation="ev_1", systems=["a", "b"], **more)


def test_each_system_stands_first_in_half_of_the_pairs_and_sides_are_true():
    pairs = [item for item in make_items(spec_of(items=50), PROMPTS, 7) if item.kind == "pair"]
    assert len(pairs) == 50
    assert sum(item.is_swapped for item in pairs) == 25
    for item in pairs:
        assert (item.first, item.second)[item.is_swapped] == f"A{item.row}"


def test_the_seed_decides_everything():
    spec = spec_of(items=20)
    assert make_items(spec, PROMPTS, 7) == make_items(spec, list(reversed(PROMPTS)), 7)
    assert make_items(spec, PROMPTS, 7) != make_items(spec, PROMPTS, 8)


def test_the_share_of_overlap_is_wanted_by_several_raters():
    items = make_items(spec_of(items=40, overlap=0.25, raters_per_overlap=3), PROMPTS, 1)
    assert Counter(item.raters_wanted for item in items if item.kind == "pair") == {1: 30, 3: 10}


def test_equal_answers_are_ties_that_nobody_is_asked_about():
    prompts = [AnsweredPrompt(0, "Q?", 0.1, None, ("same", "same")), *PROMPTS[1:4]]
    items = make_items(spec_of(attention=0), prompts, 1)
    assert Counter(item.kind for item in items) == {"pair": 3, "identical": 1}
    assert [item.raters_wanted for item in items if item.kind == "identical"] == [0]


def test_attention_items_say_what_is_to_be_chosen_and_look_like_pairs():
    items = [item for item in make_items(spec_of(items=10, attention=12), PROMPTS, 3) if item.kind == "attention"]
    assert len(items) == 12
    assert len({item.expected for item in items}) > 2
    for item in items:
        assert LABELS[item.expected] in item.first == item.second
        assert item.prompt.startswith("Question")


def test_later_turns_stand_on_the_side_of_their_first_answer_and_checks_say_it_in_every_turn():
    prompts = [
        AnsweredPrompt(n, f"Q{n}?", n / 9, None, (f"A{n}", f"B{n}"), (LaterTurn("Why?", (f"A{n}'", f"B{n}'")),))
        for n in range(8)
    ]
    items = make_items(spec_of(attention=3), prompts, 4)
    for item in items:
        (turn,) = item.later
        assert turn.user == "Why?"
        same = (item.first, item.second) if item.kind == "attention" else (f"{item.first}'", f"{item.second}'")
        assert turn.answers == same
    assert {item.is_swapped for item in items if item.kind == "pair"} == {True, False}


def test_conversations_that_differ_in_a_later_turn_alone_are_judged():
    first = ("same", "same")
    differing = AnsweredPrompt(0, "Q?", 0.1, None, first, (LaterTurn("Why?", ("this", "that")),))
    equal = AnsweredPrompt(1, "Q?", 0.2, None, first, (LaterTurn("Why?", first),))
    kinds = {item.row: item.kind for item in make_items(spec_of(attention=0), [differing, equal], 1)}
    assert kinds == {0: "pair", 1: "identical"}


def test_ones_own_attention_items_have_the_better_answer_on_a_seeded_side():
    own = [AttentionItem(prompt=f"P{n}", better="right", worse="wrong") for n in range(20)]
    items = [i for i in make_items(spec_of(items=5, attention=0, attention_items=own), PROMPTS, 3) if i.expected]
    assert {item.expected for item in items} == {"1", "2"}
    assert all((item.first if item.expected == "1" else item.second) == "right" for item in items)


def test_attention_items_stand_among_the_pairs():
    kinds = [item.kind for item in make_items(spec_of(items=30, attention=10), PROMPTS, 5)]
    assert "pair" in kinds[kinds.index("attention") :]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)


def test_a_warning_covers_all_items_or_those_of_some_sources():
    assert not any(item.is_warned for item in make_items(spec_of(), PROMPTS, 1))
    assert all(item.is_warned for item in make_items(spec_of(content_warning="Strong words"), PROMPTS, 1))
    prompts = [AnsweredPrompt(0, "Q?", 0.1, "rude", ("a", "b")), *PROMPTS[1:3]]
    some = make_items(spec_of(content_warning="Strong words", warn_sources=["rude"], attention=0), prompts, 1)
    assert [item.source for item in some if item.is_warned] == ["rude"]


@pytest.mark.parametrize(
    ("asked", "pointers", "code"),
    [
        ({"content_warning": "W", "warn_sources": ["rude", "rood"]}, ["/warn_sources/1"], "unknown_source"),
        (
            {"content_warning": "W", "warn_sources": ["zzz", "y"]},
            ["/warn_sources/0", "/warn_sources/1"],
            "unknown_source",
        ),
        ({"warn_sources": ["rude"]}, ["/content_warning"], "no_content_warning"),
    ],
)
def test_a_warning_that_nobody_would_see_is_refused(asked, pointers, code):
    prompts = [AnsweredPrompt(0, "Q?", 0.1, "rude", ("a", "b")), *PROMPTS[1:3]]
    with pytest.raises(InvalidInput) as refusal:
        refuse_unknown_sources(spec_of(**asked), prompts)
    assert [each.pointer for each in refusal.value.findings] == pointers
    assert {refusal.value.error_code, *(each.code for each in refusal.value.findings)} == {code}
    refuse_unknown_sources(spec_of(content_warning="W", warn_sources=["rude"]), prompts)


@pytest.mark.parametrize("number", [0, 20, 21])
def test_the_refusal_of_a_source_tells_those_that_there_are(number):
    prompts = [AnsweredPrompt(n, "Q?", 0.1, f"s{n:02}", ("a", "b")) for n in range(number)]
    with pytest.raises(InvalidInput) as refusal:
        refuse_unknown_sources(spec_of(content_warning="W", warn_sources=["s"]), prompts or PROMPTS[:0])
    told = refusal.value.findings[0].expected
    assert ("s00" in told, "none of the prompts has a source" in told) == (number > 0, number == 0)
    assert ("s19" in told, told.endswith(" and 1 more")) == (number >= 20, number == 21)


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("Plain?", [("user", "Plain?")]),
        (
            [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}],
            [("system", "Be kind"), ("user", "Hi")],
        ),
        (
            "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:",
            [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")],
        ),
        ("Human: Hi\n\nAssistant:", [("user", "Hi")]),
    ],
)
def test_prompts_become_turns(prompt, turns):
    assert [(turn["role"], turn["content"]) for turn in turns_of(prompt)] == turns


def test_a_study_of_one_system_with_itself_is_refused():
    with pytest.raises(ValueError, match="two different systems"):
        StudySpec(evaluation="ev_1", systems=["a", "a"])
