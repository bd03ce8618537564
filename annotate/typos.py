"""Likely typing errors in English phrases. Few false alarms matter more than finding every error.

An unknown word is an error only where one slip makes it a word of our list: two letters swapped, one too many, one
missing or one wrong, a punctuation key hit instead of a letter, or a missing space before or after a small word.
Real words that are one slip away from such a word are known, so they are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from annotate.words import Words, words

# Some data sets write "the man ' s hat".
_TOKEN = re.compile(r"\w+(?:['’]\w+| ['’] (?:s|t|re|ve|ll|d|m)\b)*")
_PLAIN = re.compile(r"[a-z]+")
_SAME_LETTERS = re.compile(r"(\w)\1+")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STUCK_KEY = re.compile(r"(?<![\w;,.\[\]\\=`#@$%^*~|])([A-Za-z]+)[;,.\[\]\\=`#@$%^*~|]([A-Za-z]+)(?![\w;,.@\\=])")
_SAID_TWICE = (
    *("had", "that", "is", "very", "really", "so", "many", "much", "long", "far", "big", "little", "tiny", "no", "yes"),
    *("bye", "ha", "ho", "go", "yo", "pom", "tuk", "choo", "knock", "bang", "chop", "cha", "tom", "yum", "can"),
)
# Errors that people make often, and that are more than one slip away or too short to be searched for.
_OFTEN = {
    "teh": "the", "hte": "the", "thte": "the", "wth": "with", "wih": "with", "wit": "with", "whit": "with",
    "adn": "and", "nad": "and", "anf": "and", "dgo": "dog", "mna": "man", "byo": "boy", "gry": "gray",
    "fo": "of", "ot": "to", "infront": "in front", "alot": "a lot", "behing": "behind", "foward": "forward",
    "wearign": "wearing", "girrafe": "giraffe", "jirafe": "giraffe", "brocolli": "broccoli", "brocoli": "broccoli",
    "suitecase": "suitcase", "buterfly": "butterfly", "motercycle": "motorcycle",
    "sandwhich": "sandwich", "sandwitch": "sandwich", "definately": "definitely", "umberella": "umbrella",
    "refridgerator": "refrigerator", "refrigirator": "refrigerator", "zeebra": "zebra", "elephent": "elephant",
}  # fmt: skip
_SPACED_OFF = ("in", "on", "of", "to", "at", "by", "is", "the", "and", "with", "for")
_LONGEST_WORD = 20
_FEWEST_LETTERS = 4
_FEWEST_LETTERS_ALONE = 6


class Token(NamedTuple):
    """A word of a phrase in lower case, and where it stands."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Typo:
    """What is likely wrong, what was likely meant, and where it stands."""

    written: str
    meant: str
    start: int
    end: int


def tokens_of(phrase: str) -> list[Token]:
    """The words, numbers and words with an apostrophe."""
    found = _TOKEN.finditer(phrase)
    return [Token(m[0].lower().replace("’", "'").replace(" ", ""), m.start(), m.end()) for m in found]


def is_known(word: str) -> bool:
    """True of a number, a letter, an English word of our lists, and their possessives."""
    known = words().known
    if word in known or len(word) == 1:
        return True
    if not word.isalpha() and any(character.isdigit() for character in word):
        return True
    return word.removesuffix("'s").removesuffix("'") in known or word.removesuffix("s") in known


def find_typos(phrase: str, tokens: Sequence[Token]) -> Iterator[Typo]:
    """The likely errors of a phrase, kind by kind. Where most words are unknown, the phrase is not taken for English,
    and only keys hit by mistake inside a word are told."""
    stuck = list(_stuck_keys(phrase))
    yield from stuck
    covered = {at for typo in stuck for at in range(typo.start, typo.end)}
    rest = [token for token in tokens if token.start not in covered]
    unknown = [token for token in rest if not is_known(token.word)]
    if len(rest) == 1 and unknown:
        word = rest[0].word
        unknown = unknown if word in _OFTEN or len(word) >= _FEWEST_LETTERS_ALONE else []
    elif len(unknown) * 2 > len(rest):
        return
    yield from _slips(phrase, unknown)
    yield from _doubled_words(phrase, rest)


