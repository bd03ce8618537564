"""Shares of width and height as fractions in JSON: no family's own way, for models that were trained on it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from grounding.boxes import Box
from grounding.formats.base import AnswerShape, Decimals, Frame
from grounding.formats.grid import Axis, GridFormat
from grounding.formats.reading import FENCE, NUMBER, json_objects, quadruples, says_empty_list

_KEYS = ("x_min", "y_min", "x_max", "y_max")
_PARTS = r",[\s\"']*+".join(rf"{key}[\"']?+\s*+:({NUMBER})" for key in _KEYS)
_FOUR_KEYS = re.compile(rf"(?<!\w){_PARTS}(?=[}},])")


@dataclass(frozen=True)
class FloatJson(GridFormat):
    """`{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}`, shares 0 to 1 with at most `places` digits.

    One box is a bare object, several are a JSON list of them; `[]` says "nothing there". The shape holds one box.
    """

    places: int = 3
    name = "float_json"

    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        steps: int = 10**self.places
        axis = Axis(steps=steps, last=steps, full=1.0)
        return axis, axis

    def spell(self, step: int) -> str:
        text = f"{step / 10**self.places:.{self.places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        return AnswerShape(
            opening="",
            around=('{"x_min": ', ', "y_min": ', ', "x_max": ', ', "y_max": ', "}"),
            between=None,
            closing="",
            nothing="[]",
            numbers=(Decimals(self.places),) * 4,
        )

    def encode(self, boxes_xyxy_px: Sequence[Box], frame: Frame, phrase: str = "") -> str:
        """As every format; several boxes as a list of what one box is written as."""
        if len(boxes_xyxy_px) < 2:
            return super().encode(boxes_xyxy_px, frame, phrase)
        shape = self.shape(frame, phrase)
        return f"[{', '.join(shape.write([self.quadruple(box, frame)]) for box in boxes_xyxy_px)}]"

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates code fences, prose around, single quotes, numbers as strings, further keys, an answer cut
        after a complete box; the keys in any order where the JSON is sound."""
        body = FENCE.sub("", text).strip()
        if says_empty_list(body):
            return []
        try:
            return quadruples([entry.get(key) for key in _KEYS] for entry in json_objects(json.loads(body)))
        except (ValueError, RecursionError):
            return quadruples(match.groups() for match in _FOUR_KEYS.finditer(body))
