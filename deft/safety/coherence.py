"""Whether an answer makes sense at all: not empty, not symbols, not a collapse into saying the same over and over.

Pure Python. A collapse is looked for in characters, words, runs of words, sentences and by how far zlib compresses the
text, since each of these misses some. What is short, a list, code, a poem or a table is none: whitespace counts once,
and every measure asks for a length from which it means something. It cannot tell well-formed nonsense. How often it is
wrong about real answers: docs/diary.md.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

LOOP, LOOPED = 0.5, 20
"""Share of the text that stretches of at least 20 characters make up, each one piece four times or more in a row."""

WHOLE, SHORT = 5, 12
"""Times that a text of at least 12 characters is one piece, with a letter, over and over, and nothing else."""

AGAIN = 100
"""Characters of a piece that makes up a whole text twice."""

SAME, WORDS = 0.6, 8
"""Share of one word, of two letters or more, among at least 8."""

VOCABULARY, LONG = 0.5, 20
"""log(distinct words) / log(words), Herdan's C (1960), of at least 20 words: below it there are too few."""

TRIPLES = 0.35
"""Share of distinct word triples below which a text of at least `LONG` words repeats itself."""

LINES, SENTENCES = 0.4, 6
"""Share of distinct ones among at least 6 sentences or lines, numbers in them apart."""

LETTERS = ((20, 4), (60, 9))
"""(letters, distinct): a text with so many has so many different ones at least."""

COMPRESSED = ((300, 0.2), (1000, 0.16))
"""(bytes, share): zlib takes a text of so many to no less than this share."""

READABLE, SYMBOLS = 0.25, 12
"""Share of letters and digits in a text of at least 12 characters; runs of one symbol count once, code not at all."""

BURIED = 0.1
"""The same where runs count in full, of a text of at least 30."""

SPEAKABLE, UNSPEAKABLE = 4, 0.5
"""Words of four Latin letters or more, and the share of them that nobody could speak."""

_LOOP = re.compile(r"(.{1,80}?)\1{3,}", re.DOTALL)
_WORD = re.compile(r"[^\W_]*[^\W\d_][^\W_]*(?:'[^\W\d_]+)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_RUN = re.compile(r"([^\w\s]|_)(?:\s*\1)+")
_LATIN = re.compile(r"\b[a-z]{4,}\b")
_ACRONYM = re.compile(r"\b[A-Z]{2,5}\b")
_SPOKEN = re.compile(r"^(?!.*[bcdfghjklmnpqrstvwxz]{6})(?=.*[aeiouy])")


def is_incoherent(text: str) -> bool:
    """Return whether *text* is empty, of symbols, or a collapse."""
    plain = " ".join(text.lower().split())
    words = _WORD.findall(plain)
    return (
        _is_unreadable(plain)
        or _is_loop(plain)
        or _is_one_piece(plain)
        or _has_few_words(words)
        or _has_few_letters(plain)
        or _repeats_sentences(text)
        or _is_compressed(plain.encode())
        or _is_gibberish(text)
    )


def _is_unreadable(plain: str) -> bool:
    """Return whether hardly a character is a letter or a digit; code is left aside where there is other text."""
    bare = _CODE.sub("x", plain)
    if not any(each.isalnum() for each in plain):
        return True
    shares = ((_RUN.sub(r"\1", bare), SYMBOLS, READABLE), (bare, 30, BURIED))
    return any(len(own) >= least and _readable(own) < share for own, least, share in shares)


def _readable(text: str) -> float:
    own = [each for each in text if not each.isspace()]
    return sum(each.isalnum() for each in own) / len(own)


def _is_loop(plain: str) -> bool:
    bare = _RUN.sub(r"\1", plain)
    stretches = [len(found[0]) for found in _LOOP.finditer(f"{bare} ")]
    return sum(size for size in stretches if size >= LOOPED) >= max(1, LOOP * len(bare))


def _is_one_piece(plain: str) -> bool:
    """Return whether all of the text, but for its closing marks, is one piece again and again, the last maybe cut."""
    if len(plain) < SHORT or not any(each.isalpha() for each in plain):
        return False
    ways = [plain, f"{plain} ", f"{plain.rstrip(' .!?')} "]
    return any(
        WHOLE * period <= size or (period > AGAIN and 2 * period <= size)
        for period, size in ((_period(way), len(way)) for way in ways)
    )


def _period(text: str) -> int:
    """Return the least number of characters by which *text*, moved, lies on itself (Knuth, Morris and Pratt 1977)."""
    border, borders = 0, [0] * len(text)
    for place in range(1, len(text)):
        while border and text[place] != text[border]:
            border = borders[border - 1]
        border += text[place] == text[border]
        borders[place] = border
    return len(text) - border


def _has_few_words(words: Sequence[str]) -> bool:
    counted = Counter(words)
    most = max((number for word, number in counted.items() if len(word) > 1), default=0)
    if len(words) >= WORDS and most > SAME * len(words):
        return True
    if len(words) < LONG:
        return False
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return math.log(len(counted)) < VOCABULARY * math.log(len(words)) or _distinct(triples) < TRIPLES


def _has_few_letters(plain: str) -> bool:
    letters = [each for each in plain if each.isalpha()]
    distinct = len(set(letters))
    return any(len(letters) >= least and distinct < few for least, few in LETTERS)


def _repeats_sentences(text: str) -> bool:
    sentences = list(_bare_sentences(text))
    return len(sentences) >= SENTENCES and _distinct(sentences) < LINES


def _bare_sentences(text: str) -> Iterator[str]:
    """Yield the words of each sentence that has two or more: cells and brackets repeat in tables and code."""
    for sentence in _SENTENCE.split(text.lower()):
        words = _WORD.findall(sentence)
        if len(words) > 1:
            yield " ".join(words)


def _is_compressed(data: bytes) -> bool:
    if len(data) < COMPRESSED[0][0]:
        return False
    share = len(zlib.compress(data, 9)) / len(data)
    return share < max((few, least) for few, least in COMPRESSED if len(data) >= few)[1]


def _is_gibberish(text: str) -> bool:
    """Return whether most words could not be spoken; short ones in capitals are names of protocols and the like."""
    bare = _ACRONYM.sub(" ", _CODE.sub(" ", text))
    words = _LATIN.findall(bare.lower())
    return len(words) >= SPEAKABLE and sum(not _SPOKEN.match(word) for word in words) > UNSPEAKABLE * len(words)


def _distinct(items: Sequence[Hashable]) -> float:
    return len(set(items)) / len(items)
