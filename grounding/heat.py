"""Where a box could be: from the digit probabilities of a written answer to the chance that a point lies inside.

Each coordinate has a distribution, given the numbers that were written before it. They are taken as independent, so the
chance that (x, y) is inside is P(x1 <= x) P(x <= x2) P(y1 <= y) P(y <= y2). This is the doubt along the path that the
answer took: what the model would have written after another first number stays unknown.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grounding.boxes import Box
from grounding.formats import BoxFormat, Frame

CONDITION = (
    "The chance that a point lies inside the box, from the probabilities of its digits. Each number counts as it "
    "stands after those written before it: a quite different box, begun with another number, does not show."
)


class _Share(Protocol):
    """A part of a number's probability, from `low` to `high` in the numbers of the answer."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def probability(self) -> float: ...


@dataclass(frozen=True, order=True)
class Band:
    """A share, 0.0 to 1.0, of a coordinate's probability: evenly from `low_px` to `high_px`, or all on one line where
    they are equal."""

    low_px: float
    high_px: float
    share: float

    def up_to(self, px: float) -> float:
        """The part of the share at or below `px`."""
        if px >= self.high_px:
            return self.share
        if px < self.low_px:
            return 0.0
        return self.share * (px - self.low_px) / (self.high_px - self.low_px)


@dataclass(frozen=True)
class BoxHeat:
    """How sure each side of a box is. `x1`, `y1`, `x2`, `y2` are the distributions of its sides in pixels of the
    original image, each summing up to 1."""

    box: Box
    image_size_wh: tuple[int, int]
    x1: tuple[Band, ...]
    y1: tuple[Band, ...]
    x2: tuple[Band, ...]
    y2: tuple[Band, ...]

    def grid(self, rows: int, columns: int) -> tuple[tuple[float, ...], ...]:
        """[rows][columns], the top row first: the chance, 0.0 to 1.0, that the centre of a cell is inside the box."""
        width, height = self.image_size_wh
        across = _inside(self.x1, self.x2, [(column + 0.5) * width / columns for column in range(columns)])
        down = _inside(self.y1, self.y2, [(row + 0.5) * height / rows for row in range(rows)])
        return tuple(tuple(x * y for x in across) for y in down)

    def interval_px(self, side: str, level: float = 0.9) -> tuple[float, float]:
        """Between which pixels a side ("x1", "y1", "x2", "y2") lies with this probability, as much left out below as
        above."""
        bands: tuple[Band, ...] = getattr(self, side)
        rest = (1.0 - level) / 2
        return _quantile(bands, rest), _quantile(bands, 1.0 - rest)


@dataclass(frozen=True)
class Heat:
    """Where the boxes of one answer could be, in the order of the answer; none of them, and the reason, where a model
    shows no probabilities of digits."""

    boxes: tuple[BoxHeat, ...]
    reason: str = ""

    def grid(self, rows: int, columns: int) -> tuple[tuple[float, ...], ...] | None:
        """[rows][columns]: the chance that a cell's centre is inside the likeliest of the boxes there; None without
        boxes."""
        grids = [box.grid(rows, columns) for box in self.boxes]
        if not grids:
            return None
        return tuple(
            tuple(max(cells) for cells in zip(*some_rows, strict=True)) for some_rows in zip(*grids, strict=True)
        )


def box_heat(
    box: Box, numbers: Sequence[float], shares: Sequence[Sequence[_Share]], box_format: BoxFormat, frame: Frame
) -> BoxHeat:
    """From the four numbers as written and the distribution of each, in the format's order, to the sides in pixels."""
    sides: tuple[list[tuple[float, tuple[Band, ...]]], ...] = ([], [])
    for place, (number, own) in enumerate(zip(numbers, shares, strict=True)):
        axis, px = box_format.px_of(place, number, frame)
        # By the number written: swapped corners are put in order, as the box itself is.
        insort(sides[axis], (px, _bands(own, place, box_format, frame)), key=lambda side: side[0])
    (_, x1), (_, x2) = sides[0]
    (_, y1), (_, y2) = sides[1]
    return BoxHeat(box, frame.image_size_wh, x1, y1, x2, y2)


def _bands(shares: Sequence[_Share], place: int, box_format: BoxFormat, frame: Frame) -> tuple[Band, ...]:
    total = sum(share.probability for share in shares)
    ends = [(box_format.px_of(place, s.low, frame)[1], box_format.px_of(place, s.high, frame)[1]) for s in shares]
    bands = (Band(low, high, s.probability / total) for (low, high), s in zip(ends, shares, strict=True))
    return tuple(sorted(bands))


def _inside(lower: Sequence[Band], upper: Sequence[Band], points_px: Sequence[float]) -> list[float]:
    """For each point the chance that it lies between both sides."""
    return [
        sum(band.up_to(px) for band in lower) * max(0.0, 1.0 - sum(band.up_to(px) for band in upper))
        for px in points_px
    ]


def _quantile(bands: Sequence[Band], level: float) -> float:
    """The least pixel up to which at least this share lies, to a hundredth of a pixel."""
    low, high = min(band.low_px for band in bands), max(band.high_px for band in bands)
    while high - low > 0.01:
        middle = (low + high) / 2
        if sum(band.up_to(middle) for band in bands) >= level - 1e-9:
            high = middle
        else:
            low = middle
    return high
