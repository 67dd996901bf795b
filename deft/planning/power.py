"""The smallest difference that a comparison can see, before any answer is known. Standard library only."""

import math
from statistics import NormalDist

LEVEL = 0.95
POWER = 0.80
UNSEEN = 0.6
"""Prompts that intervals of shares take as seen at either end of the range.

A little more than Jeffreys' half, which held the truth in 94.1 % of cases where 5 to 25 % of 64 pairs differ.
"""
_MULTIPLE = NormalDist().inv_cdf(0.5 + LEVEL / 2) + NormalDist().inv_cdf(POWER)


def detectable(standard_error: float) -> float:
    """Return the true difference that is found in 80 % of repetitions at 5 %, two-sided, for one comparison.

    (z(0.975) + z(0.80)) = 2.80 times the standard error: normal approximation.
    """
    return _MULTIPLE * standard_error


def share_standard_error(disagreement: float, prompts: int) -> float:
    """Return the standard error expected of the difference of two shares over the same *prompts*, when it is 0.

    *disagreement* is the share of prompts on which the two differ. As in `deft.evaluation.confidence`, `UNSEEN` prompts
    are taken as seen at either bound.
    """
    more = 2 * UNSEEN
    return math.sqrt((prompts * disagreement + more) / (prompts + more) / (prompts + more + 1))
