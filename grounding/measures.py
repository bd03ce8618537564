"""What scoring needs to know of each sample, as columns: ten thousand samples are then scored in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grounding.boxes import Box
from grounding.records import Status

if TYPE_CHECKING:
    from grounding.metrics import ScoredSample

MATCH_MIN_IOU = 0.5
STATUSES = tuple(Status)

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RaggedBoxes:
    """So many boxes a sample. `xyxy_px` is [boxes, 4] in pixels of the original image, those of sample i from
    `starts[i]` to `starts[i + 1]`; `starts` is [samples + 1] and begins with 0."""

    xyxy_px: Floats
    starts: Wholes

    @classmethod
    def of(cls, boxes_xyxy_px: Sequence[Sequence[Box]]) -> RaggedBoxes:
        """From the boxes of each sample."""
        flat = [tuple(box) for boxes in boxes_xyxy_px for box in boxes]
        counts = [len(boxes) for boxes in boxes_xyxy_px]
        return cls(np.array(flat, dtype=float).reshape(-1, 4), starts_of(np.array(counts, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Wholes:
        """How many boxes each sample has: [samples]."""
        return np.diff(self.starts)

    @property
    def areas_px(self) -> Floats:
        """Of each box, in square pixels: [boxes]."""
        return (self.xyxy_px[:, 2] - self.xyxy_px[:, 0]) * (self.xyxy_px[:, 3] - self.xyxy_px[:, 1])

    def take(self, rows: Wholes) -> RaggedBoxes:
        """The boxes of these samples, in this order."""
        counts = self.counts[rows]
        return RaggedBoxes(self.xyxy_px[spread(self.starts[rows], counts)], starts_of(counts))

    def row(self, row: int) -> Floats:
        """The boxes of one sample: [boxes, 4]."""
        return self.xyxy_px[self.starts[row] : self.starts[row + 1]]


@dataclass(frozen=True, eq=False)
class Measures:
    """The columns that `metrics.summarise` reads, one row a sample.

    `iou`: as `ScoredSample.iou`. `status`: an index into `STATUSES`. `true_boxes`, `answered_boxes`, `matched_boxes`:
    how many, and how many of the answered ones are matched to a true one at IoU >= 0.5. `confidence`: NaN where it is
    not known. The answered boxes that have a confidence of their own stand in a second table: `box_sample` (whose row,
    rising), `box_confidence`, and `box_right` (whether it is matched).
    """

    iou: Floats
    status: NDArray[np.int8]
    true_boxes: Wholes
    answered_boxes: Wholes
    matched_boxes: Wholes
    confidence: Floats
    box_sample: Wholes
    box_confidence: Floats
    box_right: Flags

    def __len__(self) -> int:
        return len(self.iou)

    @property
    def has_target(self) -> Flags:
        return self.true_boxes > 0

    @property
    def right(self) -> Flags:
        """IoU >= 0.5 with the truth; for a phrase that refers to nothing, "nothing there"."""
        return self.iou >= MATCH_MIN_IOU

    def is_status(self, status: Status) -> Flags:
        return self.status == STATUSES.index(status)

    def take(self, rows: Wholes) -> Measures:
        """These rows in this order."""
        first, end = (np.searchsorted(self.box_sample, rows, side=side) for side in ("left", "right"))
        boxes = spread(first, end - first)
        return Measures(
            self.iou[rows],
            self.status[rows],
            self.true_boxes[rows],
            self.answered_boxes[rows],
            self.matched_boxes[rows],
            self.confidence[rows],
            np.repeat(np.arange(len(rows)), end - first),
            self.box_confidence[boxes],
            self.box_right[boxes],
        )

    def only(self, mask: Flags) -> Measures:
        """Those rows for which `mask` [samples] holds."""
        return self.take(np.flatnonzero(mask))


def measure(
    truth: RaggedBoxes,
    answer: RaggedBoxes,
    iou: Floats,
    status: NDArray[np.int8],
    confidence: Floats,
    box_confidences: tuple[Wholes, Floats],
) -> Measures:
    """The columns from true and answered boxes. `box_confidences` is (how many each sample has, all of them in order):
    as many as it has boxes answered, or none. Raises `ValueError` where it is neither."""
    counts, values = box_confidences
    if np.any((counts > 0) & (counts != answer.counts)):
        raise ValueError("a sample has not as many confidences as boxes")
    matched = matched_boxes(answer, truth) >= 0
    box_sample = np.repeat(np.arange(len(answer)), answer.counts)
    known = (counts > 0)[box_sample]
    return Measures(
        iou=iou,
        status=status,
        true_boxes=truth.counts,
        answered_boxes=answer.counts,
        matched_boxes=np.bincount(box_sample, weights=matched, minlength=len(answer)).astype(np.int64),
        confidence=confidence,
        box_sample=box_sample[known],
        box_confidence=values,
        box_right=matched[known],
    )


def measures_of(rows: Sequence[ScoredSample]) -> Measures:
    """The columns of scored samples."""
    predictions = [row.prediction for row in rows]
    given = [prediction.box_confidences for prediction in predictions]
    return measure(
        RaggedBoxes.of([row.sample.boxes_xyxy_px for row in rows]),
        RaggedBoxes.of([prediction.boxes_xyxy_px for prediction in predictions]),
        np.array([row.iou for row in rows], dtype=float),
        np.array([STATUSES.index(prediction.status) for prediction in predictions], dtype=np.int8),
        np.array([np.nan if p.confidence is None else p.confidence for p in predictions], dtype=float),
        (
            np.array([len(values) for values in given], dtype=np.int64),
            np.array([value for values in given for value in values], dtype=float),
        ),
    )


def matched_boxes(predicted: RaggedBoxes, truth: RaggedBoxes, min_iou: float = MATCH_MIN_IOU) -> Wholes:
    """For each predicted box the number of its true box within its sample, or -1: [predicted boxes].

    Within a sample, pairs with IoU >= `min_iou` are taken greedily by falling IoU, of equal ones the first predicted
    and then the first true box.
    """
    found = np.full(len(predicted.xyxy_px), -1, dtype=np.int64)
    for of_sample, i, j, _ in _greedy_rounds(predicted, truth, min_iou):
        found[i] = j - truth.starts[of_sample]
    return found


def ious(first_xyxy_px: Floats, second_xyxy_px: Floats) -> Floats:
    """`boxes.iou` of each pair of rows, to the bit: [n, 4] and [n, 4] to [n], 0.0 to 1.0."""
    ends, begins = (np.minimum, 2), (np.maximum, 0)
    x2_y2, x1_y1 = (of(first_xyxy_px[:, k : k + 2], second_xyxy_px[:, k : k + 2]) for of, k in (ends, begins))
    overlap_wh = np.maximum(x2_y2 - x1_y1, 0.0)
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first_xyxy_px, second_xyxy_px)]
    intersection = overlap_wh[:, 0] * overlap_wh[:, 1]
    with np.errstate(over="ignore"):  # of two boxes of 1e154 px a side, as `boxes.iou` has it
        return np.minimum(1.0, intersection / (areas[0] + areas[1] - intersection))


def set_ious(predicted: RaggedBoxes, truth: RaggedBoxes) -> Floats:
    """`boxes.set_iou` of each row of two collections of as many rows: [rows], 0.0 to 1.0."""
    found = np.where((predicted.counts == 0) & (truth.counts == 0), 1.0, 0.0)
    single = np.flatnonzero((truth.counts == 1) & (predicted.counts > 0))
    if len(single):
        found[single] = ious(predicted.xyxy_px[predicted.starts[single]], truth.xyxy_px[truth.starts[single]])
    several = np.flatnonzero((truth.counts > 1) & (predicted.counts > 0))
    if len(several):
        predicted, truth = predicted.take(several), truth.take(several)
        total = np.zeros(len(several))
        for of_sample, _, _, overlap in _greedy_rounds(predicted, truth, float(np.nextafter(0.0, 1.0))):
            total[of_sample] += overlap  # in the order of `set_iou`: the same to the bit
        found[several] = total / np.maximum(predicted.counts, truth.counts)
    return found


def starts_of(counts: Wholes) -> Wholes:
    """Where each of so many begins, and the end of the last: [n] to [n + 1]."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def spread(starts: Wholes, counts: Wholes) -> Wholes:
    """`counts[k]` whole numbers from `starts[k]` on, for each k one after the other."""
    return np.repeat(starts - starts_of(counts)[:-1], counts) + np.arange(int(counts.sum()))


