"""M6, pure: which of the scored examples are kept, and in which order they would be. Torch-free.

Nothing here is stored or read. Ranks are 1-based, 1 is the first to be kept; ties go to the lower row number, so that
equal inputs give equal subsets on every machine.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

from deft.errors import Finding, InvalidInput, shown
from deft.specs import Quota, Selection

AUTO_FRACTION = 0.05
AUTO_EXAMPLES = 1_000
AUTO_STEPS = 100


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """R_d (nats) of one example: of the chosen response, and the mean over the rejected ones (None: not scored).

    *chosen_tokens* is the number of response tokens of the chosen one, after truncation; *source* the user's own.
    """

    row: int
    chosen: float
    rejected: float | None
    chosen_tokens: int
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Selected:
    """The outcome, in the order of the scored rows: *ranks* from 1, which are *kept*, how many and why that many.

    *cut_value* is what the last kept row was ranked by (R_d, margin, residual or tokens), None for the random end.
    *length_slope* is what `length_adjusted` took out, in nats a token. With a quota the kept rows are the first of
    each source, so that others may stand between them.
    """

    ranks: list[int]
    kept: list[bool]
    count: int
    reason: str
    cut_value: float | None
    length_slope: float | None = None


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
    """Rank *rows* and keep the first k of them (M6), of each source as many as the quota gives it.

    *count* stands before `selection.count`, that before `selection.keep`; k is at most the number of rows.

    Raises:
        InvalidInput: no rows; an R_d that is not finite; `by` needs the rejected responses and one is not scored; the
            quota names no source of the rows.
    """
    if not rows:
        raise InvalidInput("Nothing was scored, so nothing can be selected.", code="no_rows")
    asked = count if count is not None else selection.count
    if asked is None:
        size, reason = resolve_keep(selection.keep, len(rows))
    else:
        size, reason = min(asked, len(rows)), f"a count of {asked:,} was asked for"
    values, slope = _values(rows, selection)
    order = sorted(range(len(rows)), key=_order_key(rows, values, selection))
    first, told = _first_of_each([rows[index].source for index in order], selection.quota, size)
    kept = [order[place] for place in first]
    ranks = [0] * len(rows)
    for rank, index in enumerate(order, start=1):
        ranks[index] = rank
    cut = None if selection.end == "random" else values[kept[-1]]
    is_kept = set(kept)
    return Selected(ranks, [index in is_kept for index in range(len(rows))], len(kept), reason + told, cut, slope)


def _order_key(
    rows: Sequence[ScoredRow], values: Sequence[float], selection: Selection
) -> Callable[[int], tuple[float | bytes, int]]:
    if selection.end == "random":
        return lambda index: (_draw(selection.seed, rows[index].row), rows[index].row)
    sign = 1.0 if selection.end == "lowest" else -1.0
    return lambda index: (sign * values[index], rows[index].row)


def _draw(seed: int, row: int) -> bytes:
    """Return the place of *row* in the draw of *seed*: a hash, so the same in every Python and on every machine."""
    return hashlib.sha256(f"deft selection {seed} {row}".encode()).digest()


def _values(rows: Sequence[ScoredRow], selection: Selection) -> tuple[list[float], float | None]:
    """Return what *rows* are ranked by, and the slope over length where it was taken out."""
    if selection.end in ("length", "random"):
        return [float(row.chosen_tokens) for row in rows], None
    if selection.by == "length_adjusted":
        r_d = [_finite(row.chosen, row.row) for row in rows]
        slope, intercept = _line([row.chosen_tokens for row in rows], r_d)
        return [value - (intercept + slope * row.chosen_tokens) for row, value in zip(rows, r_d, strict=True)], slope
    return [_value(row, selection.by) for row in rows], None


def _value(row: ScoredRow, by: str) -> float:
    if by == "chosen":
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
    return rejected if by == "rejected" else _finite(row.chosen, row.row) - rejected


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line of *y* over *x*; slope 0 where all x are equal."""
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    spread = math.fsum((value - mean_x) ** 2 for value in x)
    shared = math.fsum((own - mean_x) * (value - mean_y) for own, value in zip(x, y, strict=True))
    slope = shared / spread if spread else 0.0
    return slope, mean_y - slope * mean_x


def _finite(value: float, row: int) -> float:
    if not math.isfinite(value):
        raise InvalidInput(f"R_d of row {row} is not a finite number; score the dataset again.", code="not_finite")
    return value


def _first_of_each(sources: Sequence[str | None], quota: Quota, size: int) -> tuple[list[int], str]:
    """Return which places of the ordered *sources* are kept, and in words how many of each source that is."""
    if quota == "none":
        return list(range(size)), ""
    names = [source or "" for source in sources]
    left = allotted(size, quota, Counter(names))
    told = ", ".join(f"{shown(name) or '(no source)'} {number:,}" for name, number in sorted(left.items()))
    places = []
    for place, name in enumerate(names):
        if left[name]:
            left[name] -= 1
            places.append(place)
    return places, f"; by source: {told}"


def allotted(size: int, quota: Quota, available: Mapping[str, int]) -> dict[str, int]:
    """Return how many of *size* examples each source gives ("" for rows without one): by shares, largest remainder.

    A source that has too few gives all of them, and the others share what is left.

    Raises:
        InvalidInput: the shares name a source that no row has.
    """
    shares = _shares(quota, available)
    found = dict.fromkeys(available, 0)
    open_sources = sorted(shares)
    while open_sources and sum(found.values()) < size:
        total = sum(shares[name] for name in open_sources)
        free = size - sum(found[name] for name in found if name not in open_sources)
        exact = {name: free * shares[name] / total for name in open_sources}
        full = [name for name in open_sources if exact[name] >= available[name]]
        if not full:
            return found | _rounded(exact, free)
        found |= {name: available[name] for name in full}
        open_sources = [name for name in open_sources if name not in full]
    return found


def _shares(quota: Quota, available: Mapping[str, int]) -> dict[str, Fraction]:
    if quota == "proportional":
        return {name: Fraction(number) for name, number in available.items()}
    if quota == "equal":
        return dict.fromkeys(available, Fraction(1))
    assert not isinstance(quota, str)  # noqa: S101 -- the names are dealt with
    require_sources(quota, available)
    return {name: Fraction(Decimal(repr(float(share)))) for name, share in quota.items()}


def require_sources(quota: Mapping[str, float], available: Collection[str]) -> None:
    """Check that every source in the shares *quota* is one of those *available* ("": rows without one).

    Raises:
        InvalidInput: the shares name a source that no row has.
    """
    unknown = sorted(set(quota) - set(available))
    if not unknown:
        return
    known = ", ".join(f"`{shown(name)}`" for name in sorted(available))
    finding = Finding(
        "unknown_source",
        shown(", ".join(name or "the empty name" for name in unknown)),
        f"sources of the rows: {known}",
        "name those",
        "/selection/quota",
    )
    raise InvalidInput("The quota names a source that no scored row has.", code=finding.code, findings=[finding])


def _rounded(exact: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Round *exact* numbers that sum to *total* so that they still do: down, then up where the remainder is largest."""
    found = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in by_remainder[: total - sum(found.values())]:
        found[name] += 1
    return found
