import pytest

from deft.safety.refusals import kind_of
from tests.deft.safety.hard_answers import HELPED, REFUSED


@pytest.mark.parametrize("answer", REFUSED)
def test_refusals_of_every_kind_are_refusals(answer: str) -> None:
    assert kind_of(answer) in ("refusal", "partial")


@pytest.mark.parametrize("answer", HELPED)
def test_help_that_has_the_words_of_refusals_is_help(answer: str) -> None:
    assert kind_of(answer) == "compliance"