def _pairs(predicted: RaggedBoxes, truth: RaggedBoxes) -> tuple[Wholes, Wholes, Wholes]:
    """(sample, predicted box, true box) of every pair within a sample, predicted boxes first in order."""
    of_box = np.repeat(np.arange(len(predicted)), predicted.counts)
    partners = truth.counts[of_box]
    i = np.repeat(np.arange(len(of_box)), partners)
    return of_box[i], i, spread(truth.starts[of_box], partners)


def _greedy_rounds(
    predicted: RaggedBoxes, truth: RaggedBoxes, min_iou: float
) -> Iterator[tuple[Wholes, Wholes, Wholes, Floats]]:
    """The greedy pairs with IoU >= `min_iou`, in rounds of the best one that is left of every sample: (sample,
    predicted box, true box, IoU) of each, [pairs of the round]."""
    of_sample, i, j = _pairs(predicted, truth)
    overlap = ious(predicted.xyxy_px[i], truth.xyxy_px[j])
    order = np.lexsort((-overlap, of_sample))  # stable: equal pairs keep their order
    order = order[overlap[order] >= min_iou]
    of_sample, i, j, overlap = of_sample[order], i[order], j[order], overlap[order]
    taken_i, taken_j = np.zeros(len(predicted.xyxy_px), dtype=bool), np.zeros(len(truth.xyxy_px), dtype=bool)
    while len(i):
        best = np.flatnonzero(np.diff(of_sample, prepend=-1))
        yield of_sample[best], i[best], j[best], overlap[best]
        taken_i[i[best]] = taken_j[j[best]] = True
        left = ~(taken_i[i] | taken_j[j])
        of_sample, i, j, overlap = of_sample[left], i[left], j[left], overlap[left]
