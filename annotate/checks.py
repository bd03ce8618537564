"""Check a phrase as it is written. It only warns: people write in many ways, and no finding keeps a phrase from a save.

`check` is quick enough for every key press. Only the first 2,000 characters of a phrase are read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from annotate.phrases import MAX_PHRASE_CHARACTERS
from annotate.typos import Token, find_typos, tokens_of
from annotate.wordings import COORDINATES, LOCATION, MARKER, MARKUP, Rule
from annotate.words import words
from grounding.errors import StoreError
from grounding.placeholders import is_placeholder, normalise

Span = tuple[int, int]
# In the order in which findings are told.
CODES = (
    "empty",
    "placeholder",
    "too_short",
    "too_long",
    "markup",
    "coordinates",
    "marker",
    "location",
    "no_noun",
    "duplicate",
    "typo",
)
_CHARACTERS_READ = 2000
_TYPOS_TOLD = 5
_QUOTED_CHARACTERS = 40
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_UNSPACED_LETTER = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_KEY_INSIDE_A_WORD = re.compile(r"\w[;,.\[\]\\=`#@$%^*~|]\w")


@dataclass(frozen=True)
class CheckProfile:
    """What is usual in a data set. Words are counted; `noun_wanted` is False where "left" or "the tallest" will do."""

    name: str
    min_words: int
    max_words: int
    location_allowed: bool
    noun_wanted: bool


@dataclass(frozen=True)
class Finding:
    """What may be wrong: one of `CODES`, a sentence for people, and where in the phrase (start, end), if anywhere."""

    code: str
    sentence: str
    span: Span | None = None


PROFILES = {
    profile.name: profile
    for profile in (
        CheckProfile("free", min_words=1, max_words=60, location_allowed=True, noun_wanted=True),
        CheckProfile("refcoco", min_words=1, max_words=20, location_allowed=True, noun_wanted=False),
        CheckProfile("refcoco+", min_words=1, max_words=20, location_allowed=False, noun_wanted=False),
        CheckProfile("refcocog", min_words=2, max_words=40, location_allowed=True, noun_wanted=True),
        CheckProfile("grefcoco", min_words=1, max_words=30, location_allowed=True, noun_wanted=False),
    )
}


def profile_named(name: str) -> CheckProfile:
    """The profile of this name, in any case. Raises `StoreError` when there is none."""
    profile = PROFILES.get(name.strip().lower())
    if profile is None:
        raise StoreError(f"There is no check profile {name[:80]!r}. There are: {', '.join(PROFILES)}.")
    return profile


def check(phrase: str, profile: CheckProfile, siblings: Iterable[str] = ()) -> tuple[Finding, ...]:
    """What may be wrong with a phrase; `siblings` are the phrases of other boxes of the same picture."""
    read = _Read(phrase)
    if read.is_empty:
        return (Finding("empty", 'The phrase is empty. Write what tells this object apart, such as "the left mug".'),)
    findings = [*_too_long(read, profile), *_found(MARKUP, read)]
    if is_placeholder(read.text):
        shown = _quoted(phrase)
        sentence = f"{shown} is a placeholder. Write what tells this object apart."
        return (Finding("placeholder", sentence), *findings)
    for look in _LOOKS:
        findings += look(read, profile)
    findings += _duplicate(read, siblings)
    return tuple(sorted(findings, key=lambda finding: CODES.index(finding.code)))


def same_wording(phrase: str) -> str:
    """Equal for phrases that differ only in case, punctuation, spaces and articles."""
    plain = normalise(phrase[:_CHARACTERS_READ])
    kept = " ".join(word for word in plain.split() if word not in ("a", "an", "the"))
    return (kept or plain) + phrase[_CHARACTERS_READ:].rstrip()


class _Read:
    """A phrase as the checks read it."""

    def __init__(self, phrase: str) -> None:
        self.phrase = phrase
        self.text = phrase[:_CHARACTERS_READ]
        self.tokens: list[Token] = tokens_of(self.text)

    @property
    def is_empty(self) -> bool:
        if self.tokens or len(self.phrase) > _CHARACTERS_READ:
            return False
        return all(unicodedata.category(character)[0] in "ZCP" for character in self.text)

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(token.word for token in self.tokens)

    @cached_property
    def word_count(self) -> int:
        """Between spaces; in scripts without spaces, two letters are taken for a word."""
        if self.text.isascii():
            return sum(_LETTER_OR_DIGIT.search(part) is not None for part in self.text.split())
        unspaced = len(_UNSPACED_LETTER.findall(self.text))
        spaced = _UNSPACED_LETTER.sub(" ", self.text)
        return unspaced - unspaced // 2 + sum(_LETTER_OR_DIGIT.search(part) is not None for part in spaced.split())


def _too_long(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    if len(read.phrase) > MAX_PHRASE_CHARACTERS:
        sentence = f"The phrase has {len(read.phrase)} characters; the limit is {MAX_PHRASE_CHARACTERS}. Shorten it."
        yield Finding("too_long", sentence)
    elif read.word_count > profile.max_words:
        sentence = f"The phrase has {read.word_count} words; {profile.name} phrases have at most {profile.max_words}."
        yield Finding("too_long", sentence)


def _too_short(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    # One emoji or one ideograph may say it all.
    if read.word_count < profile.min_words and read.text.isascii():
        sentence = f"The phrase has {read.word_count} words; {profile.name} phrases have at least {profile.min_words}."
        yield Finding("too_short", sentence)


def _coordinates(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    if any(character.isdigit() for character in read.text) or "bbox_2d" in read.words:
        yield from _found(COORDINATES, read)


def _marker(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    yield from _found(MARKER, read)


def _location(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    if not profile.location_allowed:
        yield from _found(LOCATION, read)


def _no_noun(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    listed = words()
    without = listed.not_nouns if profile.noun_wanted else listed.function
    if read.words and read.words <= without:
        yield Finding("no_noun", 'The phrase names no thing. Say what it is: "the left mug" rather than "the left".')


def _typo(read: _Read, profile: CheckProfile) -> Iterator[Finding]:
    if read.words <= words().known and len(read.words) == len(read.tokens) and not _KEY_INSIDE_A_WORD.search(read.text):
        return
    for typo in islice(find_typos(read.text, read.tokens), _TYPOS_TOLD):
        sentence = f"{_quoted(typo.written)} may be a typing error. Is {_quoted(typo.meant)} meant?"
        yield Finding("typo", sentence, (typo.start, typo.end))


_LOOKS: tuple[Callable[[_Read, CheckProfile], Iterator[Finding]], ...] = (
    _too_short,
    _coordinates,
    _marker,
    _location,
    _no_noun,
    _typo,
)


def _duplicate(read: _Read, siblings: Iterable[str]) -> Iterator[Finding]:
    ours = ""
    for sibling in siblings:
        ours = ours or same_wording(read.phrase)
        if same_wording(sibling) == ours:
            sentence = f"Another object of this picture has the phrase {_quoted(sibling)}. Say what tells them apart."
            yield Finding("duplicate", sentence)
            return


def _found(rule: Rule, read: _Read) -> Iterator[Finding]:
    if rule.words_needed and rule.words_needed.isdisjoint(read.words):
        return
    match = rule.pattern.search(read.text)
    if match is not None:
        yield Finding(rule.code, rule.sentence.format(found=_quoted(match[0].strip())), match.span())


def _quoted(text: str) -> str:
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[:200])
    short = shown if len(shown) <= _QUOTED_CHARACTERS else f"{shown[: _QUOTED_CHARACTERS - 1]}…"
    return f'"{short}"'