def _slips(phrase: str, unknown: Sequence[Token]) -> Iterator[Typo]:
    for token in unknown:
        as_written = phrase[token.start : token.end]
        # A capital inside a phrase begins a name.
        if as_written[:1].isupper() and token.start > 0 and not as_written.isupper():
            continue
        meant = meant_word(token.word)
        if meant is not None:
            yield Typo(as_written, meant, token.start, token.end)


def near_words(real_words: Iterable[str]) -> list[str]:
    """Those of these real words that would be taken for errors if they were not known: what `near_words.txt` holds."""
    common = words().common
    found: set[str] = set()
    for word in sorted(real_words, key=len):
        known = word in common or word in found or word.removesuffix("s") in common or word.removesuffix("s") in found
        if not known and word not in _OFTEN and meant_word(word) is not None:
            found.add(word)
    return sorted(found)


@lru_cache(maxsize=65536)
def meant_word(word: str) -> str | None:
    """What an unknown word was likely meant to be, or None."""
    if word in _OFTEN:
        return _OFTEN[word]
    if not _FEWEST_LETTERS <= len(word) <= _LONGEST_WORD or _PLAIN.fullmatch(word) is None:
        return None
    listed = words()
    slips = listed.common & _one_slip(word)
    if word[0] == "a" and word[1:] in listed.colours:
        return f"a {word[1:]}"
    if slips:
        return min(slips, key=lambda meant: (meant not in listed.everyday, _rank(word, meant), meant))
    return _two_words(word, listed)


def _one_slip(word: str) -> set[str]:
    """What the word may be after one slip is taken back. The first letter is taken as right, but for a swap."""
    cuts = [(word[:i], word[i:]) for i in range(1, len(word) + 1)]
    found = {before + after[1] + after[0] + after[2:] for before, after in [("", word), *cuts] if len(after) > 1}
    found.update(before + after[1:] for before, after in cuts)
    found.update(before + letter + after for before, after in cuts for letter in _LETTERS)
    found.update(before + letter + after[1:] for before, after in cuts for letter in _LETTERS if after)
    return {meant for meant in found if len(meant) > 2}


def _rank(word: str, meant: str) -> int:
    """Likelier kinds of slip first."""
    if sorted(word) == sorted(meant):
        return 0
    if _SAME_LETTERS.sub(r"\1", word) == _SAME_LETTERS.sub(r"\1", meant):
        return 1
    return {1: 2, -1: 3, 0: 4}[len(meant) - len(word)]


def _two_words(word: str, listed: Words) -> str | None:
    if word[0] == "a" and word[1:] in listed.nouns:
        return f"a {word[1:]}"
    for small in _SPACED_OFF:
        if word.startswith(small) and len(word) - len(small) > 2 and word[len(small) :] in listed.common:
            return f"{small} {word[len(small) :]}"
        if word.endswith(small) and len(word) - len(small) > 2 and word[: -len(small)] in listed.common:
            return f"{word[: -len(small)]} {small}"
    for cut in range(3, len(word) - 2):
        if word[:cut] in listed.everyday - listed.function and word[cut:] in listed.nouns:
            return f"{word[:cut]} {word[cut:]}"
    return None


def _stuck_keys(phrase: str) -> Iterator[Typo]:
    listed = words()
    for match in _STUCK_KEY.finditer(phrase):
        before, after = match[1].lower(), match[2].lower()
        both_known = before in listed.known and after in listed.known
        if both_known or not _FEWEST_LETTERS <= len(before + after) <= _LONGEST_WORD:
            continue
        candidates = [before + after, *(before + letter + after for letter in _LETTERS)]
        meant = sorted((word for word in candidates if word in listed.common), key=lambda w: w not in listed.everyday)
        if meant:
            yield Typo(match[0], meant[0], match.start(), match.end())


def _doubled_words(phrase: str, tokens: Sequence[Token]) -> Iterator[Typo]:
    for first, second in pairwise(tokens):
        if first.word != second.word or len(first.word) < 2 or not first.word.isalpha():
            continue
        if first.word not in _SAID_TWICE and phrase[first.end : second.start].isspace():
            yield Typo(phrase[first.start : second.end], first.word, first.start, second.end)
