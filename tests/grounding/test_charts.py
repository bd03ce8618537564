"""The charts: points where they belong, a dashed baseline, and no text that becomes markup."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.charts import Axis, Line, chart_html, round_values, smooth

NASTY = "<script>alert(1)</script> \"quoted\" 'single' & more"
X, Y = Axis(0, 100), Axis(0, 1, "{:.0%}")
# The corners of the drawing area inside the view box of 560 x 230.
LEFT, RIGHT, TOP, BOTTOM = 46, 546, 14, 200


def chart(*lines: Line, x: Axis = X, y: Axis = Y, **more: Any) -> ElementTree.Element:
    """The chart as a tree: what does not parse is no drawing."""
    return ElementTree.fromstring(chart_html("Boxes", list(lines), x, y, **more))


def points(figure: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of every curve, in the units of the view box."""
    return [
        [tuple(float(number) for number in pair.split(",")) for pair in line.attrib["points"].split()]  # type: ignore[misc]
        for line in figure.iter("polyline")
    ]


@pytest.mark.parametrize(
    ("case", "x_value", "y_value", "expected"),
    [
        ("the origin", 0, 0, (LEFT, BOTTOM)),
        ("the upper right corner", 100, 1, (RIGHT, TOP)),
        ("the middle", 50, 0.5, ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)),
        ("a quarter up", 0, 0.25, (LEFT, BOTTOM - (BOTTOM - TOP) / 4)),
        ("beyond the right end", 1e9, 0, (RIGHT, BOTTOM)),
        ("above the upper end", 0, 7, (LEFT, TOP)),
        ("below the lower end", -5, -7, (LEFT, BOTTOM)),
    ],
)
def test_a_point_stands_where_its_value_says(
    case: str, x_value: float, y_value: float, expected: tuple[float, float]
) -> None:
    figure = chart(Line("a", "iou", [(x_value, y_value)], dots=True))
    assert points(figure) == [[pytest.approx(expected)]]
    (dot,) = figure.iter("circle")
    assert (float(dot.attrib["cx"]), float(dot.attrib["cy"])) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=9))
def test_every_point_is_drawn_inside_in_order(values: list[tuple[float, float]]) -> None:
    drawn = points(chart(Line("a", "iou", values), x=Axis(-10, 10), y=Axis(-1, 3)))[0]
    assert len(drawn) == len(values)
    for (left, top), (x_value, y_value) in zip(drawn, values, strict=True):
        assert LEFT <= left <= RIGHT and TOP <= top <= BOTTOM
        assert left == pytest.approx(LEFT + (RIGHT - LEFT) * (min(10, max(-10, x_value)) + 10) / 20, abs=0.06)
        assert top == pytest.approx(BOTTOM - (BOTTOM - TOP) * (min(3, max(-1, y_value)) + 1) / 4, abs=0.06)


def test_curves_have_their_kind_and_dots_only_where_asked() -> None:
    figure = chart(Line("Acc", "accuracy", [(0, 0.1), (50, 0.4)], dots=True), Line("Loss", "loss", [(0, 1), (9, 0)]))
    curves = [g for g in figure.iter("g") if g.attrib.get("class") == "bw-curve"]
    assert [g.attrib["data-kind"] for g in curves] == ["accuracy", "loss"]
    assert [len(list(g.iter("circle"))) for g in curves] == [2, 0]
    assert [title.text for title in curves[0].iter("title")] == ["Acc at 0: 10%", "Acc at 50: 40%"]


@pytest.mark.parametrize(("count", "dots"), [(1, 1), (60, 60), (61, 31), (500, 56)])
def test_many_points_keep_their_curve_and_some_dots_the_newest_among_them(count: int, dots: int) -> None:
    figure = chart(Line("Acc", "accuracy", [(i, i / count) for i in range(count)], dots=True), x=Axis(0, count))
    assert len(points(figure)[0]) == count
    titles = [title.text or "" for title in figure.iter("title")]
    assert len(titles) == dots
    assert titles[-1].startswith(f"Acc at {count - 1}:")


def test_the_legend_names_every_line_with_its_newest_value() -> None:
    figure = chart(Line("Acc", "accuracy", [(0, 0.1), (50, 0.4)]), Line("IoU", "iou", []), baseline=("Base", 0.25))
    legend = ["".join(span.itertext()) for span in figure.iter("span")]
    assert legend == ["Acc 40%", "IoU", "Base 25%"]
    assert [i.attrib["data-kind"] for i in figure.iter("i")] == ["accuracy", "iou", "baseline"]
    assert len(points(figure)) == 1, "a line without points draws nothing"


