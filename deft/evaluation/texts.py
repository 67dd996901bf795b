"""Numbers of texts alone: character BLEU as PRO's evaluation computes it, how many words and texts repeat. Pure.

It must not know models, tokenizers, systems or intervals.
"""

import math
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

ORDERS = 4

BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Fillers of Hangul and the empty cell of Braille: by their category letters and symbols, and nothing shows."""


def character_bleu(answer: str, reference: str) -> float:
    """Return, 0 to 1, what NLTK 3.8.1's `sentence_bleu([reference], answer)` gives for strings: n-grams of characters.

    Uniform weights over 1- to 4-grams, no smoothing: an order without a match counts as the smallest float, so that the
    score is next to 0. Both ends are stripped first. This is the BLEU of the tables of PRO (arXiv 2306.17492), about
    four times that of words: never mix them.
    """
    hypothesis, expected = answer.strip(), reference.strip()
    matched = [_matches(hypothesis, expected, order) for order in range(1, ORDERS + 1)]
    if matched[0] == 0:
        return 0.0
    totals = [max(1, len(hypothesis) - order + 1) for order in range(1, ORDERS + 1)]
    logs = [math.log(m / t) if m else math.log(sys.float_info.min) for m, t in zip(matched, totals, strict=True)]
    return _brevity(len(hypothesis), len(expected)) * math.exp(math.fsum(logs) / ORDERS)


def _matches(hypothesis: str, reference: str, order: int) -> int:
    """Return how many n-grams of *hypothesis* are in *reference*, each at most as often as there."""
    return (Counter(n_grams(hypothesis, order)) & Counter(n_grams(reference, order))).total()


def _brevity(length: int, reference: int) -> float:
    return 1.0 if length > reference else math.exp(1 - reference / length)


def n_grams(sequence: Sequence[str], order: int) -> list[tuple[str, ...]]:
    """Return the n-grams of *sequence* in order."""
    return [tuple(sequence[start : start + order]) for start in range(len(sequence) - order + 1)]


def distinct_counts(text: str, order: int) -> tuple[int, int]:
    """Return how many different word n-grams *text* has, and how many in all; words by white space, case folded.

    Their ratio, over all answers, is distinct-n within answers (after arXiv 1510.03055, which pools the n-grams of all
    answers: pooled counts are no sums over prompts, and have no honest interval).
    """
    found = n_grams(text.casefold().split(), order)
    return len(set(found)), len(found)


def is_silent(text: str) -> bool:
    """Whether *text* says nothing: it has no letter, number, sign or symbol, or none that shows."""
    return not any(unicodedata.category(each)[0] in "LNPS" and each not in BLANKS for each in text)


def are_repeated(texts: Sequence[str], prompts: Sequence[Hashable]) -> list[bool]:
    """Return of each of *texts* [n] whether it was said to another of their *prompts* [n] too.

    Word for word, white space and case folded; several texts to one prompt repeat nothing of each other. To say nothing
    is to say the same. The share that is repeated can only grow with the number of prompts.
    """
    said = [" ".join(text.casefold().split()) for text in texts]
    prompts_of: defaultdict[str, set[Hashable]] = defaultdict(set)
    for text, prompt in zip(said, prompts, strict=True):
        prompts_of[text].add(prompt)
    return [len(prompts_of[text]) > 1 for text in said]
