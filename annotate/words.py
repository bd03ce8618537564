"""English words that phrases for things in pictures use: which are known, and which can't be what a phrase is about.

`words.txt` holds base forms by kind, and here they are inflected. `near_words.txt` holds further real words: those
within one slip of a word of the first list, so that none of them is taken for a typing error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_SECTION = re.compile(r"^\[(.+)\]\n([^\[]*)", re.MULTILINE)
_HISS = ("s", "x", "z", "ch", "sh")


@dataclass(frozen=True)
class Words:
    """`common` are the words of our list with their inflections; `everyday` those among them that stand in most
    phrases, colours included; `known` adds the near words. `nouns` and `not_nouns` have no word in common."""

    common: frozenset[str]
    everyday: frozenset[str]
    colours: frozenset[str]
    places: frozenset[str]
    function: frozenset[str]
    nouns: frozenset[str]
    not_nouns: frozenset[str]
    known: frozenset[str]


@cache
def words() -> Words:
    """The words, read once."""
    text = (_FOLDER / "words.txt").read_text(encoding="utf-8")
    kinds = {name: frozenset(listed.split()) for name, listed in _SECTION.findall(text)}
    nouns = kinds["noun"] | kinds["noun without -s"] | kinds["plural"] | kinds["stands for a thing"]
    nouns |= kinds["name"] | kinds["number"]
    nouns |= {plural(noun) for noun in kinds["noun"] if not noun.endswith("s")}
    nouns -= kinds["where"]
    verbs = kinds["verb form"] | {form for verb in kinds["verb"] for form in verb_forms(verb)}
    everyday = kinds["function"] | kinds["where"] | kinds["colour"] | kinds["number"]
    not_nouns = verbs | everyday | kinds["adverb"] | kinds["adjective"]
    not_nouns |= {form for adjective in kinds["compared adjective"] for form in _compared(adjective)}
    near = (_FOLDER / "near_words.txt").read_text(encoding="utf-8").splitlines()
    common = nouns | not_nouns
    return Words(
        common=common,
        everyday=everyday,
        colours=kinds["colour"],
        places=kinds["where"],
        function=kinds["function"],
        nouns=nouns,
        not_nouns=not_nouns - nouns,
        known=common | frozenset(word for line in near if not line.startswith("#") for word in line.split()),
    )


def plural(noun: str) -> str:
    """The regular plural."""
    if noun.endswith(_HISS):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if _ends_in_consonant_y(noun) else f"{noun}s"


def verb_forms(verb: str) -> Iterator[str]:
    """A regular verb with its -s, -ed and -ing."""
    yield verb
    yield plural(verb)
    stem = verb + verb[-1] if _doubles(verb) else verb
    if verb.endswith("ie"):
        yield from (f"{verb}d", f"{verb[:-2]}ying")
    elif verb.endswith("e"):
        yield from (f"{verb}d", f"{verb}ing" if verb.endswith(("ee", "oe", "ye")) else f"{verb[:-1]}ing")
    else:
        yield f"{verb[:-1]}ied" if _ends_in_consonant_y(verb) else f"{stem}ed"
        yield f"{stem}ing"


def _compared(adjective: str) -> Iterator[str]:
    yield adjective
    stem = adjective + adjective[-1] if _doubles(adjective) else adjective
    stem = f"{stem[:-1]}i" if _ends_in_consonant_y(stem) else stem.removesuffix("e")
    yield from (f"{stem}er", f"{stem}est")


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and word[-2:-1] not in set("aeiou")


def _doubles(word: str) -> bool:
    """True of short words such as "sit" or "grab", whose last letter is doubled before -ing."""
    return re.fullmatch(r"(?:qu|[^aeiou])*[aeiou][^aeiouwxy]", word) is not None
