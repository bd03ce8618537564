"""Accuracy over the IoU threshold, and how far confidence can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grounding.compared.comparison import Comparison
from grounding.measures import Flags
from grounding.metrics import CALIBRATION_BINS, calibration_bin, exact_mean

CURVE_THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""0.05 to 0.95 in steps of 0.05."""


@dataclass(frozen=True)
class Curve:
    """`accuracy[k]`: the share of the samples with a target whose IoU is >= `thresholds[k]`, as `Scores.accuracy`.
    0.0 throughout where there is none."""

    letter: str
    name: str
    thresholds: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence is above `low` and at most `high` (the first bin: also 0.0). `mean_confidence` and
    `share_right` are None in an empty one."""

    low: float
    high: float
    count: int
    mean_confidence: float | None
    share_right: float | None


@dataclass(frozen=True)
class Calibration:
    """`bins` are those of `metrics.calibration_error`; all are empty where no confidence is known."""

    letter: str
    name: str
    bins: tuple[Bin, ...]

    @property
    def count(self) -> int:
        return sum(one.count for one in self.bins)


def accuracy_curves(comparison: Comparison, mask: Flags | None = None) -> tuple[Curve, ...]:
    """One curve a side over the samples that `mask` holds for, by default those that count."""
    chosen = comparison.counted if mask is None else mask
    curves = []
    for side in comparison.sides:
        measures = side.answers.measures
        ious = np.sort(measures.iou[chosen & measures.has_target])
        reached = len(ious) - np.searchsorted(ious, CURVE_THRESHOLDS, side="left")
        accuracy = tuple(int(hits) / len(ious) if len(ious) else 0.0 for hits in reached)
        curves.append(Curve(side.letter, side.name, CURVE_THRESHOLDS, accuracy))
    return tuple(curves)


def calibrations(comparison: Comparison, mask: Flags | None = None) -> tuple[Calibration, ...]:
    """Confidence against the share that is right, one a side, over the samples that `mask` holds for."""
    chosen = comparison.counted if mask is None else mask
    found = []
    for side in comparison.sides:
        measures = side.answers.measures
        known = chosen & ~np.isnan(measures.confidence)
        confidence, right = measures.confidence[known], measures.right[known]
        numbers = calibration_bin(confidence)
        bins = tuple(_bin(k, confidence[numbers == k], right[numbers == k]) for k in range(CALIBRATION_BINS))
        found.append(Calibration(side.letter, side.name, bins))
    return tuple(found)


def _bin(number: int, confidence: np.ndarray, right: Flags) -> Bin:
    low, high = number / CALIBRATION_BINS, (number + 1) / CALIBRATION_BINS
    if not len(confidence):
        return Bin(low, high, 0, None, None)
    return Bin(low, high, len(confidence), exact_mean(confidence), int(np.count_nonzero(right)) / len(right))
