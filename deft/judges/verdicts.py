"""A judge's reply read: a verdict or a score, or None where it holds none that is sure. Pure Python.

Nothing is guessed: a reply that names two different verdicts, or none, is a parse failure, and is counted as one.
Reading takes time in proportion to the reply, whatever is in it: what may stand before a word at the beginning of a
line does not reach over the end of a line, so that no line is gone through again from each of those above it.
"""

import re
from typing import Literal

Verdict = Literal["A", "B", "tie"]

_VERDICT = re.compile(r"^[^\w\n]*verdict\W*(a|b|tie)\W*$", re.IGNORECASE | re.MULTILINE)
_MENTION = re.compile(r"\bverdict\W*(a|b|tie)\W*$", re.IGNORECASE | re.MULTILINE)
"""A verdict at the end of a line that says more: too unsure to count, but another one beside it makes none sure."""

_SCORE = re.compile(r"^[^\w\n]*score\W*(\d{1,2}(?:\.\d+)?)(?:\s*/\s*10)?\W*$", re.IGNORECASE | re.MULTILINE)
_BRACKETS = re.compile(r"\[\[\s*([A-Ca-c]|tie|\d{1,2}(?:\.\d+)?)\s*\]\]")
"""How judges that were trained on MT-Bench's templates answer, whatever they are asked."""

_VERDICTS: dict[str, Verdict] = {"a": "A", "b": "B", "tie": "tie", "c": "tie"}


def verdict_of(reply: str) -> Verdict | None:
    """Return the one verdict that *reply* names."""
    sure = {_VERDICTS[found.lower()] for found in _named(reply, _VERDICT) if found.lower() in _VERDICTS}
    mentioned = [*_MENTION.findall(reply), *_BRACKETS.findall(reply)]
    named = sure | {_VERDICTS[found.lower()] for found in mentioned if found.lower() in _VERDICTS}
    return sure.pop() if len(sure) == len(named) == 1 else None


def score_of(reply: str) -> float | None:
    """Return the one score from 1 to 10 that *reply* names."""
    named = {float(found) for found in _named(reply, _SCORE) if found[0].isdigit()}
    score = named.pop() if len(named) == 1 else 0.0
    return score if 1 <= score <= 10 else None


def _named(reply: str, lines: re.Pattern[str]) -> list[str]:
    return lines.findall(reply) or _BRACKETS.findall(reply)
