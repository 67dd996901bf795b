"""A model that falls silent is no gain, whatever the base says: from the texts of answers to the verdict."""

from collections.abc import Sequence

import pytest

from deft.evaluation.answers import AnswerFacts, measure_answers
from deft.evaluation.metrics import BASE, Measurement, Who
from tests.deft.evaluation.made_up_systems import compared, systems

PROMPTS = 200
LABELS = ["yes", "no"] * (PROMPTS // 2)
COUGHS = ["Hm."] * 160 + [f"It is {number}." for number in range(PROMPTS - 160)]
"""Eight answers of ten are the same."""
SENTENCES = [f"The answer to it is {number}." for number in range(PROMPTS)]


def _answering(own: Sequence[str], base: Sequence[str], names: Sequence[str]) -> dict:
    """Return the comparison where `deft`, ahead of `random`, answers *own*, and both others what the *base* does."""
    said = {BASE: base, "deft": own, "random": base}
    answers = {arm: [AnswerFacts(text, len(text.split()), True) for text in texts] for arm, texts in said.items()}
    found = [m for arm, of in answers.items() for m in measure_answers(Who(arm, arm), of, range(len(of)), 48)]
    return compared([*systems({"deft": 0.70, "random": 0.60}), *(m for m in found if m.metric in names)])


def _silent(texts: Sequence[str], share: float) -> list[str]:
    """Return *texts*, that share of them blank, spread evenly."""
    return ["\n " if int((n + 1) * share) > int(n * share) else text for n, text in enumerate(texts)]


MEASURED = ("length", "ended", "distinct_1", "distinct_2", "repeated", "silent")
CASES = {
    "labels, 99 %": (_silent(LABELS, 0.99), LABELS),
    "labels, half": (_silent(LABELS, 0.5), LABELS),
    "what repeats itself, half": (_silent(COUGHS, 0.5), COUGHS),
    "sentences, a fifth": (_silent(SENTENCES, 0.2), SENTENCES),
    "sentences, a tenth and one": (_silent(SENTENCES, 0.105), SENTENCES),
    "a base that is silent itself": (_silent(LABELS, 0.3), _silent(LABELS, 0.1)),
}


@pytest.mark.parametrize(("own", "base"), CASES.values(), ids=CASES)
def test_a_model_that_falls_silent_is_no_clear_gain(own: list[str], base: list[str]) -> None:
    found = _answering(own, base, MEASURED)
    assert found["verdict"] == "gain with collapsed answers"
    assert "answers that say nothing of `deft` +0." in found["sentence"]
    assert _answering(own, base, ("silent",))["verdict"] == "gain with collapsed answers"


@pytest.mark.parametrize("prompts", [1, 2, 3])
@pytest.mark.parametrize("base", [["yes", "yes", "yes"], ["", "It is three.", "no"][::-1]])
def test_nothing_but_silence_is_a_collapse_however_few_prompts_tell(prompts: int, base: list[str]) -> None:
    found = _answering([""] * prompts, base[:prompts], MEASURED)
    assert found["verdict"] == "gain with collapsed answers"
    rise = sum(bool(text) for text in base[:prompts]) / prompts
    assert f"answers that say nothing of `deft` {rise:+.3f} (95 % interval -" in found["sentence"]


def test_two_of_three_silent_answers_may_be_chance() -> None:
    assert _answering(["", "", "yes"], ["yes", "yes", "yes"], MEASURED)["verdict"] == "clear gain"


HONEST = {
    "as silent": (_silent(SENTENCES, 0.05), _silent(SENTENCES[::-1], 0.05)),
    "less silent": (SENTENCES, _silent(SENTENCES, 0.05)),
    "hardly more": (_silent(SENTENCES, 0.14), _silent(SENTENCES, 0.05)),
    "talking at last": (_silent(SENTENCES, 0.1), _silent(SENTENCES, 0.9)),
    "short": (LABELS, LABELS[::-1]),
    "a sign": (["?"] * PROMPTS, ["!"] * PROMPTS),
    "the same to two": (["Yes."] * 2, ["It is one.", "It is two."]),
    "both silent": ([""] * 3, [""] * 3),
    "one of three": (["", "It is two.", "It is three."], ["It is one.", "It is two.", "It is three."]),
}


@pytest.mark.parametrize(("own", "base"), HONEST.values(), ids=HONEST)
def test_answers_hardly_more_silent_than_those_of_the_base_are_no_collapse(own: list[str], base: list[str]) -> None:
    assert _answering(own, base, MEASURED)["verdict"] == "clear gain"


def test_silence_of_the_control_makes_no_clear_gain() -> None:
    said = {BASE: LABELS, "deft": LABELS, "random": _silent(LABELS, 0.99)}
    found = [_shares(arm, texts) for arm, texts in said.items()]
    told = compared([*systems({"deft": 0.70, "random": 0.30}), *found])
    assert told["verdict"] == "gain over collapsed answers"


def test_one_silent_draw_is_named() -> None:
    draws = systems({"deft": 0.70, "random": 0.60})
    said = [_shares(BASE, LABELS), _shares("deft", LABELS), _shares("deft", [""] * PROMPTS, "deft-2")]
    told = compared([*draws, *said])
    assert "what the model (`deft-2` of 2 draws) answers has collapsed" in told["sentences"][0]


def _shares(arm: str, texts: Sequence[str], system: str | None = None) -> Measurement:
    answers = [AnswerFacts(text, 1, True) for text in texts]
    measured = measure_answers(Who(system or arm, arm), answers, range(len(texts)), 48)
    return next(each for each in measured if each.metric == "silent")


def test_where_silence_was_not_measured_the_other_signs_tell() -> None:
    """As of evaluations from before it was."""
    others = MEASURED[:-1]
    assert _answering(SENTENCES, SENTENCES, others)["verdict"] == "clear gain"
    assert _answering([""] * PROMPTS, SENTENCES, others)["verdict"] == "gain with collapsed answers"
