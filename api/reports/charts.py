"""Charts as inline SVG: intervals, cost against quality, a histogram with its cut, curves. Numbers in, markup out.

No script and no style of its own: classes are coloured by the page. Every chart has a title for who cannot see it.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from api.reports.scales import Scale, around, number, tick

WIDTH = 760
ROW = 26
LABELS = 190
VALUES = 195
TOP, BOTTOM, LEFT, RIGHT = 14, 44, 64, 20
COLOURS = 8
"""How many series colours the page's style has; further series begin again."""


class Interval(NamedTuple):
    """A value with its 95 % interval, and its name."""

    label: str
    value: float
    low: float | None
    high: float | None


class Point(NamedTuple):
    """A value at x with its 95 % interval, and its name."""

    label: str
    x: float
    value: float
    low: float | None
    high: float | None


class Curve(NamedTuple):
    """A named line."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def intervals(title: str, rows: Sequence[Interval], *, zero: float | None = None, is_signed: bool = False) -> Markup:
    """Return a row an interval: its name, the interval, the numbers; *zero* is drawn as a line."""
    if not rows:
        return Markup()
    height = TOP + ROW * len(rows) + BOTTOM
    ends = [end for row in rows for end in (row.value, row.low, row.high)]
    scale = around([*ends, zero], LABELS, WIDTH - VALUES)
    parts = _bottom_axis(scale, height)
    if zero is not None:
        parts.append(_line(scale.at(zero), TOP, scale.at(zero), height - BOTTOM, "zero"))
    for place, row in enumerate(rows):
        parts += _interval(row, scale, TOP + ROW * (place + 0.5), is_signed)
    return _svg(title, height, parts)


def _interval(row: Interval, scale: Scale, y: float, is_signed: bool) -> list[str]:
    numbers = number(row.value, is_signed=is_signed)
    parts = [_text(LABELS - 12, y + 4, row.label, "end")]
    if row.low is not None and row.high is not None:
        parts.append(_line(scale.at(row.low), y, scale.at(row.high), y, "interval"))
        ends = (number(end, is_signed=is_signed) for end in (row.low, row.high))
        numbers += " [" + ", ".join(ends) + "]"
    parts.append(_dot(scale.at(row.value), y, "dot s0"))
    return [*parts, _text(WIDTH - VALUES + 12, y + 4, numbers, "numbers")]


def points(title: str, rows: Sequence[Point], x_name: str, y_name: str) -> Markup:
    """Return points with upright intervals; x is logarithmic where it spans more than a factor of 20."""
    if not rows:
        return Markup()
    height = 340
    spread = max(row.x for row in rows) / max(1e-9, min(row.x for row in rows))
    across = around([row.x for row in rows], LEFT, WIDTH - 130, is_log=spread > 20)
    up = around([end for row in rows for end in (row.value, row.low, row.high)], height - BOTTOM, TOP)
    parts = [*_bottom_axis(across, height, x_name), *_left_axis(up, y_name, across.end)]
    places = _apart([across.at(row.x) for row in rows], [up.at(row.value) for row in rows])
    for place, (row, (x, label_y)) in enumerate(zip(rows, places, strict=True)):
        css = f"s{place % COLOURS}"
        if row.low is not None and row.high is not None:
            parts.append(_line(x, up.at(row.low), x, up.at(row.high), f"interval {css}"))
        parts += [_dot(x, up.at(row.value), f"dot {css}"), _text(x + 9, label_y + 4, row.label, f"word {css}")]
    return _svg(title, height, parts)


def _apart(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Return x of every point and y of its name, moved a little where one would hide another."""
    found: list[tuple[float, float]] = []
    for x, y in zip(xs, ys, strict=True):
        while any(abs(x - other) < 6 for other, _ in found):
            x += 6
        taken = sorted(name for other, name in found if abs(x - other) < 150)
        for name in taken:
            if abs(y - name) < 14:
                y = name + 14
        found.append((x, y))
    return found


def histogram(
    title: str, edges: Sequence[float], scored: Sequence[int], kept: Sequence[int], cut: float | None, x_name: str
) -> Markup:
    """Return bars of all rows with those that were kept in front of them, and the *cut* as a line."""
    height = 280
    across = Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    up = Scale(0, max([*scored, 1]) * 1.05, height - BOTTOM, TOP)
    parts = [*_bottom_axis(across, height, x_name), *_left_axis(up, "rows", across.end)]
    for counts, css in ((scored, "bar"), (kept, "bar kept")):
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                x, y = across.at(left), up.at(count)
                parts.append(_box(x, y, across.at(right) - x, height - BOTTOM - y, css))
    if cut is not None:
        parts.append(_line(across.at(cut), TOP, across.at(cut), height - BOTTOM, "cut"))
        parts.append(_text(across.at(cut) + 6, TOP + 12, f"cut {number(cut)}"))
    return _svg(title, height, parts)


def curves(title: str, rows: Sequence[Curve], x_name: str, y_name: str) -> Markup:
    """Return lines with their names at the side."""
    known = [row for row in rows if row.x]
    if not known:
        return Markup()
    height = max(220, TOP + BOTTOM + 18 * len(known))
    across = around([x for row in known for x in row.x], LEFT, WIDTH - VALUES)
    up = around([y for row in known for y in row.y], height - BOTTOM, TOP)
    parts = [*_bottom_axis(across, height, x_name), *_left_axis(up, y_name, across.end)]
    for place, row in enumerate(known):
        css, y = f"s{place % COLOURS}", TOP + 18 * place
        path = " ".join(f"{across.at(a)},{up.at(b)}" for a, b in zip(row.x, row.y, strict=True))
        parts.append(f'<polyline class="curve {css}" points="{path}"/>')
        parts += [_box(WIDTH - VALUES + 12, y, 12, 4, f"key {css}"), _text(WIDTH - VALUES + 30, y + 7, row.label)]
    return _svg(title, height, parts)


def _bottom_axis(scale: Scale, height: float, name: str = "") -> list[str]:
    bottom = height - BOTTOM
    parts = [_line(scale.start, bottom, scale.end, bottom, "axis")]
    for value in scale.ticks():
        x = scale.at(value)
        parts += [_line(x, TOP, x, bottom, "grid"), _text(x, bottom + 16, tick(value), "middle")]
    return [*parts, _text((scale.start + scale.end) / 2, height - 8, name, "middle name")] if name else parts


def _left_axis(scale: Scale, name: str, right: float) -> list[str]:
    parts = [_text(4, TOP - 2, name, "name")]
    for value in scale.ticks():
        y = scale.at(value)
        parts += [_line(LEFT, y, right, y, "grid"), _text(LEFT - 6, y + 4, tick(value), "end")]
    return parts


def _svg(title: str, height: float, parts: Iterable[str]) -> Markup:
    name = escape(title)
    opening = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{name}"><title>{name}</title>'
    return Markup(opening + "".join(parts) + "</svg>")  # noqa: S704 -- every text in it has been escaped


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _box(x: float, y: float, width: float, height: float, css: str) -> str:
    return f'<rect class="{css}" x="{x:g}" y="{y:g}" width="{max(0.5, width):g}" height="{max(0.5, height):g}"/>'


def _dot(x: float, y: float, css: str) -> str:
    return f'<circle class="{css}" cx="{x:g}" cy="{y:g}" r="4"/>'


def _text(x: float, y: float, words: str, css: str = "") -> str:
    return f'<text class="{css}" x="{x:g}" y="{y:g}">{escape(words)}</text>'
