"""Boxes in what models and their training files say, in every way of writing that says "box" plainly.

Nothing is repaired here, unlike in a live answer of a model: a box that is written wrongly is an error of its row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from annotate.conventions import XYXY_1000, XYXY_PADDED_SHARE, XYXY_SHARE
from grounding.errors import RecordError

_BOX_KEYS = ("bbox_2d", "bbox")
_SHARE_KEYS = ("x_min", "y_min", "x_max", "y_max")
# Possessive quantifiers: a hostile text must not make them try again.
_NUMBER = r"\s*+([-+]?+\d++(?:\.\d*+)?+(?:[eE][-+]?+\d++)?+)\s*+"
_PAIRS = re.compile(rf"\s*+\({_NUMBER},{_NUMBER}\)\s*+,\s*+\({_NUMBER},{_NUMBER}\)\s*+")
_LIST = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
_MARKS = (("<|box_start|>", "<|box_end|>"), ("<box>", "</box>"))
_REF_MARKS = (("<|object_ref_start|>", "<|object_ref_end|>"), ("<ref>", "</ref>"))
_DENIAL = re.compile(r"\b(?:no|not|none|nothing|cannot)\b|n['’]t\b", re.IGNORECASE)
_CHARACTERS_LOOKED_AT = 200


@dataclass(frozen=True)
class Said:
    """What one text says: boxes as (four numbers, label).

    `certain` names the convention where the way of writing settles it; otherwise `possible` names those that the
    numbers leave open (none: all). `nothing`: it is an empty list; `denied`: it has no box, but a word such as "not".
    """

    boxes: tuple[tuple[tuple[float, ...], str], ...] = ()
    certain: str | None = None
    possible: tuple[str, ...] = ()
    nothing: bool = False
    denied: bool = False


def read_answer(text: str) -> Said:
    """What the text says about boxes. Raises `RecordError` for one that is broken or of another kind."""
    body = _fenced(text).strip()
    if body.startswith(("[", "{")):
        try:
            value = json.loads(body)
        except RecursionError as error:
            raise RecordError("the answer is nested too deeply.") from error
        except ValueError as error:
            if any(f'"{key}"' in body for key in (*_BOX_KEYS, *_SHARE_KEYS)):
                raise RecordError(f"the JSON of the answer is broken ({error}).") from error
        else:
            return _from_json(value)
    for begin, end in _MARKS:
        if begin in text:
            return _marked(text, begin, end)
    found = tuple((_finite(match.groups()), "") for match in _LIST.finditer(text))
    if found:
        return Said(found, possible=_open_to(found))
    return Said(denied=bool(_DENIAL.search(text[-_CHARACTERS_LOOKED_AT:])))


def referred_words(text: str) -> str:
    """The words between the first marks of a reference; empty without such marks."""
    for begin, end in _REF_MARKS:
        _, begun, rest = text.partition(begin)
        words, ended, _ = rest.partition(end)
        if begun and ended:
            return words.strip()
    return ""


def _fenced(text: str) -> str:
    """What stands inside the first code fence; the whole text without one."""
    _, fence, rest = text.partition("```")
    return rest.partition("```")[0].removeprefix("json") if fence else text


def _marked(text: str, begin: str, end: str) -> Said:
    boxes: list[tuple[tuple[float, ...], str]] = []
    label = referred_words(text)
    for part in text.split(begin)[1:]:
        inside, ended, _ = part.partition(end)
        pair = _PAIRS.fullmatch(inside)
        numbers = [_finite(found.groups()) for found in ([pair] if pair else _LIST.finditer(inside))]
        if not ended or (not numbers and inside.strip() != "[]"):
            raise RecordError(f"the box {inside[:80]!r} is broken. Expected four numbers between {begin} and {end}.")
        boxes.extend((four, label) for four in numbers)
    return Said(tuple(boxes), certain=XYXY_1000, nothing=not boxes)


def _from_json(value: Any) -> Said:
    if isinstance(value, list) and len(value) == 4 and all(_is_number(one) for one in value):
        value = [value]
    entries = value if isinstance(value, list) else [value]
    boxes = tuple(_entry(entry) for entry in entries)
    if boxes and all(isinstance(entry, dict) and _SHARE_KEYS[0] in entry for entry in entries):
        return Said(boxes, certain=XYXY_SHARE)
    return Said(boxes, possible=_open_to(boxes), nothing=not boxes)


def _entry(entry: Any) -> tuple[tuple[float, ...], str]:
    label = ""
    numbers = entry
    if isinstance(entry, dict):
        label = entry.get("label", "")
        numbers = next((entry[key] for key in _BOX_KEYS if key in entry), None)
        if numbers is None and all(key in entry for key in _SHARE_KEYS):
            numbers = [entry[key] for key in _SHARE_KEYS]
    if not isinstance(label, str):
        raise RecordError(f"the label {str(label)[:80]!r} is no text.")
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(_is_number(one) for one in numbers):
        raise RecordError(f'{str(entry)[:80]} is no box. Expected "bbox_2d" with four numbers.')
    return _finite(numbers), label


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(values: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (ValueError, OverflowError) as error:
        raise RecordError(f"{str(values)[:80]} is no box ({error}).") from error
    if not all(math.isfinite(number) for number in numbers):
        raise RecordError(f"{str(values)[:80]} is no box: its numbers are not finite.")
    return numbers


def _open_to(boxes: tuple[tuple[tuple[float, ...], str], ...]) -> tuple[str, ...]:
    """Fractions up to 1 are shares, of the picture or of the padded square: everything else may be anything."""
    numbers = list(_all_numbers(boxes))
    shares = all(0 <= number <= 1 for number in numbers) and any(number % 1 for number in numbers)
    return (XYXY_SHARE, XYXY_PADDED_SHARE) if shares else ()


def _all_numbers(boxes: tuple[tuple[tuple[float, ...], str], ...]) -> Iterator[float]:
    return (number for numbers, _ in boxes for number in numbers)
