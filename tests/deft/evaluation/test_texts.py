"""Numbers of texts, by hand, and as NLTK gives them."""

import math

import pytest

from deft.evaluation.texts import character_bleu, distinct_counts


def test_character_bleu_by_hand() -> None:
    assert character_bleu("abcd", "abcd") == pytest.approx(1)
    # 4 of 5 characters, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; as long as the reference
    assert character_bleu("abcde", "abcdf") == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert character_bleu("abcd", "abcdabcd") == pytest.approx(math.exp(1 - 8 / 4)), "too short"
    # clipped: "a" is twice in the reference, "ab" once
    clipped = character_bleu("ababab", "abcab")
    assert clipped == pytest.approx(((2 + 2) / 6 * (2 + 0) / 5) ** 0.25 * math.sqrt(2.2250738585072014e-308))


def test_without_smoothing_an_order_without_a_match_makes_almost_nothing() -> None:
    assert 0 < character_bleu("abxcd", "abycd") < 1e-60
    assert character_bleu("zzz", "abc") == 0
    assert character_bleu("", "abc") == 0
    assert character_bleu("abc", "") == 0


NLTK = {
    ("the cat sat on the mat today", "the cat sat on a mat"): 0.6060655437708256,
    ("a dog ran over the hill", "a dog runs over hills and far away"): 0.39362930651093847,
    ("no", "yes of course"): 6.26081936965949e-234,
}
"""What `nltk.translate.bleu_score.sentence_bleu([reference], answer)` of NLTK 3.10.4 gave for (answer, reference)."""


def test_character_bleu_is_that_of_nltk_for_strings() -> None:
    for (answer, reference), expected in NLTK.items():
        assert character_bleu(answer, reference) == pytest.approx(expected, rel=1e-12)


def test_ends_are_stripped() -> None:
    assert character_bleu("  abcd ", "abcd\n") == pytest.approx(1)


def test_distinct_counts_are_of_words() -> None:
    assert distinct_counts("The cat the  CAT the dog", 1) == (3, 6)
    assert distinct_counts("the cat the cat", 2) == (2, 3)
    assert distinct_counts("one", 2) == (0, 0)
