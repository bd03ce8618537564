"""What an embedded model is asked while it is trained: one object, several of a noun, or nothing, in many wordings.

The grammar of `phrases` says what is true of one object alone; here it is said as people say it. A phrase never names
a noun that the model is not to know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from grounding.demo.phrases import (
    LOCATION_MARGIN_PX,
    Phrase,
    PhraseKind,
    absent_nouns,
    absent_phrase,
    known_phrases,
)
from grounding.demo.scenes import SceneObject
from grounding.demo.sprites import known_nouns


class QuestionKind(StrEnum):
    """What a phrase refers to."""

    ONE = "one"
    CORNER = "one, by its corner of the picture"
    SEVERAL = "several"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Question:
    """A phrase and the places, in the scene's list, of all the objects it refers to: from left to right, and of two
    on one line the upper one first."""

    text: str
    kind: QuestionKind
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the questions, 0.0 to 1.0. `reworded` is of the phrases for one object."""

    nothing: float = 0.08
    several: float = 0.1
    corner: float = 0.06
    reworded: float = 0.3


_KIND_WEIGHTS = {PhraseKind.NOUN: 3, PhraseKind.SIZE: 2, PhraseKind.LOCATION: 3, PhraseKind.RELATION: 3}
# As the picture of them always shows more than one, or as they can't be counted.
_NO_PLURAL = frozenset(("grapes", "books", "jeans", "gloves", "scissors", "corn"))
_SAME_PLURAL = frozenset(("sheep", "fish"))
_TWO = ("both {}", "the two {}", "both of the {}", "all the {}", "the {}", "all {}")
_THREE = ("all the {}", "all {}", "the {}", "all three {}", "the three {}", "all of the {}")
_EACH = ("every {}", "each {}")
_CORNERS = ((-1, -1, "top left"), (1, -1, "top right"), (-1, 1, "bottom left"), (1, 1, "bottom right"))
_CORNER_WORDINGS = ("{} in the {} corner", "{} at the {}", "{} in the {} part of the picture", "{} {}")
_OTHER_ROWS = {"top": "upper", "bottom": "lower"}
# What begins (ends) a phrase of the grammar, and what may stand there instead.
_STARTS = {
    "big": ("the big {}", "the large {}", "the bigger {}", "the largest {}"),
    "large": ("the big {}", "the large {}", "the larger {}", "largest {}"),
    "the biggest": ("biggest {}", "the largest {}"),
    "small": ("the small {}", "the little {}", "the smaller {}", "the smallest {}"),
    "little": ("the little {}", "the small {}", "the tiny {}"),
    "the smallest": ("smallest {}", "the littlest {}"),
    "left": ("the left {}", "leftmost {}", "the {} on the left side", "the {} to the left"),
    "right": ("the right {}", "rightmost {}", "the {} on the right side", "the {} to the right"),
    "top": ("the top {}", "upper {}", "the upper {}", "topmost {}"),
    "bottom": ("the bottom {}", "lower {}", "the lower {}", "the {} further down"),
    "middle": ("the middle {}", "the {} in the middle", "the {} between the other two"),
}
_RELATIONS = {
    " left of the ": (" to the left of the ", " that is left of the ", " on the left side of the "),
    " right of the ": (" to the right of the ", " that is right of the ", " on the right side of the "),
    " above the ": (" that is above the ", " over the ", " higher up than the "),
    " below the ": (" that is below the ", " under the ", " beneath the "),
    " near the ": (" next to the ", " close to the ", " that is near the ", " beside the "),
}


def ask(rng: random.Random, objects: Sequence[SceneObject], size_wh: tuple[int, int], mix: Mix) -> Question | None:
    """One question about a scene of `size_wh` pixels, its kind by the shares of `mix`; None where what was chosen has
    nothing to ask for here."""
    drawn = rng.random()
    if drawn < mix.nothing:
        return _nothing(rng, objects)
    if drawn < mix.nothing + mix.several:
        return _several(rng, objects)
    if drawn < mix.nothing + mix.several + mix.corner:
        return _corner(rng, objects, size_wh)
    return _one(rng, objects, mix)


