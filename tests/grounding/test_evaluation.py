"""Samples answered and scored: the figures against a computation by hand."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import grounding
from grounding.boxes import Box
from grounding.errors import Cancelled, PictureError, RecordError
from grounding.evaluation import Report
from grounding.predict import Predictor
from grounding.records import Prediction, Sample, Status


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU written out anew."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, across) * max(0.0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


@pytest.fixture(scope="module")
def asked(demo_samples: dict[str, list[Sample]]) -> list[Sample]:
    """Readable phrases for known and unknown nouns, with a phrase that refers to nothing, answered and not."""
    from grounding.demo.sprites import known_nouns

    named = [replace(s, phrase=f"the {s.category}") for split in demo_samples.values() for s in split]
    known = [s for s in named if s.boxes_xyxy_px and s.category in known_nouns()][:4]
    unknown = [s for s in named if s.boxes_xyxy_px and s.category not in known_nouns()][:2]
    nothing = [
        replace(unknown[0], id="nothing-there", boxes_xyxy_px=()),
        replace(known[0], id="yet-something", boxes_xyxy_px=()),
    ]
    return [nothing[0], *known, *unknown, nothing[1]]


@pytest.fixture(scope="module")
def report(predictor: Predictor, asked: list[Sample]) -> Report:
    return grounding.evaluate(asked, predictor)


def test_the_figures_equal_a_computation_by_hand(report: Report, asked: list[Sample], predictor: Predictor) -> None:
    answers = [predictor.predict(sample.image, sample.phrase) for sample in asked]
    ious = [
        overlap(tuple(answer.boxes[0]), tuple(sample.boxes_xyxy_px[0])) if answer.boxes else 0.0
        for sample, answer in zip(asked, answers, strict=True)
        if sample.boxes_xyxy_px
    ]
    assert len(ious) == 6 and ious.count(0.0) == 2 and max(ious) > 0.5  # it has hits and misses to tell apart
    scores = report.scores
    assert scores.count == 6
    assert scores.detection_rate == pytest.approx(4 / 6)
    assert scores.mean_iou == pytest.approx(sum(ious) / 6)
    assert scores.median_iou == pytest.approx(statistics.median(ious))
    assert scores.accuracy[0.5] == pytest.approx(sum(iou >= 0.5 for iou in ious) / 6)
    assert scores.accuracy[0.75] == pytest.approx(sum(iou >= 0.75 for iou in ious) / 6)
    assert (scores.no_target_count, scores.no_target_accuracy) == (2, 0.5)


def test_rows_stand_in_the_order_of_the_samples(report: Report, asked: list[Sample]) -> None:
    assert [row.sample for row in report.rows] == asked
    assert [row.prediction.status for row in report.rows] == [Status.NO_BOX] + [Status.OK] * 4 + [
        Status.NO_BOX,
        Status.NO_BOX,
        Status.OK,
    ]
    assert (report.model_id, report.adapter) == ("demo", None)


class ScriptedPredictor:
    """Answers what it was told, whatever the picture."""

    model_id = "scripted"

    def __init__(self, answers: Sequence[Prediction]) -> None:
        self.answers = answers

    def predict_many(self, pairs: Sequence[Any], adapter: str | None, **options: Any) -> list[Prediction]:
        assert [phrase for _, phrase in pairs] == ["all cups"] * len(self.answers)
        return [replace(answer, adapter=adapter) for answer in self.answers]


def answer(*boxes: Box, status: Status = Status.OK) -> Prediction:
    return Prediction(boxes, status, "text", 0.5, 0.1)


def test_every_kind_of_answer_counts_as_it_should() -> None:
    """Thresholds are reached at exactly 0.5 and 0.75; unreadable and degenerate answers are misses, not gaps."""
    truth = Box(0, 0, 100, 100)
    table = [
        ((truth,), answer(Box(0, 0, 100, 50)), 0.5),
        ((truth,), answer(Box(0, 0, 100, 75)), 0.75),
        ((truth,), answer(truth, Box(200, 200, 300, 300)), 1.0),
        ((truth,), answer(Box(200, 200, 300, 300), truth), 0.0),
        ((truth,), answer(status=Status.UNREADABLE), 0.0),
        ((truth,), answer(status=Status.DEGENERATE), 0.0),
        ((truth,), answer(status=Status.NO_BOX), 0.0),
        ((truth, Box(200, 0, 300, 100)), answer(Box(200, 0, 300, 100)), 0.5),
        ((), answer(status=Status.NO_BOX), 1.0),
        ((), answer(status=Status.UNREADABLE), 0.0),
    ]
    samples = [Sample(str(i), Path("x.png"), "all cups", truths) for i, (truths, _, _) in enumerate(table)]
    told: Any = ScriptedPredictor([given for _, given, _ in table])
    report = grounding.evaluate(iter(samples), told, "tools-v1")
    assert [row.iou for row in report.rows] == pytest.approx([iou for _, _, iou in table])
    assert report.adapter == "tools-v1"
    assert {row.prediction.adapter for row in report.rows} == {"tools-v1"}
    assert report.scores.count == 8
    assert report.scores.detection_rate == pytest.approx(5 / 8)
    assert report.scores.mean_iou == pytest.approx(2.75 / 8)
    assert report.scores.median_iou == pytest.approx(0.25)
    assert dict(report.scores.accuracy) == pytest.approx({0.25: 4 / 8, 0.5: 4 / 8, 0.75: 2 / 8, 0.9: 1 / 8})
    assert (report.scores.no_target_count, report.scores.no_target_accuracy) == (2, 0.5)


def test_no_samples_make_an_empty_report(predictor: Predictor) -> None:
    report = grounding.evaluate([], predictor)
    assert report.rows == ()
    assert (report.scores.count, report.scores.mean_iou, report.scores.no_target_accuracy) == (0, 0.0, None)


def test_progress_and_cancelling(predictor: Predictor, asked: list[Sample]) -> None:
    told: list[tuple[int, int]] = []
    grounding.evaluate(asked[:2], predictor, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 2)]
    with pytest.raises(Cancelled):
        grounding.evaluate(asked, predictor, cancelled=lambda: True)


def test_a_sample_without_its_picture(predictor: Predictor, asked: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"no picture at .*gone\.png"):
        grounding.evaluate([replace(asked[0], image=tmp_path / "gone.png")], predictor)


def test_a_sample_without_a_phrase(predictor: Predictor, asked: list[Sample]) -> None:
    with pytest.raises(RecordError, match="phrase is empty"):
        grounding.evaluate([replace(asked[0], phrase=" ")], predictor)
