"""From scored samples to the figures of a report. The one function behind the page, the report and the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from grounding.boxes import Box, set_iou
from grounding.measures import MATCH_MIN_IOU, STATUSES, Flags, Floats, Measures, RaggedBoxes, matched_boxes, measures_of
from grounding.records import Prediction, Sample, Status

__all__ = [
    "CALIBRATION_BINS",
    "IOU_THRESHOLDS",
    "MATCH_MIN_IOU",
    "ScoredSample",
    "Scores",
    "answer_iou",
    "calibration_bin",
    "calibration_error",
    "exact_mean",
    "match_boxes",
    "score",
    "summarise",
    "summarise_measures",
]

IOU_THRESHOLDS = (0.25, 0.5, 0.75, 0.9)
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class ScoredSample:
    """One sample with one model's answer. `iou` is their `answer_iou`, 0.0 to 1.0."""

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


def answer_iou(prediction: Prediction, truth_xyxy_px: Sequence[Box]) -> float:
    """`boxes.set_iou` of an answer and the truth, 0.0 to 1.0. An answer that can't be read is no "nothing there": its
    IoU is 0.0."""
    readable = prediction.status in (Status.OK, Status.NO_BOX)
    return set_iou(prediction.boxes_xyxy_px, truth_xyxy_px) if readable else 0.0


def score(sample: Sample, prediction: Prediction) -> ScoredSample:
    """The sample with its answer and its `answer_iou`."""
    return ScoredSample(sample, prediction, answer_iou(prediction, sample.boxes_xyxy_px))


def summarise(rows: Sequence[ScoredSample]) -> Scores:
    """The figures over these rows; see `Scores` for each."""
    return summarise_measures(measures_of(rows))


def summarise_measures(measures: Measures) -> Scores:
    """The figures over these columns: every figure that Boxwright shows comes from here."""
    targets = measures.has_target
    ious, status = measures.iou[targets], measures.status
    nothing = measures.is_status(Status.NO_BOX)[~targets]
    known = ~np.isnan(measures.confidence)
    return Scores(
        count=len(ious),
        detection_rate=_share(measures.is_status(Status.OK)[targets]),
        mean_iou=exact_mean(ious) if len(ious) else 0.0,
        median_iou=float(np.median(ious)) if len(ious) else 0.0,
        accuracy=MappingProxyType({t: _share(ious >= t) for t in IOU_THRESHOLDS}),
        no_target_count=len(nothing),
        no_target_accuracy=_share(nothing) if len(nothing) else None,
        multi_target_count=int(np.count_nonzero(measures.true_boxes > 1)),
        multi_target_f1=_micro_f1(measures, measures.true_boxes > 1),
        box_f1=_micro_f1(measures, np.ones(len(measures), dtype=bool)),
        statuses=MappingProxyType({s: int(np.count_nonzero(status == k)) for k, s in enumerate(STATUSES)}),
        calibration_count=int(np.count_nonzero(known)),
        calibration_error=_binned_error(measures.confidence[known], measures.right[known]),
        box_calibration_count=len(measures.box_confidence),
        box_calibration_error=_binned_error(measures.box_confidence, measures.box_right),
    )


def match_boxes(
    predicted: Sequence[Box], truth: Sequence[Box], min_iou: float = MATCH_MIN_IOU
) -> tuple[int | None, ...]:
    """For each predicted box the index of its true box, or None. Every true box is given at most once.

    Pairs with IoU >= `min_iou` (0.0 to 1.0) are taken greedily by falling IoU, of equal ones the first; where boxes
    crowd, this can find fewer pairs than the best matching.
    """
    found = matched_boxes(RaggedBoxes.of([predicted]), RaggedBoxes.of([truth]), min_iou)
    return tuple(None if number < 0 else number for number in found.tolist())


def calibration_error(answers: Iterable[tuple[float, bool]]) -> float | None:
    """The expected calibration error of (confidence from 0.0 to 1.0, was it right): 0.0 (honest) to 1.0.

    Confidences are put into `CALIBRATION_BINS` bins of equal width, each closed above. The error is the mean over
    all answers of their bin's |share right - mean confidence|. None without answers.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    pairs = list(answers)
    return _binned_error(
        np.array([pair[0] for pair in pairs], dtype=float), np.array([p[1] for p in pairs], dtype=bool)
    )


def calibration_bin(confidences: Floats) -> np.ndarray:
    """The number of each confidence's bin, 0 to `CALIBRATION_BINS` - 1: each bin is closed above."""
    return np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def exact_mean(values: Floats) -> float:
    """The mean whose sum is rounded once only, so that it is the same in whatever order the samples stand."""
    return math.fsum(values.tolist()) / len(values)


def _binned_error(confidences: Floats, right: Flags) -> float | None:
    if not len(confidences):
        return None
    bins, gaps = calibration_bin(confidences), right - confidences
    return math.fsum(abs(math.fsum(gaps[bins == number].tolist())) for number in np.unique(bins)) / len(confidences)


def _micro_f1(measures: Measures, mask: Flags) -> float | None:
    boxes = int(measures.answered_boxes[mask].sum() + measures.true_boxes[mask].sum())
    return 2 * int(measures.matched_boxes[mask].sum()) / boxes if boxes else None


def _share(hits: Flags) -> float:
    return int(np.count_nonzero(hits)) / len(hits) if len(hits) else 0.0