@pytest.mark.parametrize(("level", "top"), [(0.0, BOTTOM), (0.25, 153.5), (1.0, TOP), (1.7, TOP)])
def test_the_baseline_is_drawn_across_at_its_level(level: float, top: float) -> None:
    figure = chart(Line("Acc", "accuracy", [(0, 0.1)]), baseline=("Base", level))
    (line,) = (line for line in figure.iter("line") if line.attrib["class"] == "bw-baseline")
    assert (float(line.attrib["x1"]), float(line.attrib["x2"])) == (LEFT, RIGHT)
    assert float(line.attrib["y1"]) == float(line.attrib["y2"]) == pytest.approx(top, abs=0.06)


def test_without_a_baseline_none_is_drawn() -> None:
    assert not [line for line in chart(Line("a", "iou", [])).iter("line") if line.attrib["class"] == "bw-baseline"]


def test_round_numbers_are_written_in_the_form_of_their_axis() -> None:
    figure = chart(x=Axis(0, 440), y=Axis(0, 2, "{:.2f}"))
    written = [text.text for text in figure.iter("text")]
    assert written == ["0.00", "0.50", "1.00", "1.50", "2.00", "0", "100", "200", "300", "400"]
    assert len([line for line in figure.iter("line") if line.attrib["class"] == "bw-grid-line"]) == 5


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (Axis(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(0, 1.365), [0, 0.5, 1]),
        (Axis(0, 1.05), [0, 0.25, 0.5, 0.75, 1]),
        (Axis(0, 30, whole=True), [0, 10, 20, 30]),
        (Axis(0, 900, whole=True), [0, 200, 400, 600, 800]),
        (Axis(0, 1, whole=True), [0, 1]),
        (Axis(0, 2, whole=True), [0, 1, 2]),
        (Axis(0, 12, whole=True), [0, 3, 6, 9, 12]),
        (Axis(-1, 3), [-1, 0, 1, 2, 3]),
    ],
)
def test_the_numbers_at_an_axis_are_round(axis: Axis, values: list[float]) -> None:
    assert round_values(axis) == pytest.approx(values)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 1e9))
def test_an_axis_has_some_numbers_and_not_many(high: float) -> None:
    values = round_values(Axis(0, high))
    assert 2 <= len(values) <= 6 and values[0] >= 0 and values[-1] <= high * 1.0001
    whole = round_values(Axis(0, max(1, round(high)), whole=True))
    assert 2 <= len(whole) <= 6 and all(value == int(value) for value in whole)


def test_text_from_people_is_escaped_everywhere() -> None:
    html = chart_html(
        NASTY,
        [Line(NASTY, 'iou" onmouseover="alert(1)', [(0, 0.5)], dots=True), Line(NASTY, NASTY, [])],
        Axis(0, 1, "{:g}<b>"),
        Axis(0, 1, "{:g}<i onclick=x>&"),
        baseline=(NASTY, 0.5),
    )
    assert "<script" not in html
    figure = ElementTree.fromstring(html)
    drawn = {"figure", "figcaption", "h4", "div", "span", "i", "b", "svg", "line", "text", "g", "polyline", "circle"}
    assert {element.tag for element in figure.iter()} == drawn | {"title"}
    assert not [name for element in figure.iter() for name in element.attrib if name.startswith("on")]
    assert figure.findtext(".//h4") == NASTY
    (drawing,) = figure.iter("svg")
    assert drawing.attrib["aria-label"] == NASTY


def test_a_smoothed_curve_starts_at_its_first_value_and_follows() -> None:
    assert smooth([]) == []
    assert smooth([(1, 4.0)]) == [(1, pytest.approx(4.0))]
    values = smooth([(1, 4.0), (2, 2.0)], weight=0.9)
    assert values == [(1, pytest.approx(4.0)), (2, pytest.approx((0.9 * 4 + 2) / 1.9))]
    assert smooth([(1, 4.0), (2, 2.0)], weight=0.0)[1] == (2, 2.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_smoothing_stays_between_the_least_and_the_greatest(values: list[float]) -> None:
    smoothed = smooth(list(enumerate(values)))
    assert [at for at, _ in smoothed] == list(range(len(values)))
    for index, (_, value) in enumerate(smoothed):
        assert min(values[: index + 1]) - 1e-9 <= value <= max(values[: index + 1]) + 1e-9


def test_a_constant_loss_stays_constant() -> None:
    assert [value for _, value in smooth([(i, 3.0) for i in range(30)])] == pytest.approx([3.0] * 30)
