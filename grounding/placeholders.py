"""Recognise the generic wordings that stand where a phrase should: instructions, templates, stand-ins."""

from __future__ import annotations

import re
import unicodedata

_KNOWN_WORDINGS = (
    "Please carefully observe the area circled in the image and come up with a caption for the area.",
    "Provide a short description for this region.",
    "Answer the question using a single word or phrase.",
    "Please provide the bounding box coordinate of the region this sentence describes",
)
_STAND_INS = frozenset(
    """
    caption|captions|category|description|expression|object|phrase|placeholder|region|sentence
    |referring expression|region description|object description|no caption|no description|no phrase|no text
    |none|null|nil|nan|na|n a|tbd|todo|to do|unknown|undefined|untitled|unlabeled|unlabelled
    |not available|not applicable|lorem ipsum|lorem ipsum dolor sit amet|insert caption|insert caption here
    |insert description here|insert phrase here|your caption here|your text here|phrase goes here|write a phrase
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_ASK = (
    r"^(?:(?:please|kindly|now|carefully|briefly|shortly|(?:can|could|would|will) you|i want you to|your task is to) )*"
)
_TEXT_WANTED = r"(?:captions?|descriptions?|expressions?|phrases?|sentences?|labels?|titles?|names?|summary)"
_MARKED = r"(?:circled|marked|highlighted|outlined|indicated|selected|specified|given|masked|enclosed|bounded)"
_PLACE = r"(?:areas?|regions?|bounding box(?:es)?|bbox(?:es)?|rectangles?|box(?:es)?|crops?|masks?|objects?)"
_SCENE = r"(?:image|picture|photo|photograph)"
_RULES = tuple(
    re.compile(rule)
    for rule in (
        # "come up with a caption for the area", "write one phrase describing the marked object"
        rf"{_ASK}(?:provide|give|write|generate|create|produce|compose|come up with|supply|make|add|enter|insert)\b"
        rf"(?: me| us)? (?:an?|the|one|some|your|its|short|brief|detailed|single|simple|concise|unique)\b"
        rf".*\b{_TEXT_WANTED}\b",
        # "describe this region", "describe the object inside the red box", "caption the image"
        rf"{_ASK}(?:describe|caption|summarize|summarise|observe|label|annotate|refer to)\b(?: in detail)?"
        rf" (?:what|the|this|that|each|every)\b.*\b(?:{_PLACE}|{_SCENE}|{_MARKED}|see|here|there)\b",
        rf"{_ASK}(?:describe|caption|label|annotate) (?:this|it|here)$",
        # "the area circled in the image", asked about rather than named
        rf"\bcaptions?\b.*\b(?:{_PLACE}|{_MARKED})\b|\b(?:{_PLACE}|{_MARKED})\b.*\bcaptions?\b",
        rf"\b(?:short|brief|detailed|concise) (?:{_TEXT_WANTED}) (?:for|of) (?:this|the|each) (?:{_MARKED} )?"
        rf"(?:{_PLACE}|{_SCENE})\b",
        # "locate ... and output the bbox coordinates in JSON format", "bounding box coordinates are specified as"
        r"\b(?:bounding box(?:es)?|bbox(?:es)?)\b.*\b(?:coordinates?|json|format)\b",
        r"\b(?:coordinates?|json)\b.*\b(?:bounding box(?:es)?|bbox(?:es)?)\b",
        r"^(?:please )?locate (?:every|all|the|any) (?:object|region|instance)s? (?:that|which|matching|described)\b",
        r"\b(?:region|area|object) (?:that )?this (?:sentence|phrase|expression|description|caption) describes\b",
        # "what is in this region", "which object is highlighted here"
        rf"^(?:what|which|who)\b.* (?:this|that|the) (?:{_MARKED} )?{_PLACE}$",
        r"^(?:what|which|who)\b.*\b(?:circled|marked|highlighted|outlined)\b",
        r"\banswer the question\b",
    )
)
# Enough to see any wording; a longer text must not keep the searches below busy.
_MAX_CHARACTERS_READ = 2000
_MAX_SLOT_CHARACTERS = 80
_OPEN_SLOT = re.compile(
    r"\{\{?\s*[A-Za-z_]\w*\s*\}?\}|<\s*(?:image|phrase|caption|text|ref|object|description)s?\s*/?>"
)
_BRACKETED_SLOT = re.compile(r"[\[(<{%_]+\s*[A-Za-z_ ]+\s*[\])>}%_]+")


def normalise(phrase: str) -> str:
    """Lower case, compatibility forms folded, punctuation as spaces, single spaces; marks stay with their letter."""
    folded = unicodedata.normalize("NFKC", phrase).casefold()
    if folded.isascii():
        return re.sub(r"[\W_]+", " ", folded).strip()
    return " ".join(_words_and_spaces(folded).split())


def _words_and_spaces(text: str) -> str:
    """The text with spaces for what belongs to no word. Vowel signs do: "boy" and "girl" in Hindi differ by one."""
    kept = " "
    for character in text:
        of_letter = kept[-1] != " " and unicodedata.category(character) in ("Mn", "Mc")
        is_kept = character.isalnum() or (of_letter and not unicodedata.name(character, "").startswith("VARIATION"))
        kept += character if is_kept else " "
    return kept


_KNOWN = frozenset(normalise(wording) for wording in _KNOWN_WORDINGS)


def is_placeholder(phrase: str) -> bool:
    """True when the text stands where a phrase should: empty, punctuation only, a known or generic wording.

    Meant never to be true of what a person writes for an object, odd and misspelt phrases included.
    """
    stripped = phrase.strip()
    if all(unicodedata.category(character)[0] in "ZCP" for character in stripped):
        return True
    read = stripped[:_MAX_CHARACTERS_READ]
    if _OPEN_SLOT.search(read) or (len(read) <= _MAX_SLOT_CHARACTERS and _BRACKETED_SLOT.fullmatch(read)):
        return True
    words = normalise(read)
    if words in _KNOWN or words in _STAND_INS:
        return True
    return any(rule.search(words) for rule in _RULES)
