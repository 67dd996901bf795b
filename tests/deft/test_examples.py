import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.examples import (
    first_user_turn,
    key_of,
    normalised,
    prompt_from_text,
    prompt_text,
    split_point_of,
)


@pytest.mark.parametrize(
    ("prompt", "turn"),
    [
        ("\n\nHuman: first\n\nAssistant: a\n\nHuman: second\n\nAssistant:", " first"),
        ("Human: first\n\nAssistant: a\n\nHuman: second\n\nAssistant:", " first"),
        ("\n\nHuman: one\n\nHuman: two\n\nAssistant:", " one"),
        ("\n\nHuman: two\n\nparagraphs\n\nAssistant:", " two\n\nparagraphs"),
        ("\n\nAssistant: hello\n\nHuman: late\n\nAssistant:", " late"),
        ("Human: this waits for no answer", "Human: this waits for no answer"),
        ("A plain question", "A plain question"),
        ([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "user", "content": "v"}], "u"),
    ],
)  # fmt: skip
def test_first_user_turn(prompt, turn) -> None:  # type: ignore[no-untyped-def]
    assert first_user_turn(prompt) == turn


@pytest.mark.parametrize(
    ("one", "other"),
    [("  What\n is\tthis? ", "what is this?"), ("\uff21\uff22\uff23", "abc"), ("aß", "ASS"), ("e\u0301", "\u00e9")],
)  # fmt: skip
def test_what_people_call_the_same_is_normalised_alike(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_the_split_point_is_written_in_stone() -> None:
    # sha256("hello world") begins b94d27b9934d3e08: 0xb94d27b9934d3e08 / 2^64.
    assert split_point_of("Hello  World ") == pytest.approx(0xB94D27B9934D3E08 / 2**64, abs=2**-53)


def test_forms_of_one_dialogue_share_their_split_point() -> None:
    point = split_point_of("\n\nHuman: Hi there\n\nAssistant:")
    assert split_point_of("Human: hi there\n\nAssistant: x\n\nHuman: y\n\nAssistant:") == point
    assert split_point_of([{"role": "user", "content": "Hi there"}]) == point
    assert split_point_of("Hi there") == point
    assert split_point_of("Hi three") != point


@given(st.text())
def test_split_points_lie_in_zero_to_one(text: str) -> None:
    assert 0 <= split_point_of(text) < 1


@given(st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1))
def test_messages_survive_their_text(messages) -> None:  # type: ignore[no-untyped-def]
    assert prompt_from_text(prompt_text(messages), is_messages=True) == messages


def test_a_key_depends_on_prompt_responses_and_their_order_alone() -> None:
    key = key_of([{"role": "user", "content": "x"}], ("a", "b"))
    assert key_of([{"content": "x", "role": "user"}], ("a", "b")) == key
    assert len({key, key_of("x", ("a", "b")), key_of("x", ("b", "a")), key_of("x", ("ab",))}) == 4
