"""Figures against a table worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box, iou
from grounding.metrics import (
    IOU_THRESHOLDS,
    ScoredSample,
    Scores,
    calibration_error,
    match_boxes,
    score,
    summarise,
)
from grounding.records import Prediction, Sample, Status

TRUTH = Box(0, 0, 10, 10)
OK, NO_BOX, UNREADABLE, DEGENERATE = Status.OK, Status.NO_BOX, Status.UNREADABLE, Status.DEGENERATE


def row(truth: Sequence[Box], answer: Sequence[Box], status: Status = OK, **more: Any) -> ScoredSample:
    sample = Sample("a", Path("a.png"), "mug", tuple(truth))
    confidence = more.pop("confidence", None)
    return score(sample, Prediction(tuple(answer), status, "", confidence, 0.1, **more))


# Truth, answer, status, IoU.
TABLE: dict[str, tuple[list[Box], list[Box], Status, float]] = {
    "hit": ([TRUTH], [Box(0, 0, 10, 10)], OK, 1.0),
    "three quarters, at the threshold": ([TRUTH], [Box(0, 0, 10, 7.5)], OK, 0.75),
    "a half, at the threshold": ([TRUTH], [Box(0, 0, 5, 10)], OK, 0.5),
    "just below a half": ([TRUTH], [Box(0, 0, 4.9, 10)], OK, 0.49),
    "beside it": ([TRUTH], [Box(20, 0, 30, 10)], OK, 0.0),
    "says there is nothing": ([TRUTH], [], NO_BOX, 0.0),
    "unreadable": ([TRUTH], [], UNREADABLE, 0.0),
    "degenerate": ([TRUTH], [], DEGENERATE, 0.0),
    "two boxes, one found": ([TRUTH, Box(20, 0, 30, 10)], [TRUTH], OK, 0.5),
    "nothing there, says so": ([], [], NO_BOX, 1.0),
    "nothing there, a box": ([], [TRUTH], OK, 0.0),
    "nothing there, unreadable": ([], [], UNREADABLE, 0.0),
    "nothing there, says so again": ([], [], NO_BOX, 1.0),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_iou_of_one_answer(case: str) -> None:
    truth, answer, status, expected = TABLE[case]
    scored = row(truth, answer, status)
    assert scored.iou == pytest.approx(expected)
    assert scored.has_target == bool(truth)


def test_the_figures_of_the_table() -> None:
    """Nine samples with a target: IoUs 1, .75, .5, .49, 0, 0, 0, 0, .5; six of them answered with a box."""
    scores = summarise([row(truth, answer, status) for truth, answer, status, _ in TABLE.values()])
    assert scores.count == 9
    assert scores.detection_rate == pytest.approx(6 / 9)
    assert scores.mean_iou == pytest.approx((1 + 0.75 + 0.5 + 0.49 + 0.5) / 9)
    assert scores.median_iou == pytest.approx(0.49)
    assert dict(scores.accuracy) == pytest.approx({0.25: 5 / 9, 0.5: 4 / 9, 0.75: 2 / 9, 0.9: 1 / 9})
    assert tuple(scores.accuracy) == (0.25, 0.5, 0.75, 0.9)
    assert dict(scores.statuses) == {OK: 7, NO_BOX: 3, UNREADABLE: 2, DEGENERATE: 1}
    assert scores.no_target_count == 4
    assert scores.no_target_accuracy == pytest.approx(2 / 4), "an unreadable answer does not say that nothing is there"


def test_the_median_of_an_even_number_lies_between() -> None:
    rows = [row([TRUTH], [TRUTH], OK), row([TRUTH], [Box(0, 0, 5, 10)], OK)]
    assert summarise(rows).median_iou == pytest.approx(0.75)


def test_without_targets_and_without_rows_the_figures_are_zero() -> None:
    zeros = dict.fromkeys(IOU_THRESHOLDS, 0.0)
    assert summarise([]) == Scores(0, 0.0, 0.0, 0.0, zeros, 0, None)
    only_nothing = summarise([row([], [], NO_BOX)])
    statuses = {OK: 0, NO_BOX: 1, UNREADABLE: 0, DEGENERATE: 0}
    assert only_nothing == Scores(0, 0.0, 0.0, 0.0, zeros, 1, 1.0, statuses=statuses)


def test_without_no_target_phrases_there_is_no_such_figure() -> None:
    assert summarise([row([TRUTH], [TRUTH], OK)]).no_target_accuracy is None


def test_figures_do_not_change() -> None:
    with pytest.raises(TypeError):
        summarise([]).accuracy[0.5] = 1.0  # type: ignore[index]


# --- several targets ---

LEFT, MIDDLE, RIGHT = Box(0, 0, 10, 10), Box(20, 0, 30, 10), Box(40, 0, 50, 10)


@pytest.mark.parametrize(
    ("case", "predicted", "truth", "expected"),
    [
        ("in another order", [RIGHT, LEFT], [LEFT, RIGHT], (1, 0)),
        ("one twice", [LEFT, LEFT], [LEFT, RIGHT], (0, None)),
        ("one box for two true ones", [LEFT], [LEFT, LEFT], (0,)),
        ("too little overlap", [Box(0, 0, 4.9, 10)], [LEFT], (None,)),
        ("just enough", [Box(0, 0, 5, 10)], [LEFT], (0,)),
        ("the better one wins, though second", [Box(0, 0, 8, 10), LEFT], [LEFT], (None, 0)),
        ("nothing answered", [], [LEFT], ()),
        ("nothing true", [LEFT], [], (None,)),
    ],
)
def test_boxes_are_matched_one_to_one(
    case: str, predicted: list[Box], truth: list[Box], expected: tuple[int | None, ...]
) -> None:
    assert match_boxes(predicted, truth) == expected


coordinates = st.integers(0, 12)
some_boxes = st.lists(
    st.builds(lambda x, y, w, h: Box(x, y, x + w + 1, y + h + 1), *[coordinates] * 4), min_size=0, max_size=4
)


@settings(deadline=None, max_examples=100)
@given(some_boxes, some_boxes)
def test_a_match_is_one_to_one_close_enough_and_leaves_no_pair_over(predicted: list[Box], truth: list[Box]) -> None:
    matched = match_boxes(predicted, truth)
    assert len(matched) == len(predicted)
    given_away = [index for index in matched if index is not None]
    assert len(given_away) == len(set(given_away))
    for i, box in enumerate(predicted):
        if matched[i] is not None:
            assert iou(box, truth[matched[i]]) >= 0.5  # type: ignore[index]
        else:
            free = [other for j, other in enumerate(truth) if j not in given_away]
            assert all(iou(box, other) < 0.5 for other in free)


def test_f1_pools_the_boxes_of_samples_with_several() -> None:
    """Two found of three with one too many; none found of two: 2 x 2 / (3 + 3 + 0 + 2)."""
    beside = Box(100, 100, 110, 110)
    rows = [
        row([LEFT, MIDDLE, RIGHT], [RIGHT, LEFT, beside]),
        row([LEFT, RIGHT], [], UNREADABLE),
        row([LEFT], [beside, LEFT]),
        row([], [LEFT]),
    ]
    scores = summarise(rows)
    assert scores.multi_target_count == 2
    assert scores.multi_target_f1 == pytest.approx(4 / 8)
    assert scores.box_f1 == pytest.approx(2 * 3 / (8 + 3 + 1)), "over all: the box for nothing is a wrong one"


def test_f1_where_there_is_nothing_to_count() -> None:
    scores = summarise([row([LEFT], [LEFT]), row([], [], NO_BOX)])
    assert (scores.multi_target_count, scores.multi_target_f1, scores.box_f1) == (0, None, 1.0)
    assert summarise([row([], [], NO_BOX)]).box_f1 is None


# --- calibration ---


def test_the_calibration_error_worked_out_by_hand() -> None:
    """Bin (0.8, 0.9]: two answers of 0.9 and 0.85, one right; bin (0.1, 0.2]: one of 0.2, wrong."""
    answers = [(0.9, True), (0.85, False), (0.2, False)]
    assert calibration_error(answers) == pytest.approx(2 / 3 * abs(0.5 - 0.875) + 1 / 3 * 0.2)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        ([(1.0, True), (0.0, False)], 0.0),
        ([(0.0, True), (1.0, False)], 1.0),
        ([(0.5, True), (0.5, False)], 0.0),
        ([(0.5, True), (0.51, False)], (0.5 + 0.51) / 2),  # 0.5 belongs to the bin below
    ],
)
def test_the_ends_of_the_calibration_error(answers: list[tuple[float, bool]], expected: float | None) -> None:
    assert calibration_error(answers) == (None if expected is None else pytest.approx(expected))


def test_what_is_right_for_the_calibration() -> None:
    """An answer at IoU 0.5 and a true "nothing there" are right; one without confidence does not count."""
    rows = [
        row([TRUTH], [Box(0, 0, 5, 10)], confidence=1.0),
        row([], [], NO_BOX, confidence=1.0),
        row([TRUTH], [], NO_BOX, confidence=0.0),
        row([TRUTH], [], UNREADABLE),
    ]
    scores = summarise(rows)
    assert (scores.calibration_count, scores.calibration_error) == (3, 0.0)
    assert (scores.box_calibration_count, scores.box_calibration_error) == (0, None)


def test_the_confidence_of_each_box_is_held_against_that_box() -> None:
    rows = [
        row([LEFT, RIGHT], [RIGHT, MIDDLE], box_confidences=(1.0, 0.0)),
        row([], [LEFT], box_confidences=(0.3,)),
    ]
    scores = summarise(rows)
    assert scores.box_calibration_count == 3
    assert scores.box_calibration_error == pytest.approx(0.3 / 3)
    assert scores.calibration_error is None