def plural(noun: str) -> str | None:
    """Several of a noun of the demo, or None where nobody would count them."""
    if noun in _NO_PLURAL:
        return None
    if noun in _SAME_PLURAL:
        return noun
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def reworded(rng: random.Random, phrase: Phrase) -> str:
    """A phrase of the grammar in other words that mean the same; as it is where there are none."""
    text = phrase.text
    for words, others in _RELATIONS.items():
        if words in text:
            text = text.replace(words, rng.choice((words, *others)))
            return rng.choice((text, f"the {text}"))
    for start, wordings in _STARTS.items():
        if text.startswith(f"{start} ") and phrase.kind is not PhraseKind.NOUN:
            return rng.choice(wordings).format(text.removeprefix(f"{start} "))
    for end in ("on the left", "on the right", "at the top", "at the bottom"):
        if text.endswith(f" {end}"):
            noun = text.removesuffix(f" {end}")
            return rng.choice((f"the {noun} {end}", f"the {noun} that is {end}", f"{noun} {end} of the picture"))
    return rng.choice((text, f"a {text}" if not text.startswith("the ") else text))


def _one(rng: random.Random, objects: Sequence[SceneObject], mix: Mix) -> Question | None:
    known = set(known_nouns())
    places = [i for i, each in enumerate(objects) if each.noun in known]
    rng.shuffle(places)
    for place in places:
        phrases = known_phrases(objects, place)
        if not phrases:
            continue
        kinds = sorted({phrase.kind for phrase in phrases})
        (kind,) = rng.choices(kinds, weights=[_KIND_WEIGHTS[kind] for kind in kinds])
        phrase = rng.choice([phrase for phrase in phrases if phrase.kind == kind])
        text = reworded(rng, phrase) if rng.random() < mix.reworded else phrase.text
        return Question(text, QuestionKind.ONE, (place,))
    return None


def _several(rng: random.Random, objects: Sequence[SceneObject]) -> Question | None:
    known = set(known_nouns())
    nouns = {each.noun for each in objects if each.noun in known and plural(each.noun)}
    standing = {noun: [i for i, each in enumerate(objects) if each.noun == noun] for noun in sorted(nouns)}
    many = [noun for noun, places in standing.items() if len(places) > 1]
    if not many:
        return None
    noun = rng.choice(many)
    places = standing[noun]
    wording = rng.choice((*(_TWO if len(places) == 2 else _THREE), *_EACH))
    text = wording.format(noun if wording in _EACH else plural(noun))
    return Question(text, QuestionKind.SEVERAL, in_reading_order(objects, places))


def in_reading_order(objects: Sequence[SceneObject], places: Sequence[int]) -> tuple[int, ...]:
    """Places of objects as an answer lists them: by their left side, then by their upper one."""
    return tuple(sorted(places, key=lambda place: tuple(objects[place].box_xyxy_px)[:2]))


def _corner(rng: random.Random, objects: Sequence[SceneObject], size_wh: tuple[int, int]) -> Question | None:
    """One object in a corner of the picture (the outer third both ways), all others of its noun well away from it."""
    known, found = set(known_nouns()), []
    for place, each in enumerate(objects):
        if each.noun not in known:
            continue
        for x, y, words in _CORNERS:
            rivals = (other for i, other in enumerate(objects) if i != place and other.noun == each.noun)
            if _into(each, size_wh, x, y) >= 0 and all(
                _into(other, size_wh, x, y) < -LOCATION_MARGIN_PX for other in rivals
            ):
                found.append((place, words))
    if not found:
        return None
    place, words = rng.choice(found)
    row, _, side = words.partition(" ")
    words = f"{rng.choice((row, _OTHER_ROWS[row]))} {side}"
    wording = rng.choice(_CORNER_WORDINGS)
    noun = objects[place].noun
    text = f"{words} {noun}" if wording == "{} {}" else wording.format(noun, words)
    return Question(rng.choice((text, f"the {text}")), QuestionKind.CORNER, (place,))


def _into(each: SceneObject, size_wh: tuple[int, int], x: int, y: int) -> float:
    """How many pixels the centre lies inside the corner third in this direction; below 0: outside by so many."""
    ahead = (
        direction * (centre - side / 2) - side / 6
        for direction, centre, side in zip((x, y), each.centre_xy_px, size_wh, strict=True)
    )
    return min(ahead)


def _nothing(rng: random.Random, objects: Sequence[SceneObject]) -> Question | None:
    nouns = absent_nouns(objects, known_nouns())
    if not nouns:
        return None
    noun = rng.choice(nouns)
    many = plural(noun)
    if many and rng.random() < 0.15:
        return Question(rng.choice((*_TWO, *_THREE)).format(many), QuestionKind.NOTHING, ())
    return Question(absent_phrase(rng, noun).text, QuestionKind.NOTHING, ())
