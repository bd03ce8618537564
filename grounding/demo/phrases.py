"""The grammar of the demo: phrases that are true of exactly one object of a scene.

Distances are between the centres of boxes and sizes are areas of boxes, as in the embedded model's training.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from grounding.demo.scenes import SceneObject
from grounding.demo.sprites import unknown_nouns

SIZE_RATIO = 1.5
LOCATION_MARGIN_PX = 20.0
RELATION_MARGIN_PX = 25.0
NEAR_RATIO = 1.5

_BIG_WORDS = ("big {}", "large {}", "the biggest {}")
_SMALL_WORDS = ("small {}", "little {}", "the smallest {}")
# Axis (0: x, 1: y), direction along it, wordings.
_LOCATIONS = (
    (0, -1, ("left {}", "{} on the left")),
    (0, 1, ("right {}", "{} on the right")),
    (1, -1, ("top {}", "{} at the top")),
    (1, 1, ("bottom {}", "{} at the bottom")),
)
_RELATIONS = ((0, -1, "left of"), (0, 1, "right of"), (1, -1, "above"), (1, 1, "below"))
# A phrase for one of these must not count as absent while the other is in the picture.
_LOOK_ALIKES = (
    {"car", "taxi"},
    {"ship", "sailboat"},
    {"christmas tree", "pine tree"},
    {"couch", "chair"},
    {"backpack", "handbag"},
    {"guitar", "violin"},
)


class PhraseKind(StrEnum):
    """What tells the object from all others."""

    NOUN = "noun"
    SIZE = "size"
    LOCATION = "location"
    RELATION = "relation"


@dataclass(frozen=True, slots=True)
class Phrase:
    """What one may say of an object, and how it singles the object out."""

    text: str
    kind: PhraseKind


def true_phrases(objects: Sequence[SceneObject], target: int) -> tuple[Phrase, ...]:
    """Every phrase of the grammar that is true of `objects[target]` and of no other object; may be empty."""
    me = objects[target]
    rivals = [other for index, other in enumerate(objects) if index != target and other.noun == me.noun]
    standing = Counter(other.noun for other in objects)
    anchors = [other for other in objects if other.noun != me.noun and standing[other.noun] == 1]
    return (*_noun(me, rivals), *_size(me, rivals), *_location(me, rivals), *_relation(me, rivals, anchors))


def known_phrases(objects: Sequence[SceneObject], target: int) -> tuple[Phrase, ...]:
    """As `true_phrases`, without those that name a noun the embedded model is not taught."""
    new = unknown_nouns()
    return tuple(phrase for phrase in true_phrases(objects, target) if not any(noun in phrase.text for noun in new))


def absent_nouns(objects: Sequence[SceneObject], nouns: Sequence[str]) -> tuple[str, ...]:
    """Those nouns that fit nothing in the scene, nor anything that a person could take for it."""
    standing = {each.noun for each in objects}
    barred = standing.union(*(pair for pair in _LOOK_ALIKES if pair & standing))
    return tuple(noun for noun in nouns if noun not in barred)


def absent_phrase(rng: random.Random, noun: str) -> Phrase:
    """A phrase for a noun that is not in the scene: plain, with an article, or with a location or size word."""
    kind = rng.choice((PhraseKind.NOUN, PhraseKind.NOUN, PhraseKind.SIZE, PhraseKind.LOCATION))
    wordings = {
        PhraseKind.NOUN: ("{}", "the {}"),
        PhraseKind.SIZE: _BIG_WORDS + _SMALL_WORDS,
        PhraseKind.LOCATION: tuple(wording for _, _, pair in _LOCATIONS for wording in pair),
    }[kind]
    return Phrase(rng.choice(wordings).format(noun), kind)


def _noun(me: SceneObject, rivals: Sequence[SceneObject]) -> Iterator[Phrase]:
    if not rivals:
        yield Phrase(me.noun, PhraseKind.NOUN)
        yield Phrase(f"the {me.noun}", PhraseKind.NOUN)


def _size(me: SceneObject, rivals: Sequence[SceneObject]) -> Iterator[Phrase]:
    if not rivals:
        return
    wordings: tuple[str, ...] = ()
    if all(me.area_px > SIZE_RATIO * rival.area_px for rival in rivals):
        wordings = _BIG_WORDS
    elif all(me.area_px * SIZE_RATIO < rival.area_px for rival in rivals):
        wordings = _SMALL_WORDS
    for wording in wordings:
        yield Phrase(wording.format(me.noun), PhraseKind.SIZE)


def _location(me: SceneObject, rivals: Sequence[SceneObject]) -> Iterator[Phrase]:
    if not rivals:
        return
    for axis, direction, wordings in _LOCATIONS:
        if all(_beyond(me, rival, axis, direction) > LOCATION_MARGIN_PX for rival in rivals):
            for wording in wordings:
                yield Phrase(wording.format(me.noun), PhraseKind.LOCATION)
    if len(rivals) == 2 and _is_middle(me, rivals, axis=0):
        # Three in a slanted row can have one middle from left to right and another from top to bottom.
        one, other = rivals
        if not _is_middle(one, (me, other), axis=1) and not _is_middle(other, (me, one), axis=1):
            yield Phrase(f"middle {me.noun}", PhraseKind.LOCATION)


def _relation(me: SceneObject, rivals: Sequence[SceneObject], anchors: Sequence[SceneObject]) -> Iterator[Phrase]:
    for anchor in anchors:
        for axis, direction, words in _RELATIONS:
            # A rival that lies there by less than the margin would leave a person in doubt.
            if _beyond(me, anchor, axis, direction) > RELATION_MARGIN_PX and all(
                _beyond(rival, anchor, axis, direction) <= 0 for rival in rivals
            ):
                yield Phrase(f"{me.noun} {words} the {anchor.noun}", PhraseKind.RELATION)
        if rivals and all(_distance(rival, anchor) > NEAR_RATIO * _distance(me, anchor) for rival in rivals):
            yield Phrase(f"{me.noun} near the {anchor.noun}", PhraseKind.RELATION)


def _beyond(me: SceneObject, other: SceneObject, axis: int, direction: int) -> float:
    """By how many pixels `me` lies further in this direction than `other`."""
    return direction * (me.centre_xy_px[axis] - other.centre_xy_px[axis])


def _is_middle(me: SceneObject, rivals: Sequence[SceneObject], axis: int) -> bool:
    before, after = sorted(_beyond(me, rival, axis, 1) for rival in rivals)
    return before < -LOCATION_MARGIN_PX and after > LOCATION_MARGIN_PX


def _distance(me: SceneObject, other: SceneObject) -> float:
    return math.dist(me.centre_xy_px, other.centre_xy_px)
