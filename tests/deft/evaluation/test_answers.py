"""Metrics of generated answers, by hand and against sacrebleu."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from deft.evaluation.answers import (
    AnswerFacts,
    bleu_counts,
    bleu_signature,
    measure_against_references,
    measure_answers,
)
from deft.evaluation.metrics import RULES, Measurement, Who, bleu_score

ANSWERS = ["the cat sat on the mat today", "no", "a dog ran over the hill and far away", "it rains"]
REFERENCES = ["the cat sat on a mat", "yes of course", "a dog ran over the hill and far", "it rains a lot now"]


def _values(measurements: list[Measurement]) -> dict[str, float]:
    return {m.metric: float(RULES[m.metric].statistic(m.sums.sum(axis=0)[None])[0]) for m in measurements}


def test_kl_is_a_mean_over_tokens_not_over_answers() -> None:
    answers = [AnswerFacts("a b", 10, True, 5.0), AnswerFacts("c", 2, False, 4.0)]
    found = _values(measure_answers(Who("deft", "deft"), answers, [0, 1], 48))
    assert found["kl"] == pytest.approx(9 / (10 + 1 + 2))  # with the end token of the first
    assert found["length"] == 6
    assert found["ended"] == 0.5


def test_bleu_of_summed_counts_is_sacrebleu_of_the_corpus() -> None:
    sums = np.array([bleu_counts(a, r) for a, r in zip(ANSWERS, REFERENCES, strict=True)])
    for picked in ([0, 1, 2, 3], [0, 2, 2], [0, 3], [1, 3], [1, 2]):
        expected = BLEU().corpus_score([ANSWERS[i] for i in picked], [[REFERENCES[i] for i in picked]]).score
        assert bleu_score(sums[picked].sum(axis=0)[None])[0] == pytest.approx(expected, abs=1e-9), picked


def test_bleu_of_nothing_is_zero() -> None:
    assert bleu_score(np.array([bleu_counts("", "some words here")]))[0] == 0.0
    assert bleu_score(np.zeros((2, 10))).tolist() == [0.0, 0.0]


def test_bleu_signature_names_tokenizer_and_version() -> None:
    assert "tok:13a" in bleu_signature()
    assert "version:" in bleu_signature()


def test_entropy_is_a_mean_over_tokens_and_absent_where_it_was_not_asked_for() -> None:
    answers = [AnswerFacts("a b", 10, True, None, 22.0), AnswerFacts("c", 2, False, None, 4.0)]
    found = measure_answers(Who("deft", "deft"), answers, [0, 1], 48)
    assert _values(found)["entropy"] == pytest.approx(26 / 13)
    assert "kl" not in _values(found)
    without = measure_answers(Who("deft", "deft"), [AnswerFacts("a b", 10, True)], [0], 48)
    assert {"entropy", "kl"} & set(_values(without)) == set()


def test_distinct_words_count_within_answers() -> None:
    answers = [AnswerFacts(text, 1, True) for text in ("No no no no", "yes", "")]
    found = _values(measure_answers(Who("deft", "deft"), answers, [0, 1, 2], 48))
    assert found["distinct_1"] == pytest.approx((1 + 1) / (4 + 1))
    assert found["distinct_2"] == pytest.approx(1 / 3)


def test_an_answer_to_another_prompt_too_is_repeated_and_one_to_the_same_prompt_is_not() -> None:
    texts = ["I cannot help.", "i  cannot\nHELP.", "sampled twice", "sampled twice", "", "", "alone"]
    answers = [AnswerFacts(text, 1, True) for text in texts]
    found = measure_answers(Who("deft", "deft"), answers, [0, 1, 2, 2, 3, 4, 5], 48)
    assert _values(found)["repeated"] == pytest.approx(4 / 7)
    (own,) = (each for each in found if each.metric == "repeated")
    assert own.sums.tolist() == [[1, 1], [1, 1], [0, 2], [1, 1], [1, 1], [0, 1]]
    assert (own.bounds, own.n) == ((0.0, 1.0), 7)


@pytest.mark.parametrize(("said", "share"), [([" ", ""], 1.0), ([" ", "one", "", "two"], 0.5), (["", "one"], 0.0)])
def test_answers_that_say_nothing_say_the_same(said: list[str], share: float) -> None:
    answers = [AnswerFacts(text, len(text), True) for text in said]
    assert _values(measure_answers(Who("deft", "deft"), answers, range(len(said)), 48))["repeated"] == share


def test_an_answer_in_which_nothing_shows_is_silent() -> None:
    answers = [
        AnswerFacts(text, len(text), True)
        for text in ("", " \n\t", "\u200b\u3000\x00\u2800\u3164\u0301\ufe0f", ".", "\u2713", " y ")
    ]
    (own,) = (m for m in measure_answers(Who("x", "x"), answers, [0, 0, 1, 1, 2, 3], 48) if m.metric == "silent")
    assert own.sums.tolist() == [[2, 2], [1, 2], [0, 1], [0, 1]]
    assert (own.bounds, own.n) == ((0.0, 1.0), 6)


def test_character_bleu_is_a_mean_over_answers_in_hundreds() -> None:
    found = _values(measure_against_references(Who("x", "x"), ["abcd", "zzzz"], ["abcd", "abcd"], [0, 1]))
    assert found["bleu_char_pro"] == pytest.approx(50)


def test_answers_know_their_rows() -> None:
    found = measure_against_references(Who("x", "x"), ["abcd", "zzzz", "ab"], ["abcd"] * 3, ["p", "p", "q"])
    for measurement in found:
        assert measurement.by_row is not None
        assert measurement.by_row.columns.sum(axis=0).tolist() == measurement.sums.sum(axis=0).tolist()
        assert measurement.sums.shape[0] == 2
