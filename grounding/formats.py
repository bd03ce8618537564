"""Box <-> text, one class per way of writing. Every box form other than `xyxy_px` lives in this file only."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.records import Status


@dataclass(frozen=True)
class Decoded:
    """What an answer says: boxes in `xyxy_px` inside the image, and why there are none where there are none."""

    boxes_xyxy_px: tuple[Box, ...]
    status: Status


class BoxFormat(Protocol):
    """How one model family writes boxes."""

    name: str

    def encode(self, boxes_xyxy_px: Sequence[Box], image_size_wh: tuple[int, int]) -> str:
        """The answer that the model should write for these boxes (none: the phrase refers to nothing)."""
        ...

    def decode(self, text: str, image_size_wh: tuple[int, int]) -> Decoded:
        """What an answer of the model means on an image of this (width, height) in pixels."""
        ...


class QwenJson1000:
    """Qwen3-VL: `[{"bbox_2d": [x1, y1, x2, y2]}]`, integers 0 to 1000 of width and height (`xyxy_1000`).

    Source: QwenLM/Qwen3-VL, evaluation/ODinW-13/run_odinw.py, which divides by 1000 and multiplies by the
    size of the original image. `[]` stands for "nothing fits the phrase".
    """

    name = "qwen_json_1000"
    scale = 1000

    def encode(self, boxes_xyxy_px: Sequence[Box], image_size_wh: tuple[int, int]) -> str:
        """The JSON list. Sides closer than one step are pushed apart, so every box reads back as a box."""
        return json.dumps([{"bbox_2d": self._to_1000(box, image_size_wh)} for box in boxes_xyxy_px])

    def decode(self, text: str, image_size_wh: tuple[int, int]) -> Decoded:
        """Boxes of the answer, clipped to the image.

        Tolerates code fences, prose around the list, single quotes, numbers as strings, and a list cut short
        after a complete box. Swapped corners are put in order. A repeated box counts once. Status: `no_box`
        for an empty list, `degenerate` when boxes were written but none has an area inside the image,
        `unreadable` for anything else.
        """
        quadruples = _read_quadruples(text)
        if quadruples is None:
            return Decoded((), Status.UNREADABLE)
        if not quadruples:
            return Decoded((), Status.NO_BOX)
        boxes: list[Box] = []
        for numbers in quadruples:
            box = self._to_px(numbers, image_size_wh)
            if box is not None and box not in boxes:
                boxes.append(box)
        return Decoded(tuple(boxes), Status.OK if boxes else Status.DEGENERATE)

    def _to_1000(self, box: Box, image_size_wh: tuple[int, int]) -> list[int]:
        width, height = image_size_wh
        x1, x2 = _apart(box.x1 / width * self.scale, box.x2 / width * self.scale, self.scale)
        y1, y2 = _apart(box.y1 / height * self.scale, box.y2 / height * self.scale, self.scale)
        return [x1, y1, x2, y2]

    def _to_px(self, numbers: Sequence[float], image_size_wh: tuple[int, int]) -> Box | None:
        width, height = image_size_wh
        x1, y1, x2, y2 = numbers
        left, right = sorted(min(float(width), max(0.0, x * width / self.scale)) for x in (x1, x2))
        top, bottom = sorted(min(float(height), max(0.0, y * height / self.scale)) for y in (y1, y2))
        try:
            return Box(left, top, right, bottom)
        except BoxError:
            return None


def _apart(low: float, high: float, scale: int) -> tuple[int, int]:
    """Both ends as integers in 0..scale, at least one step apart and at most one from where they were inside."""
    first, second = (min(scale, max(0, round(value))) for value in (low, high))
    if second > first:
        return first, second
    first = min(scale - 1, max(0, math.floor(low)))
    return first, first + 1


_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)
_NUMBER = r"[\s\"']*[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?[\s\"']*"
_KEYED_BOX = re.compile(rf"bbox_2d[\"']?\s*:\s*\[({_NUMBER}(?:,{_NUMBER}){{3}})(?=[\],])", re.DOTALL)
_EMPTY_LIST = re.compile(r"^[^\[\]{}]*\[\s*\][^\[\]{}]*$")  # the only list of the answer, prose around it or not


def _read_quadruples(text: str) -> list[list[float]] | None:
    """Every `bbox_2d` as four numbers; an empty list for `[]`; None when the text is no answer."""
    body = _FENCE.sub("", text).strip()
    if _EMPTY_LIST.match(body):
        return []
    for reader in (json.loads, ast.literal_eval):
        try:
            found = _from_value(reader(body))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return found or None
    # Prose around the list, or a list cut short: take the boxes that are complete.
    matches = [_numbers(match.group(1).split(",")) for match in _KEYED_BOX.finditer(body)]
    return [numbers for numbers in matches if numbers is not None] or None


def _from_value(value: object) -> list[list[float]]:
    entries = value if isinstance(value, list) else [value]
    found = []
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("bbox_2d"), list):
            numbers = _numbers(entry["bbox_2d"])
            if numbers is not None:
                found.append(numbers)
    return found


def _numbers(values: Sequence[object]) -> list[float] | None:
    """The first four values as finite numbers, or None."""
    try:
        numbers = [float(str(value).strip(" \"'\n\t")) for value in values[:4]]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 and all(math.isfinite(number) for number in numbers) else None
