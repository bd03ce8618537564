"""Box to text to box: whether every box comes back, and what the model's coarse numbers cost."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path

from grounding.boxes import Box, iou
from grounding.errors import BoxError
from grounding.formats import BoxFormat, Frame
from grounding.records import Sample, Status
from grounding.training.preflight.headers import Header
from grounding.training.preflight.records import BoxLoss, Finding, Rounding

TINY_IOU = 0.9
"""Below this, rounding alone costs a box more than a tenth of its IoU."""
_WORST = 24
_PLAYS_PX = 1e-6


def round_trip(
    samples: Sequence[Sample], headers: Mapping[Path, Header], text_format: BoxFormat
) -> tuple[Rounding, list[Finding]]:
    """Write the boxes of every sample as the model should, read them with the parser that reads the model, compare.

    Blocks: a format that can't say what a sample says; boxes that don't come back, or with a side moved by more than
    one step. Lists: boxes so small that rounding leaves an IoU under `TINY_IOU`. Formats in pixels of the resized
    picture are checked here on the picture's own size.
    """
    unsayable: list[str] = []
    lost: list[str] = []
    losses: list[tuple[float, str, Box]] = []
    for sample in samples:
        header = headers.get(sample.image)
        if header is None or header.size_wh is None:
            continue
        frame = Frame(header.size_wh)
        clipped = [box.clip(header.size_wh) for box in sample.boxes_xyxy_px]
        boxes = [box for box in clipped if box is not None]
        if len(boxes) < len(clipped):
            continue  # named by the row checks
        try:
            text = text_format.encode(boxes, frame, sample.phrase)
        except BoxError:
            unsayable.append(sample.id)
            continue
        decoded = text_format.decode(text, frame)
        if not _came_back(boxes, decoded.boxes_xyxy_px, decoded.status, text_format.step_px(frame)):
            lost.append(sample.id)
            continue
        losses += [(iou(box, back), sample.id, box) for box, back in zip(boxes, decoded.boxes_xyxy_px, strict=False)]
    return _summary(losses), [*_findings(unsayable, lost, text_format.name), *_tiny(losses)]


def _came_back(boxes: Sequence[Box], back: Sequence[Box], status: Status, step_px: tuple[float, float]) -> bool:
    if not boxes:
        return status is Status.NO_BOX
    if status is not Status.OK:
        return False
    if len(back) != len(boxes):  # two that fall together in the model's numbers count once
        return len(back) < len(boxes) and len(boxes) > 1
    reach = [(step + _PLAYS_PX) for step in step_px] * 2
    return all(
        abs(mine - theirs) <= most
        for box, other in zip(boxes, back, strict=True)
        for mine, theirs, most in zip(box, other, reach, strict=True)
    )


def _summary(losses: Sequence[tuple[float, str, Box]]) -> Rounding:
    worst = heapq.nsmallest(_WORST, losses, key=lambda loss: (loss[0], loss[1]))
    return Rounding(
        boxes=len(losses),
        mean_loss=sum(1 - kept for kept, _, _ in losses) / len(losses) if losses else 0.0,
        below=sum(kept < TINY_IOU for kept, _, _ in losses),
        worst=tuple(BoxLoss(sample, box.rounded(), round(kept, 4)) for kept, sample, box in worst),
    )


def _tiny(losses: Sequence[tuple[float, str, Box]]) -> list[Finding]:
    tiny = sorted((kept, sample) for kept, sample, _ in losses if kept < TINY_IOU)
    if not tiny:
        return []
    sentence = (
        f"{_boxes(len(tiny))} so small that the model's numbers blur {'it' if len(tiny) == 1 else 'them'}: written and "
        f"read again, an IoU of {tiny[0][0]:.2f} is left of the smallest. A larger picture won't help; crop closer."
    )
    return [Finding.of("tiny_boxes", sentence, list(dict.fromkeys(s for _, s in tiny)), blocking=False)]


def _boxes(count: int) -> str:
    return "One box is" if count == 1 else f"{count:,} boxes are"


def _findings(unsayable: Sequence[str], lost: Sequence[str], name: str) -> list[Finding]:
    found = []
    if unsayable:
        sentence = (
            f"{len(unsayable):,} samples say what the format {name} can't write: several boxes, or none. "
            "Train another model on them, or reject them."
        )
        found.append(Finding.of("unsayable", sentence, unsayable, blocking=True))
    if lost:
        sentence = (
            f"The boxes of {len(lost):,} samples don't come back from the text that the model would learn ({name}): "
            "it would learn other boxes than yours. This is a fault of the format, not of your data; please report it."
        )
        found.append(Finding.of("round_trip", sentence, lost, blocking=True))
    return found
