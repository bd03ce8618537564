"""From scored samples to the figures of a report. The one function behind the page, the report and the command line."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from grounding.boxes import set_iou
from grounding.records import Prediction, Sample, Status

IOU_THRESHOLDS = (0.5, 0.75)


@dataclass(frozen=True)
class ScoredSample:
    """One sample with one model's answer. `iou` is `boxes.set_iou` of the answer and the truth, 0.0 to 1.0."""

    sample: Sample
    prediction: Prediction
    iou: float

    @property
    def has_target(self) -> bool:
        return bool(self.sample.boxes_xyxy_px)


@dataclass(frozen=True)
class Scores:
    """Figures over a set of samples, shares from 0.0 to 1.0.

    `count` samples have a target box; all figures but the last are over these. An answer that is unreadable or
    has no box counts as IoU 0. `detection_rate`: answers with a readable box. `accuracy[t]`: samples with
    IoU >= t. `no_target_accuracy`: of the `no_target_count` phrases that refer to nothing, the share answered
    with "nothing there"; None when there are none.
    """

    count: int
    detection_rate: float
    mean_iou: float
    median_iou: float
    accuracy: Mapping[float, float]
    no_target_count: int
    no_target_accuracy: float | None


def score(sample: Sample, prediction: Prediction) -> ScoredSample:
    """The sample with its answer and IoU. An answer that can't be read is no "nothing there": its IoU is 0.0."""
    readable = prediction.status in (Status.OK, Status.NO_BOX)
    iou = set_iou(prediction.boxes_xyxy_px, sample.boxes_xyxy_px) if readable else 0.0
    return ScoredSample(sample, prediction, iou)


def summarise(rows: Sequence[ScoredSample]) -> Scores:
    """The figures over these rows; all 0.0 when no row has a target."""
    targets = [row for row in rows if row.has_target]
    nothing = [row for row in rows if not row.has_target]
    ious = [row.iou for row in targets]
    count = len(targets)
    return Scores(
        count=count,
        detection_rate=_share(row.prediction.status is Status.OK for row in targets),
        mean_iou=statistics.fmean(ious) if ious else 0.0,
        median_iou=statistics.median(ious) if ious else 0.0,
        accuracy=MappingProxyType({t: _share(value >= t for value in ious) for t in IOU_THRESHOLDS}),
        no_target_count=len(nothing),
        no_target_accuracy=_share(row.prediction.status is Status.NO_BOX for row in nothing) if nothing else None,
    )


def _share(hits: object) -> float:
    values = list(hits)  # type: ignore[call-overload]
    return sum(values) / len(values) if values else 0.0
