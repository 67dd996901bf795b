"""From numbers to places on a chart: linear and logarithmic scales, their ticks, and how numbers are written. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from *low* to *high* to places from *start* to *end*; values beyond are put at the ends."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the place of *value*."""
        low, high, own = (self._measured(each) for each in (self.low, self.high, value))
        share = 0.5 if high == low else min(1.0, max(0.0, (own - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return about five round values within the scale."""
        return powers(self.low, self.high) if self.is_log else rounds(self.low, self.high)

    def _measured(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.is_log else value


def around(values: Iterable[float | None], start: float, end: float, *, is_log: bool = False) -> Scale:
    """Return a scale that holds all *values* with a little room."""
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if is_log:
        return Scale(max(low, 1e-9) / 1.3, max(high, 1e-9) * 1.3, start, end, is_log=True)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(low - room, high + room, start, end)


def rounds(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten from *low* to *high*, about *wanted* of them."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(multiple * unit for multiple in (1, 2, 5, 10) if multiple * unit >= raw)
    return [round(n * step, 12) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from *low* to *high*."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found = [multiple * 10.0**power for power in range(first, last + 1) for multiple in (1, 2, 5)]
    return [value for value in found if low <= value <= high]


def number(value: float | None, *, is_signed: bool = False) -> str:
    """Return *value* with as many digits as its size makes sensible; a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    value = 0.0 if abs(value) < ROUNDING else value
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    if 0 < size < 0.001:
        return f"{value:+.1e}" if is_signed else f"{value:.1e}"
    return f"{value:+,.{digits}f}" if is_signed else f"{value:,.{digits}f}"


def tick(value: float) -> str:
    """Return the label of a tick."""
    return f"{value:,.10g}"
