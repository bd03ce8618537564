"""The figures of a comparison, over all of its samples or some of them; each one is `metrics.summarise_measures`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from grounding.buckets import FIXED_BUCKETS
from grounding.compared.chance import Chance, chance_level
from grounding.compared.columns import DIMENSIONS
from grounding.compared.comparison import Comparison
from grounding.compared.filters import iou_codes
from grounding.errors import RecordError
from grounding.measures import MATCH_MIN_IOU, Flags, Floats, Measures, Wholes
from grounding.metrics import Scores, exact_mean, summarise_measures
from grounding.paired import RESAMPLES, Difference, Resampling, mcnemar_p, wilson_interval
from grounding.records import Status

FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy_50": "Acc@0.5",
        "accuracy_75": "Acc@0.75",
        "mean_iou": "Mean IoU",
        "detection_rate": "Detection rate",
        "no_target_accuracy": "No-target accuracy",
    }
)
"""The figures that have intervals, with what they are called. The last is over phrases that refer to nothing, the
others over those with a target."""
SHARES = frozenset(FIGURES) - {"mean_iou"}
FEW_PICTURES = 20
"""On fewer pictures a figure alone gets Wilson's interval: resampled ones are too narrow there."""
_NO_TARGET = "no_target_accuracy"


class Estimate(NamedTuple):
    """A figure, 0.0 to 1.0, and its 95% interval; None of one picture alone.

    `low` and `high` bound it in 95 of 100 resamples of the pictures. Where it is 0.0 or 1.0, or on fewer than
    `FEW_PICTURES` pictures, resampling says too little (all resamples of right answers are right), and they are
    Wilson's of as many trials as pictures (`paired.wilson_interval`): phrases of one picture count as one trial, as if
    they told no more than one, and no mean of values from 0.0 to 1.0 spreads further than a share. So it is rather too
    wide than too narrow. Source: Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, Statistical
    Science 16 (2001), who find Wilson's to hold for few trials and at the ends.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcomes:
    """How b stands against a, sample by sample, at IoU 0.5. `ties` are `both_right` and `both_wrong`. `mcnemar_p`
    (0.0 to 1.0): see `paired.PairedComparison`."""

    wins: int
    losses: int
    both_right: int
    both_wrong: int
    mcnemar_p: float

    @property
    def ties(self) -> int:
        return self.both_right + self.both_wrong


@dataclass(frozen=True)
class Headline:
    """The figures over `count` samples with a target and `no_target_count` without, on `pictures` pictures, those with
    a target on `target_pictures`.

    `scores` are those of each side. `differences` are b against a, one for each of `FIGURES` that there are samples
    for; empty with one side. `estimates` are the figures of a with intervals of their own where it stands alone, else
    empty. `outcomes` are over samples with a target, `no_target_outcomes` over the others; None with one side.
    `chances` are what each side scores by chance, without intervals (`Report.chances` has them); None where that can't
    be told. `left_out`: how many samples that an adapter saw in training are not among these and would be without that.
    """

    count: int
    no_target_count: int
    pictures: int
    target_pictures: int
    scores: tuple[Scores, ...]
    differences: Mapping[str, Difference]
    estimates: Mapping[str, Estimate]
    outcomes: Outcomes | None
    no_target_outcomes: Outcomes | None
    chances: tuple[Chance | None, ...]
    left_out: int
    resamples: int
    seed: int


@dataclass(frozen=True)
class Bucket:
    """One row of a breakdown; see `Headline`. `differences` and `estimates`: those of `FIGURES` that were asked for."""

    name: str
    count: int
    no_target_count: int
    scores: tuple[Scores, ...]
    differences: Mapping[str, Difference]
    estimates: Mapping[str, Estimate]


def headline(
    comparison: Comparison,
    mask: Flags | None = None,
    *,
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Headline:
    """The figures over the samples that `mask` holds for; by default those that count (`Comparison.counted`).

    Intervals are those of `paired.compare_rows` on the same samples, and the same `seed` gives the same ones; without
    `intervals`, what takes most of the time, their ends are None.
    """
    chosen = comparison.counted if mask is None else mask
    sides = [side.answers.measures.only(chosen) for side in comparison.sides]
    scores = tuple(summarise_measures(measures) for measures in sides)
    pictures = comparison.samples.picture[chosen]
    drawing = _Drawing(pictures, resamples if intervals else 0, seed)
    return Headline(
        count=scores[0].count,
        no_target_count=scores[0].no_target_count,
        pictures=len(np.unique(pictures)),
        target_pictures=len(np.unique(pictures[sides[0].has_target])),
        scores=scores,
        differences=_differences(sides, drawing, tuple(FIGURES)),
        estimates=_estimates(sides, drawing, tuple(FIGURES)),
        outcomes=_outcomes(sides, sides[0].has_target),
        no_target_outcomes=_outcomes(sides, ~sides[0].has_target),
        chances=tuple(chance_level(comparison, side, chosen, resamples=0) for side in comparison.sides),
        left_out=int(np.count_nonzero(comparison.seen)) if mask is None else 0,
        resamples=resamples,
        seed=seed,
    )


def breakdown(
    comparison: Comparison,
    dimension: str,
    mask: Flags | None = None,
    *,
    figures: Sequence[str] = ("accuracy_50", "mean_iou", "no_target_accuracy"),
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Bucket, ...]:
    """The figures by a dimension of `columns.DIMENSIONS`, in the order of a report; empty buckets are left out.
    Without `intervals`, what takes most of the time where there are many buckets, their ends are None.

    Raises `RecordError` for another dimension or figure. For IoU there is `iou_counts`.
    """
    if dimension not in DIMENSIONS:
        raise RecordError(f"There is no dimension {dimension!r}: expected one of {', '.join(DIMENSIONS)}.")
    if unknown := set(figures) - set(FIGURES):
        raise RecordError(f"There is no figure {min(unknown)!r}: expected some of {', '.join(FIGURES)}.")
    chosen = comparison.counted if mask is None else mask
    buckets = comparison.samples.buckets[dimension]
    return tuple(
        _bucket(comparison, name, inside, (tuple(figures), resamples if intervals else 0, seed))
        for name in comparison.samples.bucket_names(dimension)
        if (inside := chosen & (buckets == name)).any()
    )


def figure_of(scores: Scores, name: str) -> float | None:
    """A figure of `FIGURES` from a side's scores; None where there are no samples for it."""
    if name == _NO_TARGET:
        return scores.no_target_accuracy
    if not scores.count:
        return None
    if name.startswith("accuracy"):
        return scores.accuracy[int(name.rsplit("_", 1)[1]) / 100]
    return float(getattr(scores, name))


