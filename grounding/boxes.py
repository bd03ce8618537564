"""Boxes in pixels of the original image: the only box form inside the program. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grounding.errors import BoxError

SAME_THING_IOU = 0.9
"""Boxes that overlap as much are of the same thing: sources box it for each of its phrases, not always to the pixel."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """One box, `xyxy_px`: floats in pixels of the original image, x2 > x1 and y2 > y1.

    Iterates as x1, y1, x2, y2. Coordinates may lie outside the image until `clip` is called.
    Raises `BoxError` when a coordinate is not finite or the box has no area.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self):
            raise BoxError(f"{tuple(self)} is no box: every coordinate must be a finite number of pixels.")
        # The area of sides below 1e-154 px rounds to zero, and that of sides beyond 1e154 px is not finite.
        if self.x2 <= self.x1 or self.y2 <= self.y1 or not 0 < self.area_px < math.inf:
            raise BoxError(
                f"{tuple(self)} is no box: x2 must be greater than x1 and y2 greater than y1 "
                "(order: x1, y1, x2, y2 in pixels)."
            )

    def __iter__(self) -> Iterator[float]:
        return iter((self.x1, self.y1, self.x2, self.y2))

    @classmethod
    def from_numbers(cls, numbers: Sequence[object]) -> Box:
        """A box from four numbers x1, y1, x2, y2 in pixels; raises `BoxError` for anything else."""
        if isinstance(numbers, str) or not hasattr(numbers, "__len__") or len(numbers) != 4:
            raise BoxError(f"{numbers!r} is no box: expected four numbers x1, y1, x2, y2 in pixels.")
        try:
            return cls(*(float(value) for value in numbers))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, BoxError):
                raise
            raise BoxError(f"{numbers!r} is no box: expected four numbers x1, y1, x2, y2 in pixels.") from error

    @property
    def width_px(self) -> float:
        return self.x2 - self.x1

    @property
    def height_px(self) -> float:
        return self.y2 - self.y1

    @property
    def area_px(self) -> float:
        """Area in square pixels, > 0."""
        return self.width_px * self.height_px

    def clip(self, image_size_wh: tuple[int, int]) -> Box | None:
        """The part inside an image of this (width, height), or None when nothing of the box is inside."""
        width, height = image_size_wh
        x1, y1 = max(0.0, self.x1), max(0.0, self.y1)
        x2, y2 = min(float(width), self.x2), min(float(height), self.y2)
        return Box(x1, y1, x2, y2) if x2 > x1 and (x2 - x1) * (y2 - y1) > 0 else None

    def rounded(self, digits: int = 2) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 rounded for a file or a page; as they are where rounding would leave no box."""
        x1, y1, x2, y2 = (round(value, digits) for value in self)
        return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else (self.x1, self.y1, self.x2, self.y2)


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0.0 to 1.0."""
    overlap_width = min(first.x2, second.x2) - max(first.x1, second.x1)
    overlap_height = min(first.y2, second.y2) - max(first.y1, second.y1)
    if overlap_width <= 0 or overlap_height <= 0:
        return 0.0
    intersection = overlap_width * overlap_height
    return min(1.0, intersection / (first.area_px + second.area_px - intersection))


def giou(first: Box, second: Box) -> float:
    """Generalised IoU, -1.0 (exclusive) to 1.0: IoU less the empty share of the enclosing box.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, equation 1.
    """
    hull = Box(min(first.x1, second.x1), min(first.y1, second.y1), max(first.x2, second.x2), max(first.y2, second.y2))
    overlap = iou(first, second)
    union = (first.area_px + second.area_px) / (1 + overlap)
    return overlap - (hull.area_px - union) / hull.area_px


def set_iou(predicted: Sequence[Box], truth: Sequence[Box]) -> float:
    """How well an answer covers the truth, 0.0 to 1.0.

    One true box: the IoU of the first predicted box, as the RefCOCO evaluations take it. Several: boxes are
    paired greedily by falling IoU, and the sum is divided by the larger of the two counts, so that a missing
    and a superfluous box both cost. No true box: 1.0 for an empty answer, else 0.0.
    """
    if not truth:
        return 0.0 if predicted else 1.0
    if not predicted:
        return 0.0
    if len(truth) == 1:
        return iou(predicted[0], truth[0])
    pairs = sorted(
        ((iou(p, t), i, j) for i, p in enumerate(predicted) for j, t in enumerate(truth)), key=lambda pair: -pair[0]
    )
    used_predicted: set[int] = set()
    used_truth: set[int] = set()
    total = 0.0
    for overlap, i, j in pairs:
        if i not in used_predicted and j not in used_truth:
            used_predicted.add(i)
            used_truth.add(j)
            total += overlap
    return total / max(len(predicted), len(truth))
