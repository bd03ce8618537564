"""A little English: what a phrase is about, how hard it is, and what it needs around its object to stay true.

All of this errs on the safe side: a phrase in another language or of a build that isn't known counts as one that
needs its surroundings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Flag, IntEnum, auto
from functools import lru_cache


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_ARTICLES = _words("a an the")
# "on the left", "in the upper right corner", "at the top of the picture": a place without another thing.
_PLACE_PHRASE = re.compile(
    r"\b(?:on|at|in|to|toward|towards|from)\s+(?:the\s+|our\s+|my\s+)?(?:far\s+|very\s+|upper\s+|lower\s+|top\s+|bottom\s+)*"
    r"(?:left|right|top|bottom|middle|center|centre|front|back|corner|edge|foreground|background)"
    r"(?:\s+(?:side|corner|edge|half|hand\s+side))?(?:\s+of\s+the\s+(?:picture|image|photo|photograph|screen|frame))?\b"
)
_SIDES = _words("left right top bottom leftmost rightmost topmost bottommost")
_OTHER_PLACES = _words(
    "middle center centre central corner edge side half end front back foreground background upper lower "
    "far near farther further closer closest nearest farthest furthest first second third fourth fifth "
    "sixth seventh eighth ninth tenth last next previous inner outer distant nearby rear opposite adjacent "
    "neighboring neighbouring remaining"
)
_SIZES = _words(
    "big bigger biggest large larger largest small smaller smallest little littlest tall taller tallest "
    "short shorter shortest long longer longest wide wider widest high higher highest low lower lowest "
    "tiny huge giant enormous massive medium mini old older oldest young younger youngest thin thinner thinnest "
    "thick thicker thickest fatter slimmer skinnier heavier darker lighter brighter paler newer fuller most least"
)
_RELATING = _words(
    "of above below over under underneath beneath behind beside besides between among near nearer next "
    "close to in on at by from with without holding wearing carrying riding inside outside into onto "
    "against around along across facing touching beyond off that which who whose whom where when not no "
    "other another others and or than as like except but only both all every each same different has have "
    "having is are"
)
_COUNTED = re.compile(r"\b\d+(st|nd|rd|th)?\b")
# Words that no English phrase of a picture needs, and that one in their own language can hardly do without; and the
# sides in some languages that are written without accents. A few English phrases are taken for foreign ones so.
_FOREIGN = re.compile(
    r"\b(?:der|dem|das|ein|eine[mnrs]?|auf|mit|und|ist|von|zu|zum|zur|neben|hinter|het|een|naast|voor|"
    r"el|los|las|una|del|con|en|que|junto|sobre|mas|muy|le|la|les|des|du|de|une|dans|sur|avec|aux?|et|est|qui|"
    r"il|gli|della|nel|nella|di|che|com|em|uma|dos|links(?:e|er)?|rechts(?:e)?|linke[rnsm]?|rechte[rnsm]?|gauches?|"
    r"droite?s?|izquierd[oa]s?|derech[oa]s?|esquerd[oa]s?|direit[oa]s?|sinistr[oaie]|destr[oaie]|venstre|vlevo|vpravo|"
    r"lew[aeoy]|lewej|praw[aeoy]|prawej|levy|pravy|sleva|sprava|stanga|dreapta|kiri|kanan|vasen|vasemmalla|oikea|"
    r"oikealla|solda|soldaki|sagda|sagdaki|hidari|migi)\b"
)
# Plurals that no rule makes.
_IRREGULAR = {
    **{"men": "man", "women": "woman", "people": "person", "children": "child", "oxen": "ox"},
    **{"mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "taxis": "taxi", "skis": "ski"},
    **{"knives": "knife", "wolves": "wolf", "leaves": "leaf", "scarves": "scarf", "shelves": "shelf"},
    **{"loaves": "loaf", "calves": "calf", "hooves": "hoof", "halves": "half", "thieves": "thief", "wives": "wife"},
    **{"shoes": "shoe", "toes": "toe", "canoes": "canoe", "kayaks": "kayak", "pies": "pie", "ties": "tie"},
}
# Heads that name no kind of thing.
_EMPTY_HEADS = (
    _words(
        "one ones thing things object objects item items stuff part it this that these those he she him her "
        "they them person's guy's anything something everything someone somebody red blue green yellow white "
        "black brown grey gray pink purple orange silver gold dark light area region piece pieces picture "
        "image photo two three four five"
    )
    | _SIDES
    | _OTHER_PLACES
    | _SIZES
)


class Difficulty(IntEnum):
    """How much a phrase asks of the model, in the order in which a curriculum brings it in."""

    NOUN = 0
    ATTRIBUTE = 1
    RELATION = 2


class Needs(Flag):
    """What a phrase needs in the picture beside its own object to stay true of it alone."""

    NOTHING = 0
    SIDE = auto()
    SIZE = auto()
    CONTEXT = auto()


@dataclass(frozen=True)
class Parts:
    """A phrase taken apart: lower-case words without the article; `head` is the noun it is about ("" if unknown);
    `before` the words before the head, `rest` those after it, `related` whether another thing is named."""

    words: tuple[str, ...]
    head: str
    before: tuple[str, ...]
    rest: tuple[str, ...]
    related: bool


@lru_cache(maxsize=65536)
def take_apart(phrase: str) -> Parts:
    """The parts of a phrase."""
    plain = phrase.lower()
    without_place = _PLACE_PHRASE.sub(" | ", plain)
    words: list[str] = re.findall(r"\||[a-z0-9]+(?:'[a-z]+)?", without_place)
    while words and (words[0] in _ARTICLES or words[0] == "|"):
        words.pop(0)
    stop = next((i for i, word in enumerate(words) if i and _ends_a_noun(word, i, words)), len(words))
    noun_words = words[:stop]
    rest = tuple(word for word in words[stop:] if word != "|")
    related = any(word in _RELATING for word in (*noun_words, *rest))
    head = noun_words[-1] if noun_words and noun_words[-1] not in _RELATING else ""
    everything = tuple(word for word in _WORD.findall(plain) if word not in _ARTICLES)
    return Parts(everything, head, tuple(noun_words[:-1]), rest, related)


def _ends_a_noun(word: str, place: int, words: list[str]) -> bool:
    """Whether a noun phrase has ended before this word. "dog left of the car": "left" begins the relation."""
    if word == "|" or word in _RELATING:
        return True
    follows = words[place + 1] if place + 1 < len(words) else ""
    if word in ("left", "right", "front", "back") and follows in ("of", "|", "") and place > 0:
        return True
    return len(word) > 5 and word.endswith("ing") and words[place - 1] not in _ARTICLES and bool(follows)


def is_foreign(phrase: str) -> bool:
    """Whether a phrase shows that it is in another language than English: by its letters or by one of its words."""
    return not phrase.isascii() or _FOREIGN.search(phrase.lower()) is not None


def names_no_kind(word: str) -> bool:
    """Whether a lower-case word says where, how large or of which colour something is, not what it is."""
    return word in _EMPTY_HEADS or word.isdigit()


def head_noun(phrase: str) -> str:
    """The noun that a phrase is about, in the singular, or "" where it names no kind of thing."""
    head = take_apart(phrase).head
    return "" if names_no_kind(head) else singular(head)


def difficulty(phrase: str, category: str = "") -> Difficulty:
    """How hard a phrase is: a bare noun, a noun with attributes (size, colour, place), or one that names another
    thing. `category` tells a noun of several words ("christmas tree") from one with an attribute."""
    parts = take_apart(phrase)
    if parts.words == tuple(words_of(category)) or len(parts.words) == 1:
        return Difficulty.NOUN
    return Difficulty.RELATION if parts.related else Difficulty.ATTRIBUTE


@lru_cache(maxsize=65536)
def needs(phrase: str) -> Needs:
    """What must be left in the picture for this phrase to stay true of one object. `CONTEXT`: anything may matter."""
    if is_foreign(phrase):
        return Needs.CONTEXT
    parts = take_apart(phrase)
    words = frozenset(parts.words)
    sides = words & _SIDES
    if any(word.endswith("'s") for word in words):  # "the dog's owner": the dog must stay in the picture
        return Needs.CONTEXT
    if parts.related or words & _OTHER_PLACES or _COUNTED.search(phrase) or not head_noun(phrase):
        return Needs.CONTEXT
    found = Needs.NOTHING
    if sides:
        found |= Needs.SIDE if len(sides) == 1 else Needs.CONTEXT
    if words & _SIZES or any(len(word) > 5 and word.endswith("est") for word in words):
        found |= Needs.SIZE
    return found


def words_of(text: str) -> list[str]:
    """The lower-case words of a text, without articles."""
    return [word for word in _WORD.findall(text.lower()) if word not in _ARTICLES]


def singular(word: str) -> str:
    """A word without its plural ending; good enough to compare two words."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "oes")):
        return word[:-2]
    if len(word) > 4 and word.endswith("uses") and word[-5] not in "aeiou":  # "buses", but not "houses"
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
