"""Wordings that do not belong into a phrase: markup, coordinates, talk of marks on the picture, words of place."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A pattern whose first match is told in `sentence`; searched for only where the phrase has a word in common with
    `words_needed`, if there are any."""

    code: str
    pattern: re.Pattern[str]
    sentence: str
    words_needed: frozenset[str] = frozenset()


MARKUP = Rule(
    "markup",
    re.compile(
        r"</?[a-z][a-z0-9]{0,20}(?:\s[^<>]{0,200})?/?>"  # a tag
        r"|<!--|<\|[^|<>]{0,40}\|>|\[/?inst\]"  # a comment, a token of a chat template
        r"|&(?:[a-z]{2,8}|#x?[0-9a-f]{1,6});"
        r"|\b(?:https?|ftp|file|data|javascript):\S|\bwww\.\w"
        r"|[{}]|```|\*\*"
        r"|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u2060\ufeff\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
        r"|\ufffd|Ã[\x80-\xbf©¨¤¶¼±]|â€",  # letters broken by a wrong encoding
        re.IGNORECASE,
    ),
    "{found} is markup or a stray character, not part of a description. Take it out.",
)
COORDINATES = Rule(
    "coordinates",
    re.compile(
        r"[(\[]\s?-?\d[\d.]{0,8}\s?[,;]\s?-?\d[\d.,;\s-]{0,40}[)\]]"  # (12, 30) or [1, 2, 3, 4]
        r"|(?<![\d.,])\d[\d.]{0,8}(?:\s?[,;]\s?\d[\d.]{0,8}){3}"
        r"|(?<![\w.])\d{1,4}(?:\s\d{1,4}){3}(?![\w.])"
        r"|\b0?\.\d{2,8}\s?[,;\s]\s?0?\.\d{2,8}\b"
        r"|\b(?:[xywh][12]?|x_?(?:min|max)|y_?(?:min|max)|width|height)\s?[=:]\s?-?\d"
        r"|\b\d{1,5}\s?(?:px|pixels?)\b|<?loc_?\d{2,4}>?|\bbbox_2d\b",
        re.IGNORECASE,
    ),
    "{found} looks like coordinates. Say what the object looks like; the box says where it is.",
)
_INK = r"(?:red|green|blue|yellow|pink|purple|cyan|magenta|orange|white|black|coloured|colored|drawn)"
_OUTLINE = r"(?:circle|box|rectangle|ellipse|oval|outline|marker|bounding|contour|mask|arrow|frame)"
_DRAWN = r"(?:circled|encircled|highlighted|outlined|boxed|marked|annotated|masked)"
_ANY_OBJECT = r"(?:(?:object|item|thing|region|area|person|part|one|spot|place|section|animal)s?|people)"
_MARKER_WORDS = """
bounding bound annotation truth bbox bboxes box boxes rectangle circle ellipse oval outline marker mask circled
encircled highlighted outlined boxed marked annotated masked surrounded enclosed indicated shown pointed selected
specified segmented pointing points arrow target interest region area
"""
MARKER = Rule(
    "marker",
    re.compile(
        r"\b(?:bounding|bound|annotation|ground truth) ?-? ?box(?:es)?\b|\bb-?box(?:es)?\b"
        # "inside the red box", "in the circle"; a box on a table is no marker, and a cat may sit in a box
        rf"|\b(?:in|inside|within|under|by|at) (?:the|this|that) {_INK} (?:rectangle|circle|ellipse|oval|outline)\b"
        rf"|\b(?:in|inside|within|under|by|at) (?:the|this|that) {_INK} (?:marker|mask)\b"
        r"|\b(?:in|inside|within) (?:the|this|that) (?:red|green|blue|yellow|pink|cyan|magenta) box\b"
        r"|\b(?:inside|within|in) (?:the|this|that) (?:rectangle|ellipse|outline|circle|marked box|drawn box)\b"
        r"|\b(?:in|inside|within|by|at|under) (?:the|this) marker\b"
        # "man circled in red", "object marked with a box"
        rf"|\b{_DRAWN} (?:in|with|by|inside) (?:the |a |an )?{_INK}(?: {_OUTLINE})?(?: (?:pen|ink|line))?$"
        rf"|\b{_DRAWN} (?:in|with|by|inside) (?:the |a |an )?(?:{_INK} )?{_OUTLINE}\b"
        rf"|\b(?:surrounded|enclosed|indicated|shown|pointed (?:at|to)) by (?:the |a |an )?(?:{_INK} )?{_OUTLINE}\b"
        # "the circled dog", "the highlighted area", "marked object"
        r"|^(?:the |a |this )?(?:circled|encircled|boxed) \w"
        rf"|\b(?:{_DRAWN}|selected|indicated|specified|annotated|boxed|segmented) {_ANY_OBJECT}\b"
        rf"|{_ANY_OBJECT} (?:that is |which is |is |being )?(?:circled|encircled|highlighted|outlined|boxed|annotated)$"
        r"|\b(?:circled|encircled|highlighted|annotated) in (?:the|this) (?:image|picture|photo)\b"
        rf"|\b{_INK} (?:bounding|marker circle|circle marks|box marks|arrow points?)\b"
        r"|\b(?:arrow|marker|circle) (?:is )?(?:pointing|points) (?:at|to)\b"
        r"|\b(?:target object|object of interest|region of interest|ground truth|segmentation mask|annotated)\b"
        r"|^(?:this|the) (?:region|area)$",
        re.IGNORECASE,
    ),
    "{found} speaks of a mark drawn on the picture. Who reads the phrase sees none: say what the object looks like.",
    frozenset(_MARKER_WORDS.split()),
)
_LOCATION_WORDS = """
left leftmost lefthand leftside right rightmost righthand rightside top topmost bottom bottommost uppermost lowermost
centermost middlemost middle center centre upper lower corner from clock o'clock
"""
_SIDE = r"(?:left|right|top|bottom|upper|lower|middle|center|centre)"
LOCATION = Rule(
    "location",
    re.compile(
        r"\bleft(?! ?-?overs?\b)(?:most| ?-?hand| ?side)?\b"
        r"|\bright(?! (?:now|angles?|before|after|next|behind|beside)\b)(?:most| ?-?hand| ?side)?\b"
        r"|\b(?:topmost|bottommost|uppermost|lowermost|leftside|rightside|centermost|middlemost)\b"
        r"|\bmiddle\b(?! ?-? ?aged?\b| finger\b)"
        r"|(?<!shopping )(?<!entertainment )(?<!sports )\b(?:center|centre)\b(?! ?-?pieces?\b)"
        rf"|\b(?:on|at|in|from|to|near) (?:the )?(?:very )?(?:top|bottom)\b(?! of)"
        rf"|\b(?:top|bottom|upper|lower) (?:row|shelf|{_SIDE}|corner|half|part|portion|side|one|area)\b"
        r"|\b(?:top|bottom) of (?:the )?(?:image|picture|photo|pic|screen|frame)\b"
        r"|^(?:the )?(?:top|bottom)$|^(?:the )?bottom \w"
        r"|\b(?:in|at) (?:the )?corner\b"
        r"|\b(?:first|second|third|fourth|1st|2nd|3rd|4th|last) (?:one |\w{1,20} )?from\b"
        r"|\b\d{1,2} ?o ?'? ?clock\b",
        re.IGNORECASE,
    ),
    "{found} says where the object is. This data set allows no words of place: say what it looks like.",
    frozenset(_LOCATION_WORDS.split()),
)
