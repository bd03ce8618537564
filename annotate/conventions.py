"""What four numbers of a box mean in answers of models, and the way from each meaning to pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from grounding.boxes import Box
from grounding.errors import RecordError

XYXY_1000 = "xyxy_1000"
XYXY_PX = "xyxy_px"
XYXY_SHARE = "xyxy_share"
XYXY_PADDED_SHARE = "xyxy_padded_share"
MEANINGS = {
    XYXY_1000: "0 to 1000 of width and height, as Qwen2-VL, Qwen3-VL and InternVL write",
    XYXY_PX: "pixels of the original picture; of a resized one: xyxy_px of 1036x756",
    XYXY_SHARE: "0 to 1 of width and height",
    XYXY_PADDED_SHARE: "0 to 1 of the picture padded to a square around its middle, as LLaVA 1.5 writes",
}
_NAMES = re.compile(rf"({'|'.join(MEANINGS)})(?: of (\d{{1,6}}) ?x ?(\d{{1,6}}))?\b")
# A size in other words, such as "1036 by 756" or "1036×756": passed over, its pixels would be taken for the original's.
_SIZE_IN_OTHER_WORDS = re.compile(r"\bof\s*\d|\d\s*(?:[xX×*]|by)\s*\d")


@dataclass(frozen=True)
class Convention:
    """One meaning, by its name in `MEANINGS`. `resized_wh`: the (width, height) in pixels that `xyxy_px` counts in."""

    name: str
    resized_wh: tuple[int, int] | None = None

    @classmethod
    def from_text(cls, text: object) -> Convention:
        """The meaning that a stamp begins with. Raises `RecordError` for any other text."""
        stamp = text.strip() if isinstance(text, str) else ""
        match = _NAMES.match(stamp)
        if match is None or (match[2] and (match[1] != XYXY_PX or not int(match[2]) * int(match[3]))):
            raise RecordError(f"the convention {str(text)[:80]!r} is none of {', '.join(MEANINGS)}.")
        if not match[2] and _SIZE_IN_OTHER_WORDS.search(stamp, match.end()):
            raise RecordError(
                f"the convention {stamp[:80]!r} names a size in other words than xyxy_px of 1036x756 does. "
                f"Expected one of {', '.join(MEANINGS)}."
            )
        return cls(match[1], (int(match[2]), int(match[3])) if match[2] else None)

    def box(self, numbers: Sequence[float], image_size_wh: tuple[int, int]) -> Box:
        """Four numbers as a box in pixels of the original picture.

        Raises `RecordError` for numbers outside of the range, `BoxError` for those that make no box.
        """
        highest = {XYXY_1000: 1000.0, XYXY_SHARE: 1.0, XYXY_PADDED_SHARE: 1.0}.get(self.name)
        if highest is not None and not all(0 <= number <= highest for number in numbers):
            raise RecordError(f"the box {list(numbers)} is not {self.name}: expected numbers 0 to {highest:g}.")
        (left, across), (top, down) = self._scales(image_size_wh)
        x1, y1, x2, y2 = numbers
        return Box(x1 * across - left, y1 * down - top, x2 * across - left, y2 * down - top)

    def _scales(self, image_size_wh: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
        """For each side what is padded ahead of it, and the pixels of one unit."""
        width, height = image_size_wh
        if self.name == XYXY_1000:
            return (0, width / 1000), (0, height / 1000)
        if self.name == XYXY_SHARE:
            return (0, width), (0, height)
        if self.name == XYXY_PADDED_SHARE:
            side = max(width, height)
            return ((side - width) // 2, side), ((side - height) // 2, side)
        seen_width, seen_height = self.resized_wh or image_size_wh
        return (0, width / seen_width), (0, height / seen_height)


def numbers_1000(box: Box, image_size_wh: tuple[int, int]) -> list[int]:
    """The box as whole numbers x1, y1, x2, y2, 0 to 1000 of the picture; its sides at least one step apart."""
    width, height = image_size_wh
    x1, x2 = _steps(box.x1, box.x2, width)
    y1, y2 = _steps(box.y1, box.y2, height)
    return [x1, y1, x2, y2]


def _steps(low_px: float, high_px: float, length_px: int) -> tuple[int, int]:
    low, high = (min(1000, max(0, round(px * 1000 / length_px))) for px in (low_px, high_px))
    if high > low:
        return low, high
    low = min(999, low)
    return low, low + 1
