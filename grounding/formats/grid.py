"""Boxes on a grid over the picture: what all formats share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.formats.base import AnswerShape, Decoded, Frame
from grounding.formats.reading import behind_thoughts
from grounding.records import Status


@dataclass(frozen=True)
class Axis:
    """How positions along one side of the picture become numbers.

    The side has `steps` steps, and the numbers of steps 0 to `last` can be written. The number `full` stands for
    the far edge. `bins`: a number names a step, read at its centre; otherwise it names the line where one begins.
    """

    steps: int
    last: int
    full: float
    bins: bool = False

    def steps_of(self, low_px: float, high_px: float, length_px: int) -> tuple[int, int]:
        """Both ends as steps 0 to `last`, at least one apart, so that every box reads back as a box."""
        low, high = (min(float(length_px), max(0.0, px)) * self.steps / length_px for px in (low_px, high_px))
        nearest = math.floor if self.bins else round
        first, second = min(self.last, nearest(low)), min(self.last, nearest(high))
        if second > first:
            return first, second
        first = min(self.last - 1, max(0, math.floor((low + high) / 2 - self.offset)))
        return first, first + 1

    def px(self, number: float, length_px: int) -> float:
        """Where a number lies, 0 to `length_px`."""
        return min(float(length_px), max(0.0, (number + self.offset) * length_px / self.full))

    def reaches(self, number: float) -> bool:
        """Whether a number can be meant as a position: models overshoot the picture a little, not by its own length."""
        return -self.full <= number <= 2 * self.full

    @property
    def offset(self) -> float:
        return 0.5 if self.bins else 0.0


class GridFormat(ABC):
    """The part of `BoxFormat` that is the same for every family: a subclass says how it writes and reads."""

    y_first = False

    @abstractmethod
    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape: ...

    @abstractmethod
    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        """The x and the y axis."""

    @abstractmethod
    def read(self, text: str) -> list[list[float]] | None:
        """Every box as four numbers in the order written; [] for "nothing there"; None when unreadable."""

    def spell(self, step: int) -> str:
        """The text of one number."""
        return str(step)

    def encode(self, boxes_xyxy_px: Sequence[Box], frame: Frame, phrase: str = "") -> str:
        """The answer for these boxes. Sides closer than one step are pushed apart, so every box reads back as one."""
        return self.shape(frame, phrase).write([self.quadruple(box, frame) for box in boxes_xyxy_px])

    def quadruple(self, box: Box, frame: Frame) -> list[str]:
        """The four number texts of a box in the order this format writes them."""
        width, height = frame.image_size_wh
        x_axis, y_axis = self.axes(frame)
        x1, x2 = x_axis.steps_of(box.x1, box.x2, width)
        y1, y2 = y_axis.steps_of(box.y1, box.y2, height)
        return [self.spell(step) for step in ((y1, x1, y2, x2) if self.y_first else (x1, y1, x2, y2))]

    def decode(self, text: str, frame: Frame) -> Decoded:
        """Boxes of the answer, clipped to the image; swapped corners put in order; a repeated box counts once.

        A box with a number below minus the full range or beyond twice that is left out: clipped, it would pass for
        an answer, and such a number has lost its end (`44888777777777969696969699`) or is of another scale.
        What a model thinks aloud before it answers (`<think>...</think>`) is no part of its answer.
        Status: `no_box` for "nothing there", `degenerate` when boxes were written but none has an area inside
        the image, `unreadable` for anything else.
        """
        written = self.read(behind_thoughts(text))
        if written is not None and not written:
            return Decoded((), Status.NO_BOX)
        quadruples = [numbers for numbers in written or () if self._is_meant(numbers, frame)]
        if not quadruples:
            return Decoded((), Status.UNREADABLE)
        placed = (self.place(numbers, frame) for numbers in quadruples)
        boxes = tuple(dict.fromkeys(box for box in placed if box is not None))
        return Decoded(boxes, Status.OK if boxes else Status.DEGENERATE)

    def place(self, numbers: Sequence[float], frame: Frame) -> Box | None:
        """Four numbers in the order written -> a box clipped to the picture; None when degenerate or far outside."""
        if not self._is_meant(numbers, frame):
            return None
        first, second, third, fourth = numbers
        across, down = ((second, fourth), (first, third)) if self.y_first else ((first, third), (second, fourth))
        width, height = frame.image_size_wh
        x_axis, y_axis = self.axes(frame)
        left, right = sorted(x_axis.px(number, width) for number in across)
        top, bottom = sorted(y_axis.px(number, height) for number in down)
        try:
            return Box(left, top, right, bottom)
        except BoxError:
            return None

    def px_of(self, place: int, number: float, frame: Frame) -> tuple[int, float]:
        """Number `place` (0 to 3, in the order written): its axis (0: x, 1: y), and where it lies on it in pixels."""
        axis = (place + self.y_first) % 2
        return axis, self.axes(frame)[axis].px(number, frame.image_size_wh[axis])

    def _is_meant(self, numbers: Sequence[float], frame: Frame) -> bool:
        """Whether all four numbers can be positions on the picture."""
        x_axis, y_axis = self.axes(frame)
        axes = (y_axis, x_axis) if self.y_first else (x_axis, y_axis)
        return all(axis.reaches(number) for axis, number in zip(axes * 2, numbers, strict=True))

    def step_px(self, frame: Frame) -> tuple[float, float]:
        """One quantisation step along x and y, in pixels of the original image."""
        width, height = frame.image_size_wh
        x_axis, y_axis = self.axes(frame)
        return width / x_axis.steps, height / y_axis.steps
