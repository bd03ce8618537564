"""Boxes as COCO and its kin write them: x, y, width, height in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence

from grounding.boxes import Box
from grounding.errors import BoxError

COORDINATES = "bbox: x, y, width, height in pixels of the original image"


def box_from_xywh(numbers: object) -> Box:
    """The box of x, y, width, height in pixels. Raises `BoxError` for anything but four numbers with an area."""
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != 4:
        raise BoxError(f"{str(numbers)[:80]} is no box: expected four numbers x, y, width, height in pixels.")
    try:
        x, y, width, height = (float(number) for number in numbers)
    except (TypeError, ValueError, OverflowError) as error:
        raise BoxError(f"{numbers!r} is no box: expected four numbers x, y, width, height in pixels.") from error
    return Box(x, y, x + width, y + height)


def xywh_of(box: Box) -> list[float]:
    """x, y, width, height in pixels. Width and height are differences, so the way back may miss by a last digit."""
    return [box.x1, box.y1, box.width_px, box.height_px]
