"""Charts are well-formed, put values where they belong and escape every text."""

from xml.etree import ElementTree

import pytest

from api.reports.charts import Curve, Interval, Point, curves, histogram, intervals, points
from api.reports.scales import Scale, around, number, powers, rounds

SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)  # noqa: S314 -- our own markup


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in parsed(chart).iter("text")]


def test_a_scale_maps_its_ends_and_keeps_what_is_beyond_inside() -> None:
    scale = Scale(10, 20, 0, 100)
    assert [scale.at(value) for value in (10, 15, 20, 99, -99)] == [0, 50, 100, 100, 0]
    assert Scale(1, 100, 0, 100, is_log=True).at(10) == 50
    assert Scale(3, 3, 0, 100).at(3) == 50


def test_ticks_are_round_and_inside() -> None:
    assert rounds(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert rounds(-0.13, 0.21) == [-0.1, 0.0, 0.1, 0.2]
    assert powers(30, 700) == [50, 100, 200, 500]
    assert rounds(2, 2) == [2]


def test_a_scale_around_nothing_is_a_scale() -> None:
    assert around([], 0, 1).at(0.5) == 0.5
    assert around([None, float("nan"), 4.0], 0, 1).at(4.0) == 0.5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (12345.6, "12,346"),
        (3.14159, "3.14"),
        (0.00001, "1.0e-05"),
        (None, "-"),
        (float("nan"), "-"),
    ],
)
def test_numbers_have_as_many_digits_as_they_bear(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_has_its_name_its_line_and_its_numbers() -> None:
    chart = intervals("t", [Interval("deft", 0.6, 0.5, 0.7), Interval("one prompt", 0.4, None, None)], zero=0.5)
    lines = [line for line in parsed(chart).iter("line") if line.get("class") == "interval"]
    (dot, _) = parsed(chart).iter("circle")
    assert len(lines) == 1
    assert float(lines[0].get("x1", 0)) < float(dot.get("cx", 0)) < float(lines[0].get("x2", 0))
    assert {"deft", "one prompt", "0.600 [0.500, 0.700]", "0.400"} <= set(texts(chart))


def test_costs_far_apart_are_on_a_logarithmic_scale() -> None:
    rows = [Point(str(x), x, 0.5, 0.4, 0.6) for x in (10.0, 100.0, 1000.0)]
    first, second, third = (float(dot.get("cx", 0)) for dot in parsed(points("t", rows, "x", "y")).iter("circle"))
    assert second - first == pytest.approx(third - second, abs=0.2)


def test_a_histogram_stacks_kept_rows_in_front_and_draws_the_cut() -> None:
    chart = histogram("t", [0.0, 1.0, 2.0], [4, 2], [4, 0], 1.0, "R_d")
    boxes = list(parsed(chart).iter("rect"))
    assert [box.get("class") for box in boxes] == ["bar", "bar", "bar kept"]
    assert float(boxes[0].get("height", 0)) == pytest.approx(2 * float(boxes[1].get("height", 0)), abs=0.2)
    (cut,) = [line for line in parsed(chart).iter("line") if line.get("class") == "cut"]
    assert float(cut.get("x1", 0)) == pytest.approx(float(boxes[1].get("x", 0)))


def test_curves_without_points_are_left_out() -> None:
    chart = curves("t", [Curve("a", [0, 1], [1.0, 2.0]), Curve("b", [], [])], "step", "loss")
    assert len(list(parsed(chart).iter("polyline"))) == 1
    assert not curves("t", [], "step", "loss")


def test_names_cannot_break_out_of_the_markup() -> None:
    evil = '<script>alert("x")</script>'
    for chart in (
        intervals(evil, [Interval(evil, 1, 0, 2)]),
        points(evil, [Point(evil, 1, 1, None, None)], evil, evil),
        curves(evil, [Curve(evil, [0], [1])], evil, evil),
        histogram(evil, [0, 1], [1], [0], None, evil),
    ):
        assert "<script" not in chart
        assert evil in [*texts(chart), parsed(chart).findtext("title")]
