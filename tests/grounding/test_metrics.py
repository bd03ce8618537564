"""Figures against a table worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from grounding.boxes import Box
from grounding.metrics import IOU_THRESHOLDS, ScoredSample, Scores, score, summarise
from grounding.records import Prediction, Sample, Status

TRUTH = Box(0, 0, 10, 10)
OK, NO_BOX, UNREADABLE, DEGENERATE = Status.OK, Status.NO_BOX, Status.UNREADABLE, Status.DEGENERATE


def row(truth: list[Box], answer: list[Box], status: Status) -> ScoredSample:
    sample = Sample("a", Path("a.png"), "mug", tuple(truth))
    return score(sample, Prediction(tuple(answer), status, "", None, 0.1))


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
    assert dict(scores.accuracy) == {0.5: pytest.approx(4 / 9), 0.75: pytest.approx(2 / 9)}
    assert scores.no_target_count == 4
    assert scores.no_target_accuracy == pytest.approx(2 / 4), "an unreadable answer does not say that nothing is there"


def test_the_median_of_an_even_number_lies_between() -> None:
    rows = [row([TRUTH], [TRUTH], OK), row([TRUTH], [Box(0, 0, 5, 10)], OK)]
    assert summarise(rows).median_iou == pytest.approx(0.75)


def test_without_targets_and_without_rows_the_figures_are_zero() -> None:
    zeros = dict.fromkeys(IOU_THRESHOLDS, 0.0)
    assert summarise([]) == Scores(0, 0.0, 0.0, 0.0, zeros, 0, None)
    only_nothing = summarise([row([], [], NO_BOX)])
    assert only_nothing == Scores(0, 0.0, 0.0, 0.0, zeros, 1, 1.0)


def test_without_no_target_phrases_there_is_no_such_figure() -> None:
    assert summarise([row([TRUTH], [TRUTH], OK)]).no_target_accuracy is None


def test_figures_do_not_change() -> None:
    with pytest.raises(TypeError):
        summarise([]).accuracy[0.5] = 1.0  # type: ignore[index]
