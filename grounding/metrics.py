"""From scored samples to the figures of a report. The one function behind the page, the report and the command line."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from grounding.boxes import Box, iou, set_iou
from grounding.records import Prediction, Sample, Status

IOU_THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
MATCH_MIN_IOU = 0.5
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class ScoredSample:
    """One sample with one model's answer. `iou` is `boxes.set_iou` of the answer and the truth, 0.0 to 1.0."""

    sample: Sample
    prediction: Prediction
    iou: float

    @property
    def has_target(self) -> bool:
        return bool(self.sample.boxes_xyxy_px)


def _no_statuses() -> Mapping[Status, int]:
    return MappingProxyType(dict.fromkeys(Status, 0))


@dataclass(frozen=True)
class Scores:
    """Figures over a set of samples. Shares, IoUs, F1 and calibration errors lie between 0.0 and 1.0.

    Over the `count` samples with a target, 0.0 when there are none. An answer that is unreadable, degenerate or
    "nothing there" counts as IoU 0.0, a miss at every threshold:

    - `detection_rate`: the share answered with a readable box, wherever it lies.
    - `mean_iou`, `median_iou`: of the samples' IoUs (`boxes.set_iou`).
    - `accuracy[t]`: the share with IoU >= t, for every t of `IOU_THRESHOLDS`.

    `no_target_accuracy`: of the `no_target_count` phrases that refer to nothing, the share answered with "nothing
    there"; an unreadable answer is a miss. None when there are none.

    Over boxes matched one to one (`match_boxes`), pooled before dividing (micro), 2 TP / (2 TP + FP + FN); an answer
    without a box misses every true box:

    - `multi_target_f1`: over the `multi_target_count` samples with several true boxes; None when there are none.
    - `box_f1`: over all samples, where a box answered to a phrase that refers to nothing is wrong; None when there
      is neither a true box nor an answered one.

    `statuses`: how many answers of each status, over all samples.

    `calibration_error` (see the function of that name): of the `confidence` of the `calibration_count` answers that
    have one, where an answer is right when its IoU is >= 0.5, for a phrase that refers to nothing when it says so.
    `box_calibration_error`: of the `box_confidences` of the `box_calibration_count` boxes that have one, where a box
    is right when it is matched to a true one. None when no confidence is known.
    """

    count: int
    detection_rate: float
    mean_iou: float
    median_iou: float
    accuracy: Mapping[float, float]
    no_target_count: int
    no_target_accuracy: float | None
    multi_target_count: int = 0
    multi_target_f1: float | None = None
    box_f1: float | None = None
    statuses: Mapping[Status, int] = field(default_factory=_no_statuses)
    calibration_count: int = 0
    calibration_error: float | None = None
    box_calibration_count: int = 0
    box_calibration_error: float | None = None


def score(sample: Sample, prediction: Prediction) -> ScoredSample:
    """The sample with its answer and IoU. An answer that can't be read is no "nothing there": its IoU is 0.0."""
    readable = prediction.status in (Status.OK, Status.NO_BOX)
    overlap = set_iou(prediction.boxes_xyxy_px, sample.boxes_xyxy_px) if readable else 0.0
    return ScoredSample(sample, prediction, overlap)


def summarise(rows: Sequence[ScoredSample]) -> Scores:
    """The figures over these rows; see `Scores` for each."""
    targets = [row for row in rows if row.has_target]
    nothing = [row for row in rows if not row.has_target]
    several = [row for row in rows if len(row.sample.boxes_xyxy_px) > 1]
    ious = [row.iou for row in targets]
    answers = [
        (row.prediction.confidence, row.iou >= MATCH_MIN_IOU) for row in rows if row.prediction.confidence is not None
    ]
    boxes = [pair for row in rows for pair in _box_confidences(row)]
    return Scores(
        count=len(targets),
        detection_rate=_share(row.prediction.status is Status.OK for row in targets),
        mean_iou=statistics.fmean(ious) if ious else 0.0,
        median_iou=statistics.median(ious) if ious else 0.0,
        accuracy=MappingProxyType({t: _share(value >= t for value in ious) for t in IOU_THRESHOLDS}),
        no_target_count=len(nothing),
        no_target_accuracy=_share(row.prediction.status is Status.NO_BOX for row in nothing) if nothing else None,
        multi_target_count=len(several),
        multi_target_f1=_micro_f1(several),
        box_f1=_micro_f1(rows),
        statuses=MappingProxyType({s: sum(row.prediction.status is s for row in rows) for s in Status}),
        calibration_count=len(answers),
        calibration_error=calibration_error(answers),
        box_calibration_count=len(boxes),
        box_calibration_error=calibration_error(boxes),
    )


def match_boxes(
    predicted: Sequence[Box], truth: Sequence[Box], min_iou: float = MATCH_MIN_IOU
) -> tuple[int | None, ...]:
    """For each predicted box the index of its true box, or None. Every true box is given at most once.

    Pairs with IoU >= `min_iou` (0.0 to 1.0) are taken greedily by falling IoU, of equal ones the first; where boxes
    crowd, this can find fewer pairs than the best matching.
    """
    pairs = [
        (overlap, i, j)
        for i, p in enumerate(predicted)
        for j, t in enumerate(truth)
        if (overlap := iou(p, t)) >= min_iou
    ]
    matched: dict[int, int] = {}
    for _, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if i not in matched and j not in matched.values():
            matched[i] = j
    return tuple(matched.get(i) for i in range(len(predicted)))


def calibration_error(answers: Iterable[tuple[float, bool]]) -> float | None:
    """The expected calibration error of (confidence from 0.0 to 1.0, was it right): 0.0 (honest) to 1.0.

    Confidences are put into `CALIBRATION_BINS` bins of equal width, each closed above. The error is the mean over
    all answers of their bin's |share right - mean confidence|. None without answers.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in answers:
        index = min(max(math.ceil(confidence * CALIBRATION_BINS) - 1, 0), CALIBRATION_BINS - 1)
        bins.setdefault(index, []).append((confidence, right))
    count = sum(len(members) for members in bins.values())
    gaps = (abs(math.fsum(right - confidence for confidence, right in members)) for members in bins.values())
    return math.fsum(gaps) / count if count else None


def _box_confidences(row: ScoredSample) -> list[tuple[float, bool]]:
    confidences = row.prediction.box_confidences
    if not confidences:
        return []
    matched = match_boxes(row.prediction.boxes_xyxy_px, row.sample.boxes_xyxy_px)
    return [(confidence, match is not None) for confidence, match in zip(confidences, matched, strict=True)]


def _micro_f1(rows: Sequence[ScoredSample]) -> float | None:
    hits = boxes = 0
    for row in rows:
        predicted, truth = row.prediction.boxes_xyxy_px, row.sample.boxes_xyxy_px
        hits += sum(match is not None for match in match_boxes(predicted, truth))
        boxes += len(predicted) + len(truth)
    return 2 * hits / boxes if boxes else None


def _share(hits: Iterable[bool]) -> float:
    values = list(hits)
    return sum(values) / len(values) if values else 0.0
