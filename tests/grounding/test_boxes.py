"""Boxes against a counter of pixels: geometry that is right, in range and the same both ways round."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box, giou, iou, set_iou
from grounding.errors import BoxError, BoxwrightError

SIDE_PX = 24
SMALL = settings(max_examples=80, deadline=None)


@st.composite
def whole_boxes(draw: st.DrawFn, low: int = -6, high: int = SIDE_PX + 6) -> Box:
    """Boxes with whole corners, some of them partly or wholly outside a picture of SIDE_PX x SIDE_PX."""
    x1, y1 = draw(st.integers(low, high - 1)), draw(st.integers(low, high - 1))
    return Box(x1, y1, draw(st.integers(x1 + 1, high)), draw(st.integers(y1 + 1, high)))


@st.composite
def any_boxes(draw: st.DrawFn) -> Box:
    """Boxes with any floats that make a box, far beyond any picture too."""
    numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
    (x1, x2), (y1, y2) = sorted((draw(numbers), draw(numbers))), sorted((draw(numbers), draw(numbers)))
    try:
        return Box(x1, y1, x2, y2)
    except BoxError:
        return Box(x1, y1, x1 + 1 + abs(x1) * 1e-9, y1 + 1 + abs(y1) * 1e-9)


def pixels(box: Box) -> np.ndarray:
    """The box filled in on a grid that holds every box of `whole_boxes`."""
    grid = np.zeros((SIDE_PX + 20, SIDE_PX + 20), bool)
    grid[int(box.y1) + 10 : int(box.y2) + 10, int(box.x1) + 10 : int(box.x2) + 10] = True
    return grid


@pytest.mark.parametrize(
    ("case", "numbers", "says"),
    [
        ("no width", (5, 0, 5, 9), "x2 must be greater than x1"),
        ("no height", (0, 5, 9, 5), "y2 greater than y1"),
        ("corners swapped", (9, 9, 0, 0), "order: x1, y1, x2, y2 in pixels"),
        ("only x swapped", (9, 0, 0, 9), "(9, 0, 0, 9)"),
        ("not a number", (0, 0, math.nan, 9), "finite number of pixels"),
        ("infinite", (0, 0, math.inf, 9), "finite number of pixels"),
        ("minus infinite", (-math.inf, 0, 9, 9), "finite number of pixels"),
        ("an area that rounds to zero", (0, 0, 1e-200, 1e-200), "1e-200"),
        ("an area beyond all numbers", (0, 0, 1e200, 1e200), "1e+200"),
    ],
)
def test_what_is_no_box(case: str, numbers: tuple[float, float, float, float], says: str) -> None:
    with pytest.raises(BoxError) as caught:
        Box(*numbers)
    assert says in str(caught.value)
    assert isinstance(caught.value, (BoxwrightError, ValueError))


@pytest.mark.parametrize(
    ("case", "numbers", "expected"),
    [
        ("floats", [1.5, 2.5, 3.5, 4.5], (1.5, 2.5, 3.5, 4.5)),
        ("whole numbers", (1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)),
        ("numbers as text", ["1", " 2 ", "3e1", "4.25"], (1.0, 2.0, 30.0, 4.25)),
    ],
)
def test_a_box_from_numbers(case: str, numbers: list[object], expected: tuple[float, ...]) -> None:
    box = Box.from_numbers(numbers)
    assert tuple(box) == expected
    assert all(type(value) is float for value in box)


@pytest.mark.parametrize(
    ("case", "numbers"),
    [
        ("three numbers", [1, 2, 3]),
        ("five numbers", [1, 2, 3, 4, 5]),
        ("none", []),
        ("a text of four characters", "1234"),
        ("words", ["a", "b", "c", "d"]),
        ("a null", [1, 2, None, 4]),
        ("a list in the list", [1, 2, [3], 4]),
        ("too large for a float", [0, 0, 10**400, 5]),
    ],
)
def test_what_gives_no_four_numbers(case: str, numbers: list[object]) -> None:
    with pytest.raises(BoxError, match="expected four numbers x1, y1, x2, y2 in pixels"):
        Box.from_numbers(numbers)


def test_four_numbers_that_make_no_box_say_why() -> None:
    with pytest.raises(BoxError, match="x2 must be greater than x1"):
        Box.from_numbers([9, 9, 1, 1])


def test_a_box_iterates_measures_orders_and_stays_as_it_is() -> None:
    box = Box(1, 2, 11, 7)
    x1, y1, x2, y2 = box
    assert (x1, y1, x2, y2) == (1, 2, 11, 7)
    assert (box.width_px, box.height_px, box.area_px) == (10, 5, 50)
    assert {Box(1, 2, 11, 7)} == {box}
    assert sorted([Box(2, 0, 3, 1), Box(1, 0, 3, 1)])[0].x1 == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.x1 = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("case", "box", "expected"),
    [
        ("two digits", Box(0.123, 1.005, 9.999, 8.4), (0.12, 1.0, 10.0, 8.4)),
        ("narrower than the rounding", Box(5.001, 0, 5.002, 9.123), (5.001, 0, 5.002, 9.123)),
        ("flatter than the rounding", Box(0, 5.001, 9, 5.002), (0, 5.001, 9, 5.002)),
    ],
)
def test_a_rounded_box_is_still_a_box(case: str, box: Box, expected: tuple[float, ...]) -> None:
    assert box.rounded() == expected
    assert Box(*box.rounded()).area_px > 0


def test_rounding_to_other_digits() -> None:
    assert Box(0.126, 0, 9.876, 9).rounded(1) == (0.1, 0, 9.9, 9)


@SMALL
@given(whole_boxes(), st.integers(1, SIDE_PX), st.integers(1, SIDE_PX))
def test_clip_keeps_the_pixels_inside_the_image(box: Box, width: int, height: int) -> None:
    inside = pixels(box) & pixels(Box(0, 0, width, height))
    clipped = box.clip((width, height))
    assert (clipped is None) == (not inside.any())
    if clipped is not None:
        assert np.array_equal(pixels(clipped), inside)
        assert clipped.clip((width, height)) == clipped


@SMALL
@given(any_boxes(), st.integers(1, 10_000), st.integers(1, 10_000))
def test_clip_never_leaves_the_image(box: Box, width: int, height: int) -> None:
    clipped = box.clip((width, height))
    if clipped is not None:
        assert 0 <= clipped.x1 < clipped.x2 <= width
        assert 0 <= clipped.y1 < clipped.y2 <= height
        assert clipped.x1 >= box.x1 and clipped.x2 <= box.x2


@pytest.mark.parametrize(
    ("case", "box"),
    [
        ("touches the left edge", Box(-5, 0, 0, 9)),
        ("touches the lower edge", Box(0, 10, 9, 15)),
        ("beyond a corner", Box(11, 11, 12, 12)),
        ("a corner inside too small for an area", Box(-5, -5, 1e-200, 1e-200)),
    ],
)
def test_nothing_inside(case: str, box: Box) -> None:
    assert box.clip((10, 10)) is None


@SMALL
@given(whole_boxes(), whole_boxes())
def test_iou_and_giou_count_pixels(first: Box, second: Box) -> None:
    a, b = pixels(first), pixels(second)
    intersection, union = int((a & b).sum()), int((a | b).sum())
    hull = Box(min(first.x1, second.x1), min(first.y1, second.y1), max(first.x2, second.x2), max(first.y2, second.y2))
    hull_pixels = int(pixels(hull).sum())
    assert iou(first, second) == pytest.approx(intersection / union, abs=1e-12)
    assert giou(first, second) == pytest.approx(intersection / union - (hull_pixels - union) / hull_pixels, abs=1e-12)


@SMALL
@given(any_boxes(), any_boxes())
def test_iou_and_giou_are_symmetric_and_in_range(first: Box, second: Box) -> None:
    assert iou(first, second) == iou(second, first)
    assert 0.0 <= iou(first, second) <= 1.0
    assert giou(first, second) == pytest.approx(giou(second, first), abs=1e-9)
    assert -1.0 <= giou(first, second) <= iou(first, second) + 1e-9
    assert iou(first, first) == pytest.approx(1.0)
    assert giou(first, first) == pytest.approx(1.0)


def test_giou_of_boxes_apart_tells_near_from_far() -> None:
    box = Box(0, 0, 10, 10)
    assert giou(box, Box(12, 0, 22, 10)) == pytest.approx(-2 / 22)
    assert -1 < giou(box, Box(900, 900, 910, 910)) < giou(box, Box(12, 0, 22, 10)) < 0
    assert iou(box, Box(10, 0, 20, 10)) == 0.0, "a shared edge is no overlap"


A, B, C = Box(0, 0, 10, 10), Box(20, 0, 30, 10), Box(40, 0, 50, 10)
HALF_A = Box(0, 0, 10, 5)


@pytest.mark.parametrize(
    ("case", "predicted", "truth", "expected"),
    [
        ("nothing there, nothing said", [], [], 1.0),
        ("nothing there, a box said", [A], [], 0.0),
        ("one there, nothing said", [], [A], 0.0),
        ("one there, hit", [A], [A], 1.0),
        ("one there, half", [HALF_A], [A], 0.5),
        ("one there: only the first box counts", [B, A], [A], 0.0),
        ("one there: more boxes cost nothing", [A, B, C], [A], 1.0),
        ("two there, both hit in another order", [B, A], [A, B], 1.0),
        ("two there, one missing", [A], [A, B], 0.5),
        ("two there, one too many", [A, B, C], [A, B], 2 / 3),
        ("two there, one box can't serve both", [A, A], [A, B], 0.5),
        ("two there, the better pairs first", [HALF_A, A], [A, B], 0.5),
        ("three there, nothing said", [], [A, B, C], 0.0),
    ],
)
def test_an_answer_against_the_truth(case: str, predicted: list[Box], truth: list[Box], expected: float) -> None:
    assert set_iou(predicted, truth) == pytest.approx(expected)


@SMALL
@given(st.lists(whole_boxes(), max_size=4), st.lists(whole_boxes(), min_size=2, max_size=4))
def test_pairing_several_boxes_stays_close_to_the_best_pairing(predicted: list[Box], truth: list[Box]) -> None:
    value = set_iou(predicted, truth)
    best = max(
        sum(iou(p, t) for p, t in zip(some, order, strict=False)) / max(len(predicted), len(truth))
        for some in itertools.permutations(predicted)
        for order in itertools.permutations(truth)
    )
    assert 0.0 <= value <= best + 1e-12
    assert value >= best / 2 - 1e-12, "greedy pairing is never worse than half of the best"
    assert set_iou(truth, truth) == pytest.approx(1.0)
