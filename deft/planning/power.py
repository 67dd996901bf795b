"""What a comparison will be able to see, before any answer is known. Standard library only."""

import math
from statistics import NormalDist

LEVEL = 0.95
POWER = 0.80
UNSEEN = 0.6
"""Prompts that intervals of shares take as seen at either end of the range.

A little more than Jeffreys' half, which held the truth in 94.1 % of cases where 5 to 25 % of 64 pairs differ.
"""
TWO_SIDED = NormalDist().inv_cdf(0.5 + LEVEL / 2)
_MULTIPLE = TWO_SIDED + NormalDist().inv_cdf(POWER)


def detectable(standard_error: float) -> float:
    """Return the true difference that is found in 80 % of repetitions at 5 %, two-sided, for one comparison.

    (z(0.975) + z(0.80)) = 2.80 times the standard error: normal approximation.
    """
    return _MULTIPLE * standard_error


def detectable_beyond(critical: float) -> float:
    """Return the true difference that is found in 80 % of repetitions where one seen has to be *critical* from 0.

    2.80 / 1.96 = 1.43 times as far, as if normal. With few draws that tell of luck, *critical* is another one in each
    repetition: one draw of one arm found 0.7 of such differences against three of the other (docs/diary.md).
    """
    return _MULTIPLE / TWO_SIDED * critical


def share_standard_error(disagreement: float, prompts: int) -> float:
    """Return the standard error expected of the difference of two shares over the same *prompts*, when it is 0.

    *disagreement* is the share of prompts on which the two differ. As in `deft.evaluation.confidence`, `UNSEEN` prompts
    are taken as seen at either bound.
    """
    more = 2 * UNSEEN
    return math.sqrt((prompts * disagreement + more) / (prompts + more) / (prompts + more + 1))


def unchanged_bound(prompts: int) -> float:
    """Return the upper end of the 95 % interval of an increase of a share that none of so many *prompts* shows.

    1 - 0.025 ** (1 / prompts): so large a share of prompts may have got worse unseen (the exact limit, Clopper and
    Pearson, as in `deft.evaluation.intervals`). Repeats of a prompt do not count.
    """
    return float(1 - ((1 - LEVEL) / 2) ** (1 / prompts))


def prompts_for(limit: float) -> int | None:
    """Return the fewest prompts whose `unchanged_bound` is at most *limit*; None: no number of them is enough."""
    if limit <= 0:
        return None
    if limit >= 1:
        return 1
    return math.ceil(round(math.log((1 - LEVEL) / 2) / math.log(1 - limit), 9))
