"""A measured value, one value less another, and the interval of that from two intervals. Pure numbers.

The interval of two values that were not measured together is made of theirs (MOVER: Zou and Donner 2008, doi
10.1002/sim.3095), as if they were independent. Answers to the same prompts go up and down together, so it is rather
too long.
"""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Value:
    """A measured *value* with its 95 % interval; None: not known. *may_decide*: neither trained on nor invalid."""

    value: float
    low: float | None
    high: float | None
    n: int | None = None
    may_decide: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """One value less another, with its 95 % interval; *is_paired*: over the same prompts, resampled together.

    *has_luck*: the interval knows what chance in a training run does, from arms with several draws. *minus*: the
    systems of the other value. *prompts* is how many it is over, where that is on record. *p* is that of no difference,
    by permutation, and *effect_size* in standard deviations of prompts; None: not paired, or not on record.
    """

    value: float
    low: float | None
    high: float | None
    is_paired: bool
    may_decide: bool = True
    has_luck: bool = False
    minus: tuple[str, ...] = ()
    prompts: int | None = None
    p: float | None = None
    effect_size: float | None = None


def less(mine: Value, theirs: Value) -> Change:
    """Return *mine* less *theirs* with the interval that their own intervals make, as if they were independent."""
    value, decides = mine.value - theirs.value, mine.may_decide and theirs.may_decide
    ends = (mine.low, mine.high, theirs.low, theirs.high)
    if any(end is None for end in ends):
        return Change(value, None, None, is_paired=False, may_decide=decides)
    low, high, their_low, their_high = (float(end) for end in ends if end is not None)
    down = math.hypot(mine.value - low, their_high - theirs.value)
    up = math.hypot(high - mine.value, theirs.value - their_low)
    return Change(value, value - down, value + up, is_paired=False, may_decide=decides)


def turned(change: Change) -> Change:
    """Return *change* from the other side."""
    low = None if change.high is None else -change.high
    high = None if change.low is None else -change.low
    size = None if change.effect_size is None else -change.effect_size
    return replace(change, value=-change.value, low=low, high=high, effect_size=size)