def iou_counts(comparison: Comparison, mask: Flags | None = None) -> Mapping[str, tuple[int, ...]]:
    """{bucket of IoU: how many answers of each side fall into it}, those to phrases that refer to nothing too."""
    chosen = comparison.counted if mask is None else mask
    names = FIXED_BUCKETS["iou"]
    counts = [np.bincount(iou_codes(side)[chosen], minlength=len(names)).tolist() for side in comparison.sides]
    return MappingProxyType(dict(zip(names, zip(*counts, strict=True), strict=True)))


def _bucket(comparison: Comparison, name: str, inside: Flags, asked: tuple[tuple[str, ...], int, int]) -> Bucket:
    figures, resamples, seed = asked
    sides = [side.answers.measures.only(inside) for side in comparison.sides]
    scores = tuple(summarise_measures(measures) for measures in sides)
    drawing = _Drawing(comparison.samples.picture[inside], resamples, seed)
    return Bucket(
        name=name,
        count=scores[0].count,
        no_target_count=scores[0].no_target_count,
        scores=scores,
        differences=_differences(sides, drawing, figures),
        estimates=_estimates(sides, drawing, figures),
    )


class _Drawing:
    """Bootstrap samples for figures over samples with a target, and for those over the others. 0 resamples: none."""

    def __init__(self, pictures: Wholes, resamples: int, seed: int) -> None:
        self.pictures = pictures
        self.resamples = resamples
        self.seed = seed

    def over(self, inside: Flags) -> Resampling:
        return Resampling(_numbered(self.pictures[inside]), self.resamples, self.seed)


def _numbered(pictures: Wholes) -> Wholes:
    """Numbers from 0 without a gap in the order in which they come, as `paired.compare_rows` gives them."""
    _, first, inverse = np.unique(pictures, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), dtype=np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[inverse]


def _differences(sides: Sequence[Measures], drawing: _Drawing, figures: Sequence[str]) -> Mapping[str, Difference]:
    found: dict[str, Difference] = {}
    if len(sides) > 1:
        for inside, names in _groups(sides[0], figures):
            pairs = [(_values(sides[0], name)[inside], _values(sides[1], name)[inside]) for name in names]
            found |= zip(names, drawing.over(inside).differences(pairs), strict=True)
    return MappingProxyType({name: found[name] for name in figures if name in found})


def _estimates(sides: Sequence[Measures], drawing: _Drawing, figures: Sequence[str]) -> Mapping[str, Estimate]:
    found: dict[str, Estimate] = {}
    if len(sides) == 1:
        for inside, names in _groups(sides[0], figures):
            columns = [_values(sides[0], name)[inside] for name in names]
            drawn = drawing.over(inside)
            for name, column, bound in zip(names, columns, drawn.intervals(columns), strict=True):
                found[name] = _estimate(exact_mean(column), bound, drawn.pictures)
    return MappingProxyType(found)


def _estimate(value: float, resampled: tuple[float | None, float | None], pictures: int) -> Estimate:
    if resampled == (None, None) or (0.0 < value < 1.0 and pictures >= FEW_PICTURES):
        return Estimate(value, *resampled)
    return Estimate(value, *wilson_interval(value * pictures, pictures))


def _groups(measures: Measures, figures: Sequence[str]) -> Iterator[tuple[Flags, list[str]]]:
    """(over which samples, which figures), where there are any of both."""
    over_targets = [name for name in figures if name != _NO_TARGET]
    for inside, names in ((measures.has_target, over_targets), (~measures.has_target, [_NO_TARGET])):
        if inside.any() and set(names) & set(figures):
            yield inside, names


def _values(measures: Measures, figure: str) -> Floats:
    """What a figure is the mean of: [samples], 0.0 to 1.0."""
    values = {
        "accuracy_50": lambda: measures.iou >= MATCH_MIN_IOU,
        "accuracy_75": lambda: measures.iou >= 0.75,
        "mean_iou": lambda: measures.iou,
        "detection_rate": lambda: measures.is_status(Status.OK),
        _NO_TARGET: lambda: measures.is_status(Status.NO_BOX),
    }[figure]()
    return np.asarray(values, dtype=float)


def _outcomes(sides: Sequence[Measures], inside: Flags) -> Outcomes | None:
    if len(sides) < 2:
        return None
    a, b = sides[0].right[inside], sides[1].right[inside]
    wins, losses = int(np.count_nonzero(b & ~a)), int(np.count_nonzero(a & ~b))
    both_right = int(np.count_nonzero(a & b))
    return Outcomes(wins, losses, both_right, len(a) - wins - losses - both_right, mcnemar_p(wins, losses))
