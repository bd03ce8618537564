"""Florence-2 and PaliGemma: one token of the vocabulary for each coordinate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from grounding.formats.base import AnswerShape, Frame, Locations
from grounding.formats.grid import Axis, GridFormat
from grounding.formats.reading import plain_line, quadruples

_FOUR_FLORENCE = re.compile(r"\s*+".join([r"<loc_(\d++)>"] * 4))
_FOUR_PALIGEMMA = re.compile(r"\s*+".join([r"<loc(\d++)>"] * 4))
_BARE_NUMBERS = re.compile(r"(?:[\s,;()\[\]]*+[-+]?+\d++(?:\.\d++)?+){4,}+[\s,;()\[\]]*+")


@dataclass(frozen=True)
class Florence2Locations(GridFormat):
    """Florence-2: `PHRASE<loc_x1><loc_y1><loc_x2><loc_y2>`, 1000 bins a side, further boxes as four further tokens.

    A bin is found by rounding down and read at its centre. The phrase without any box says "nothing there".
    Source: transformers, models/florence2/processing_florence2.py (which also cuts the result to whole pixels).
    """

    name = "florence2_locations"
    spelling = Locations(1000)

    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        axis = Axis(steps=1000, last=999, full=1000, bins=True)
        return axis, axis

    def spell(self, step: int) -> str:
        return self.spelling.symbols[step]

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        words = plain_line(phrase)
        if _BARE_NUMBERS.fullmatch(words):
            words = f'"{words}"'  # alone they would read as coordinates in another spelling
        return AnswerShape(words, ("",) * 5, between="", closing="", nothing=words, numbers=(self.spelling,) * 4)

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates prose and blanks between tokens, extra tokens, an answer cut after a complete box.

        Words without tokens are "nothing there"; four or more bare numbers or too few tokens are unreadable.
        """
        found = quadruples(match.groups() for match in _FOUR_FLORENCE.finditer(text))
        if found:
            return found
        return None if "<loc" in text or _BARE_NUMBERS.fullmatch(text) else []


@dataclass(frozen=True)
class PaliGemmaLocations(GridFormat):
    """PaliGemma: `<loc0123><loc0456><loc0789><loc1000> PHRASE` in the order y1 x1 y2 x2, boxes joined by ` ; `.

    Tokens 0 to 1023, where 1023 is the far edge. An empty answer says "nothing there".
    Sources: tokens, transformers, models/paligemma/processing_paligemma.py; order and scale,
    google-research/big_vision, pp/proj/paligemma/segmentation.py (writes round(share * 1023)) and
    evaluators/proj/paligemma/transfers/segmentation.py (reads token / 1023).
    """

    name = "paligemma_locations"
    y_first = True
    spelling = Locations(1024, "<loc{:04d}>")

    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        axis = Axis(steps=1023, last=1023, full=1023)
        return axis, axis

    def spell(self, step: int) -> str:
        return self.spelling.symbols[step]

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        words = plain_line(phrase)
        after = f" {words}" if words else ""
        around = ("", "", "", "", after)
        return AnswerShape("", around, between=" ; ", closing="", nothing="", numbers=(self.spelling,) * 4)

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates prose around, blanks between tokens, extra tokens, an answer cut after a complete box."""
        if not text.strip():
            return []
        return quadruples(match.groups() for match in _FOUR_PALIGEMMA.finditer(text))
