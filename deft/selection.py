"""M6, pure: which of the scored examples are kept, and in which order they would be. Torch-free.

Nothing here is stored or read. Ranks are 1-based, 1 is the first to be kept; ties go to the lower row number, so that
equal inputs give equal subsets on every machine.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from deft.errors import Finding, InvalidInput
from deft.specs import Selection

AUTO_FRACTION = 0.05
AUTO_EXAMPLES = 1_000
AUTO_STEPS = 100


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """R_d (nats) of one example: of the chosen response, and the mean over the rejected ones (None: not scored).

    *chosen_tokens* is the number of response tokens of the chosen one, after truncation.
    """

    row: int
    chosen: float
    rejected: float | None
    chosen_tokens: int


@dataclass(frozen=True, slots=True)
class Selected:
    """The outcome, in the order of the scored rows: *ranks* from 1, which are *kept*, how many and why that many.

    *cut_value* is what the last kept row was ranked by (R_d, margin or tokens), None for the random end.
    """

    ranks: list[int]
    kept: list[bool]
    count: int
    reason: str
    cut_value: float | None


def kept_count(fraction: float, examples: int) -> int:
    """Return k = ceil(f * E) of M6, by the decimal text of f: 7 % of 100 is 7, which binary doubles make 8."""
    return int((Decimal(repr(float(fraction))) * examples).to_integral_value(ROUND_CEILING))


def resolve_keep(keep: float | str, examples: int, batch_size: int = 8, epochs: int = 1) -> tuple[int, str]:
    """Return how many of *examples* `keep` comes to, and the reason in words.

    `auto` is the largest of 5 %, 1,000 examples and what 100 optimiser steps need, at most everything. A fraction is
    done as asked.

    Args:
        keep: a fraction in (0, 1], or `auto`.
        examples: how many were scored.
        batch_size: examples of one optimiser step.
        epochs: passes over the kept examples.
    """
    if not isinstance(keep, str):
        count = min(kept_count(keep, examples), examples)
        return count, f"{Decimal(repr(float(keep))):f} of {examples:,} examples, rounded up"
    candidates = {
        f"5 % of {examples:,} examples": kept_count(AUTO_FRACTION, examples),
        f"{AUTO_EXAMPLES:,} examples": AUTO_EXAMPLES,
        f"{AUTO_STEPS} optimiser steps of {batch_size} in {epochs} epochs": math.ceil(AUTO_STEPS * batch_size / epochs),
    }
    reason, count = max(candidates.items(), key=lambda item: item[1])
    if count >= examples:
        return examples, f"auto: all {examples:,} examples, since {reason} would be {count:,}"
    return count, f"auto: {reason} is the largest of 5 %, {AUTO_EXAMPLES:,} examples and {AUTO_STEPS} steps"


def select(rows: Sequence[ScoredRow], selection: Selection, count: int | None = None) -> Selected:
    """Rank *rows* and keep the first k of them (M6).

    *count* stands before `selection.count`, that before `selection.keep`; k is at most the number of rows.

    Raises:
        InvalidInput: no rows; an R_d that is not finite; `by` needs the rejected responses and one is not scored.
    """
    if not rows:
        raise InvalidInput("Nothing was scored, so nothing can be selected.", code="no_rows")
    asked = count if count is not None else selection.count
    if asked is None:
        size, reason = resolve_keep(selection.keep, len(rows))
    else:
        size, reason = min(asked, len(rows)), f"a count of {asked:,} was asked for"
    order = sorted(range(len(rows)), key=_order_key(rows, selection))
    ranks = [0] * len(rows)
    for rank, index in enumerate(order, start=1):
        ranks[index] = rank
    cut = None if selection.end == "random" else _value(rows[order[size - 1]], selection)
    return Selected(ranks, [rank <= size for rank in ranks], size, reason, cut)


def _order_key(rows: Sequence[ScoredRow], selection: Selection) -> Callable[[int], tuple[float | bytes, int]]:
    if selection.end == "random":
        return lambda index: (_draw(selection.seed, rows[index].row), rows[index].row)
    sign = 1.0 if selection.end == "lowest" else -1.0
    values = [sign * _value(row, selection) for row in rows]
    return lambda index: (values[index], rows[index].row)


def _draw(seed: int, row: int) -> bytes:
    """Return the place of *row* in the draw of *seed*: a hash, so the same in every Python and on every machine."""
    return hashlib.sha256(f"deft selection {seed} {row}".encode()).digest()


def _value(row: ScoredRow, selection: Selection) -> float:
    """Return what *row* is ranked by."""
    if selection.end == "length":
        return float(row.chosen_tokens)
    if selection.by == "chosen":
        return _finite(row.chosen, row.row)
    if row.rejected is None:
        finding = Finding(
            "rejected_not_scored",
            f"row {row.row} without R_d of a rejected response",
            "R_d of chosen and rejected responses",
            "select by chosen, or score the dataset again",
            pointer="/selection/by",
        )
        raise InvalidInput("The rejected responses were not scored.", code="rejected_not_scored", findings=[finding])
    rejected = _finite(row.rejected, row.row)
    return rejected if selection.by == "rejected" else _finite(row.chosen, row.row) - rejected


def _finite(value: float, row: int) -> float:
    if not math.isfinite(value):
        raise InvalidInput(f"R_d of row {row} is not a finite number; score the dataset again.", code="not_finite")
    return value
