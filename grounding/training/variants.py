"""Other wordings of a phrase that mean the same, made by rule. A rule that could change the meaning is no rule here."""

from __future__ import annotations

import re
from functools import lru_cache


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_PLAIN_NOUN = r"[a-z][a-z-]*(?: [a-z][a-z-]*){0,2}"
_NO_RELATION = re.compile(
    r"\b(?:of|above|below|over|under|behind|beside|between|near|next|in|on|at|by|with|holding|wearing|and|or|that|who|"
    r"which|to|from|not|left|right|top|bottom)\b"
)
_AT_SIDE = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
# "the left hand" is a hand of that side of its body, wherever it is in the picture; the same goes for what is worn
# on one side and for parts that have their own left.
_SIDED = _words(
    "hand hands arm arms leg legs foot feet eye eyes ear ears shoe shoes boot boots sock socks glove "
    "gloves knee knees elbow elbows shoulder shoulders thumb finger fingers toe toes heel ankle wrist cheek eyebrow "
    "thigh shin paw paws hoof claw horn tusk wing wings sleeve pocket earring sandal skate ski wheel tire tyre engine "
    "pedal lens mirror headlight handed hander fielder field winger tackle angle triangle side half end corner edge "
    "lane turn one ones most"
)
# Names of things: the first word is no place and no size.
_FIXED = re.compile(
    r"(?:top (?:hats?|coats?|knots?|buns?|guns?|dog)|right whales?|"
    r"big (?:ben|bird|mac|wheel|toes?|top|dipper|cats?|rigs?|brother|sister)|"
    r"little (?:league|leaguer|fingers?|toes?|brother|sister|one|ones)|small talk)\b"
)
_SAME_SIZE = (("big", "large"), ("biggest", "largest"), ("small", "little"))
_RELATIONS = ("to the left of", "to the right of", "left of", "right of", "above", "below", "near")
_DETERMINED = re.compile(
    r"^(?:the|a|an|this|that|these|those|his|her|their|its|my|our|your|all|both|every|each|any|some|no|two|three|four|"
    r"five|\d+)\b"
)
# What is no noun phrase takes no article: pronouns, places, what somebody does, requests and questions.
_NO_ARTICLE = re.compile(
    r"(?:he|she|him|it|them|they|me|us|you|we|someone|something|anyone|anything|everyone|everything|what|who|which|where|"
    r"in|on|at|by|to|from|with|without|of|above|below|over|under|behind|beside|between|among|near|next|inside|outside|"
    r"not|is|are|find|point|show|locate|select|click|choose|look|pick|detect|[a-z]+ing)\b"
)


@lru_cache(maxsize=65536)
def rewordings(phrase: str) -> tuple[str, ...]:
    """Wordings that mean the same as an English phrase, without itself; empty where no rule fits.

    Articles ("dog", "the dog"), places ("left dog", "dog on the left"), sizes ("big dog", "large dog") and the order
    of a relation ("dog left of the car", "the dog that is left of the car"). Only plain phrases in lower case are
    touched: anything else may be a name or a language that isn't known.
    """
    if not re.fullmatch(r"[a-z][a-z -]*", phrase) or phrase != " ".join(phrase.split()):
        return ()
    bare = phrase.removeprefix("the ")
    found = [*_placed(bare), *_sized(bare), *_related(bare)]
    if _DETERMINED.match(bare) is None and _NO_ARTICLE.match(bare) is None:
        found = [wording for each in (bare, *found) for wording in (each, *_with_article(each))]
    return tuple(dict.fromkeys(wording for wording in found if wording != phrase))


def _with_article(wording: str) -> tuple[str, ...]:
    """A superlative and a wording that has one already take no further article here."""
    return () if wording.startswith("the ") else (f"the {wording}",)


def _placed(bare: str) -> list[str]:
    before = re.fullmatch(rf"(left|right|top|bottom) ({_PLAIN_NOUN})", bare)
    if before is not None and _is_plain(before[2]) and _FIXED.match(bare) is None:
        return [f"{before[2]} {_AT_SIDE[before[1]]}"]
    after = re.fullmatch(rf"({_PLAIN_NOUN}) (?:on the (left|right)|at the (top|bottom))", bare)
    if after is not None and _is_plain(after[1]):
        placed = f"{after[2] or after[3]} {after[1]}"
        return [placed] if _FIXED.match(placed) is None else []
    return []


def _is_plain(noun: str) -> bool:
    return _NO_RELATION.search(noun) is None and not _SIDED.intersection(noun.split())


def _sized(bare: str) -> list[str]:
    first, _, noun = bare.partition(" ")
    if not noun or _NO_RELATION.search(noun) or _FIXED.match(bare):
        return []
    pairs = [*_SAME_SIZE, *((two, one) for one, two in _SAME_SIZE)]
    return [f"{other} {noun}" for one, other in pairs if first == one]


def _related(bare: str) -> list[str]:
    for relation in _RELATIONS:
        match = re.fullmatch(rf"({_PLAIN_NOUN}) (?:that is )?{relation} (the {_PLAIN_NOUN})", bare)
        if match is None or _NO_RELATION.search(match[1]) or _NO_RELATION.search(match[2]):
            continue
        one, other = match[1], match[2]
        short = relation.removeprefix("to the ")
        # "the man standing near the car": what he does goes on behind the verb.
        clause = [] if one.endswith("ing") else [f"{one} that is {short} {other}"]
        wordings = [f"{one} {short} {other}", *clause]
        if short.endswith(" of"):
            wordings.append(f"{one} to the {short} {other}")
        return [wording for wording in wordings if wording != bare]
    return []
