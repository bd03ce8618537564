"""Words of category and place that are true of exactly one box among others: the rules behind the suggestions.

Distances are between the centres of boxes and sizes are areas of boxes; margins keep whoever looks out of doubt.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from grounding.boxes import Box

Kind = Literal["source", "noun", "location", "size", "relation"]

# As a share of the picture's width or height.
MARGIN = 0.08
SIZE_RATIO = 1.5
NEAR_RATIO = 1.5
# As a share of the picture's diagonal: further apart, nobody would say "near".
NEAR_AT_MOST = 0.35

# Axis (0: x, 1: y), direction along it, wording among rivals, wording in that half of the picture.
_LOCATIONS = (
    (0, -1, "left {}", "{} on the left"),
    (0, 1, "right {}", "{} on the right"),
    (1, -1, "top {}", "{} at the top"),
    (1, 1, "bottom {}", "{} at the bottom"),
)
_CORNERS = (
    ((-1, -1), "top left {}"),
    ((1, -1), "top right {}"),
    ((-1, 1), "bottom left {}"),
    ((1, 1), "bottom right {}"),
)
_RELATIONS = ((0, -1, "left of"), (0, 1, "right of"), (1, -1, "above"), (1, 1, "below"))
_ORDINALS = {1: "second", 2: "third", 3: "fourth"}


@dataclass(frozen=True)
class Thing:
    """One thing in a picture: what it is ("" where nobody said), its box, and the picture's (width, height) in px."""

    noun: str
    box: Box
    size_wh: tuple[int, int]

    @property
    def centre_px(self) -> tuple[float, float]:
        return (self.box.x1 + self.box.x2) / 2, (self.box.y1 + self.box.y2) / 2

    @property
    def centre(self) -> tuple[float, float]:
        """The centre as shares of the picture's width and height."""
        return self.centre_px[0] / self.size_wh[0], self.centre_px[1] / self.size_wh[1]


def noun_of(category: str) -> str:
    """A category as a word to say: "Traffic_light" and "traffic_light.n.01" are "traffic light"; "" for a number."""
    words = " ".join(re.sub(r"\.[a-z]\.\d+$", "", category.strip().lower()).replace("_", " ").split())
    return words if any(character.isalpha() for character in words) else ""


def wordings(me: Thing, others: Sequence[Thing]) -> Iterator[tuple[Kind, str]]:
    """What is true of `me` and of none of the others; nothing when nobody said what it is.

    A thing without a noun may be one of mine: it counts as my rival, and with one about, no other noun is surely
    the only one of its kind.
    """
    if not me.noun:
        return
    rivals = [other for other in others if other.noun in (me.noun, "")]
    if not rivals:
        yield "noun", me.noun
        yield "noun", f"the {me.noun}"
        return
    standing = Counter(other.noun for other in others)
    anchors = [] if "" in standing else [one for one in others if one.noun != me.noun and standing[one.noun] == 1]
    yield from (("location", words) for words in _by_location(me, rivals))
    yield from (("size", words) for words in _by_size(me, rivals))
    yield from (("relation", words) for words in _by_relation(me, rivals, anchors))


def _by_location(me: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    for axis, direction, wording, in_half in _LOCATIONS:
        if all(_beyond(me, rival, axis, direction) > MARGIN for rival in rivals):
            yield _say(wording, me)
            halves = [direction * (thing.centre[axis] - 0.5) for thing in (me, *rivals)]
            if halves[0] > MARGIN / 2 and all(half < -MARGIN / 2 for half in halves[1:]):
                yield _say(in_half, me)
    for directions, wording in _CORNERS:
        depths = [_depth(thing, directions) for thing in (me, *rivals)]
        if depths[0] > MARGIN / 2 and all(depth < -MARGIN / 2 for depth in depths[1:]):
            yield _say(wording, me)
    if len(rivals) == 2 and _is_middle(me, rivals, axis=0):
        # Three in a slanted row can have one middle from left to right and another from top to bottom.
        one, other = rivals
        if not _is_middle(one, (me, other), axis=1) and not _is_middle(other, (me, one), axis=1):
            yield _say("middle {}", me)
    yield from _by_count(me, rivals)


def _by_count(me: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    """Such as "second mug from the left", where the order from left to right leaves no doubt."""
    if any(abs(_beyond(one, other, 0, 1)) <= MARGIN for one in (me, *rivals) for other in rivals if one is not other):
        return
    before = sum(_beyond(me, rival, 0, 1) > 0 for rival in rivals)
    after = len(rivals) - before
    if before and after:
        for passed, side in ((before, "left"), (after, "right")):
            if passed in _ORDINALS:
                yield _say(f"{_ORDINALS[passed]} {{}} from the {side}", me)


def _by_size(me: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    if all(me.box.area_px > SIZE_RATIO * rival.box.area_px for rival in rivals):
        yield from (f"big {me.noun}", f"the biggest {me.noun}")
    elif all(me.box.area_px * SIZE_RATIO < rival.box.area_px for rival in rivals):
        yield from (f"small {me.noun}", f"the smallest {me.noun}")


def _by_relation(me: Thing, rivals: Sequence[Thing], anchors: Sequence[Thing]) -> Iterator[str]:
    for anchor in anchors:
        for axis, direction, words in _RELATIONS:
            # A rival that lies there by less than the margin would leave a person in doubt.
            if _is_beside(me, anchor, axis, direction) and all(
                _beyond(rival, anchor, axis, direction) <= 0 for rival in rivals
            ):
                yield f"{me.noun} {words} the {anchor.noun}"
        mine = math.dist(me.centre_px, anchor.centre_px)
        if mine < NEAR_AT_MOST * math.hypot(*me.size_wh) and all(
            math.dist(rival.centre_px, anchor.centre_px) > NEAR_RATIO * mine for rival in rivals
        ):
            yield f"{me.noun} near the {anchor.noun}"


def _say(wording: str, me: Thing) -> str:
    return wording.replace("{}", me.noun)


def _beyond(me: Thing, other: Thing, axis: int, direction: int) -> float:
    """By which share of the picture `me` lies further in this direction than `other`."""
    return direction * (me.centre[axis] - other.centre[axis])


def _depth(thing: Thing, directions: tuple[int, int]) -> float:
    """How far inside this quarter of the picture the centre lies, as a share; negative when it lies outside."""
    return min(direction * (thing.centre[axis] - 0.5) for axis, direction in enumerate(directions))


def _is_beside(me: Thing, anchor: Thing, axis: int, direction: int) -> bool:
    """Whether my centre lies in this direction of the anchor, and outside its box: on the sofa is not left of it."""
    corners = tuple(anchor.box)
    edge = corners[axis] if direction < 0 else corners[axis + 2]
    return direction * (me.centre_px[axis] - edge) > 0 and _beyond(me, anchor, axis, direction) > MARGIN


def _is_middle(me: Thing, rivals: Sequence[Thing], axis: int) -> bool:
    before, after = sorted(_beyond(me, rival, axis, 1) for rival in rivals)
    return before < -MARGIN and after > MARGIN
