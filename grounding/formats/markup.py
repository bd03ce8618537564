"""Qwen2-VL and InternVL: the phrase and its boxes between marks, whole numbers 0 to 1000."""

from __future__ import annotations

import re
from dataclasses import dataclass

from grounding.formats.base import AnswerShape, Frame, Integers
from grounding.formats.grid import Axis, GridFormat
from grounding.formats.reading import FENCE, NUMBER, plain_line, quadruples

_TO_1000 = Axis(steps=1000, last=1000, full=1000)
_NUMBERS = (Integers(1000),) * 4


class _Marked(GridFormat):
    def axes(self, frame: Frame) -> tuple[Axis, Axis]:
        return _TO_1000, _TO_1000


_REF_START, _REF_END = "<|object_ref_start|>", "<|object_ref_end|>"
_BOX_START, _BOX_END = "<|box_start|>", "<|box_end|>"
_PAIRS = re.compile(rf"\(({NUMBER},{NUMBER})(?:,{NUMBER})*+\)\s*+,?+\s*+\(({NUMBER},{NUMBER})(?=[),])")
_PAIR_BEGINS = re.compile(r"\([\s\"']*+[-+]?+\d")
_NEITHER_BOX_NOR_NUMBER = re.compile(r"(?:(?!<\|box_start\|>)\D)*+")
_ROUND_TO_SQUARE = str.maketrans("()", "[]")


@dataclass(frozen=True)
class QwenBoxTokens(_Marked):
    """Qwen2-VL: `<|object_ref_start|>PHRASE<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>`, 0 to 1000.

    Further boxes follow as further `<|box_start|>...<|box_end|>`. The family has no trained way to say "nothing
    there": `none` in place of the box is Boxwright's own. A tokenizer may strip the marks, so `decode` reads
    `PHRASE(12,34),(56,78)` too.
    Source: QwenLM/Qwen3-VL, qwen-vl-finetune/tools/process_bbox.ipynb.
    """

    name = "qwen_box_tokens"

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        ref = f"{_REF_START}{_words_without_pairs(phrase)}{_REF_END}"
        return AnswerShape(
            opening=ref + _BOX_START,
            around=("(", ",", "),(", ",", ")"),
            between=_BOX_END + _BOX_START,
            closing=_BOX_END,
            nothing=ref + "none",
            numbers=_NUMBERS,
        )

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates missing marks, prose around, numbers as strings, an extra number, an answer cut after a box."""
        found = quadruples(f"{match[1]},{match[2]}".split(",") for match in _PAIRS.finditer(text))
        if found:
            return found
        _, ref_end, rest = text.rpartition(_REF_END)
        if ref_end and _NEITHER_BOX_NOR_NUMBER.fullmatch(rest):
            return []
        says_none = text.rstrip(" \t\n.!").lower().endswith("none") and not _PAIR_BEGINS.search(text)
        return [] if says_none else None


def _words_without_pairs(phrase: str) -> str:
    """The phrase; where a number follows a round bracket, square ones instead, for `(1,2),(3,4)` is a box."""
    words = plain_line(phrase)
    return words.translate(_ROUND_TO_SQUARE) if _PAIR_BEGINS.search(words) else words


_QUADRUPLE = re.compile(rf"\[({NUMBER}(?:,{NUMBER}){{3}})(?=[\],])")
_ONE_EMPTY_LIST = re.compile(r"[^\[\]]*+\[\s*+\][^\[\]]*+")
_SQUARE_TO_ROUND = str.maketrans("[]", "()")


@dataclass(frozen=True)
class InternVLBoxes(_Marked):
    """InternVL: `<ref>PHRASE</ref><box>[[x1, y1, x2, y2]]</box>`, 0 to 1000; `[]` for "nothing there".

    `decode` also reads the lists without the marks, which a tokenizer may strip, and a bare list in prose. Square
    brackets in a phrase become round ones: in an answer they mean boxes.
    Source: OpenGVLab/InternVL, internvl_chat/eval/refcoco/evaluate_grounding.py.
    """

    name = "internvl_boxes"

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        ref = f"<ref>{plain_line(phrase).translate(_SQUARE_TO_ROUND)}</ref><box>"
        return AnswerShape(
            opening=ref + "[",
            around=("[", ", ", ", ", ", ", "]"),
            between=", ",
            closing="]</box>",
            nothing=ref + "[]</box>",
            numbers=_NUMBERS,
        )

    def read(self, text: str) -> list[list[float]] | None:
        """Tolerates code fences, missing marks, prose around, numbers as strings, an extra number, an answer cut
        after a complete box."""
        body = FENCE.sub("", text)
        if _ONE_EMPTY_LIST.fullmatch(body):
            return []
        return quadruples(match[1].split(",") for match in _QUADRUPLE.finditer(body))
