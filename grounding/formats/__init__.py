"""Box <-> text, one class per way of writing. Every box form other than `xyxy_px` lives in this package only."""

from grounding.formats.base import AnswerShape, BoxFormat, Decimals, Decoded, Frame, Integers, Locations, NumberSpelling
from grounding.formats.float_json import FloatJson
from grounding.formats.locations import Florence2Locations, PaliGemmaLocations
from grounding.formats.markup import InternVLBoxes, QwenBoxTokens
from grounding.formats.qwen_json import QwenJson1000, QwenJsonPixels

__all__ = [
    "AnswerShape",
    "BoxFormat",
    "Decimals",
    "Decoded",
    "FloatJson",
    "Florence2Locations",
    "Frame",
    "Integers",
    "InternVLBoxes",
    "Locations",
    "NumberSpelling",
    "PaliGemmaLocations",
    "QwenBoxTokens",
    "QwenJson1000",
    "QwenJsonPixels",
]
