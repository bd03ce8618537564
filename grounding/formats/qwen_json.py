"""Qwen2.5-VL and Qwen3-VL: a JSON list of objects with the key `bbox_2d`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from grounding.formats.base import AnswerShape, Frame, Integers
from grounding.formats.grid import Axis, GridFormat
from grounding.formats.reading import FENCE, NUMBER, four_numbers, json_objects, plain_line, quadruples, says_empty_list

KEYS = ("bbox_2d", "bbox")
_KEYED_BOX = re.compile(rf"(?<!\w)bbox(?:_2d)?+[\"']?+\s*+:\s*+\[({NUMBER}(?:,{NUMBER}){{3}})(?=[\],])")


class _QwenJson(GridFormat):
    """Both families: only the numbers differ."""

    fenced: bool

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        x_axis, y_axis = self.axes(frame)
        across, down = Integers(x_axis.last), Integers(y_axis.last)
        compact = AnswerShape("[", ('{"bbox_2d": [', ", ", ", ", ", ", "]}"), ", ", "]", "[]", (across, down) * 2)
        if not self.fenced:
            return compact
        return AnswerShape(
            opening="```json\n[\n",
            around=('\t{"bbox_2d": [', ", ", ", ", ", ", f'], "label": {_json_text(phrase)}}}'),
            between=",\n",
            closing="\n]\n```",
            nothing="```json\n[]\n```",
            numbers=compact.numbers,
        )

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates code fences, prose around the list, single quotes, numbers as strings, an extra number, the
        key `bbox`, and a list cut short after a complete box."""
        body = FENCE.sub("", text).strip()
        if says_empty_list(body):
            return []
        try:
            return [numbers for entry in json_objects(json.loads(body)) if (numbers := _box_of(entry))] or None
        except (ValueError, RecursionError):
            # Prose around the list, other quotes, or a list cut short: take the boxes that are complete.
            return quadruples(match.group(1).split(",") for match in _KEYED_BOX.finditer(body))


@dataclass(frozen=True)
class QwenJson1000(_QwenJson):
    """Qwen3-VL: `[{"bbox_2d": [x1, y1, x2, y2]}]`, integers 0 to 1000 of width and height (`xyxy_1000`).

    `fenced`: as Qwen3-VL itself writes, in a code fence, an object a line, with the phrase as its label.
    Source: QwenLM/Qwen3-VL, evaluation/ODinW-13/run_odinw.py, which divides by 1000 and multiplies by the
    size of the original image. `[]` stands for "nothing fits the phrase".
    """

    fenced: bool = False
    name = "qwen_json_1000"

    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        axis = Axis(steps=1000, last=1000, full=1000)
        return axis, axis


@dataclass(frozen=True)
class QwenJsonPixels(_QwenJson):
    """Qwen2.5-VL: the same JSON with whole pixels of the picture as the model sees it, after resizing.

    Source: QwenLM/Qwen3-VL, qwen-vl-finetune/tools/process_bbox.ipynb.
    """

    fenced: bool = True
    name = "qwen_json_pixels"

    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        width, height = frame.seen_size_wh
        return Axis(width, width, width), Axis(height, height, height)


def _json_text(phrase: str) -> str:
    """The phrase as a JSON string. Its brackets are escaped: in an answer cut short no phrase passes for a box."""
    return json.dumps(plain_line(phrase), ensure_ascii=False).replace("[", "\\u005b")


def _box_of(entry: dict[str, object]) -> list[float] | None:
    for key in KEYS:
        values = entry.get(key)
        if isinstance(values, list):
            return four_numbers(values)
    return None
