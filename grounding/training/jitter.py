"""Boxes moved a little, as no two people draw the same one."""

from __future__ import annotations

import random

from grounding.boxes import Box, iou

LEAST_IOU = 0.9
_LARGEST_MOVE = 0.05


def jitter(box: Box, size_wh: tuple[int, int], rng: random.Random) -> Box:
    """The box with each side moved on its own, by at most 5% of its width or height; IoU with `box` >= 0.9.

    The result lies in the picture of `size_wh` pixels as far as `box` does. A move that takes the box below an IoU
    of 0.9 is halved until it doesn't, so the result is never far and never fails.
    """
    across, down = box.width_px * _LARGEST_MOVE, box.height_px * _LARGEST_MOVE
    moves = [rng.uniform(-each, each) for each in (across, down, across, down)]
    while True:
        x1, y1, x2, y2 = (side + move for side, move in zip(box, moves, strict=True))
        width, height = size_wh
        moved = Box(
            max(min(0.0, box.x1), x1),
            max(min(0.0, box.y1), y1),
            min(x2, max(width, box.x2)),
            min(y2, max(height, box.y2)),
        )
        if iou(box, moved) >= LEAST_IOU:
            return moved
        moves = [move / 2 for move in moves]
