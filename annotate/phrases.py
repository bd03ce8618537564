"""What a phrase must be to be saved."""

from __future__ import annotations

import re
import unicodedata

from grounding.errors import StoreError
from grounding.placeholders import is_placeholder

MAX_PHRASE_CHARACTERS = 500
MAX_NOTE_CHARACTERS = 1000
# Controls, lone surrogates, and the marks that reorder or hide text; joiners stay, scripts and emoji need them.
_HIDDEN_MARKS = frozenset("\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: str) -> str:
    """On one line, without control characters, NFC, with single spaces between words."""
    one_line = re.sub(r"\s+", " ", text)
    kept = (c for c in one_line if unicodedata.category(c) not in ("Cc", "Cs") and c not in _HIDDEN_MARKS)
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", "".join(kept))).strip()


def usable_phrase(text: str) -> str | None:
    """The phrase cleaned, or None when it is empty, a placeholder or too long."""
    phrase = clean_text(text)
    return None if is_placeholder(phrase) or len(phrase) > MAX_PHRASE_CHARACTERS else phrase


def check_phrase(text: str) -> str:
    """The phrase cleaned. Raises `StoreError` saying why it can't be saved."""
    phrase = clean_text(text)
    if not phrase:
        raise StoreError('The phrase is empty. Write what tells this object apart, such as "the left mug".')
    if len(phrase) > MAX_PHRASE_CHARACTERS:
        raise StoreError(f"The phrase has {len(phrase)} characters; the limit is {MAX_PHRASE_CHARACTERS}. Shorten it.")
    if is_placeholder(phrase):
        raise StoreError(
            f'"{phrase[:80]}" is a placeholder, not a phrase. '
            'Write what tells this object apart, such as "the left mug".'
        )
    return phrase


def check_note(text: str) -> str:
    """A note cleaned, empty allowed. Raises `StoreError` when it is too long."""
    note = clean_text(text)
    if len(note) > MAX_NOTE_CHARACTERS:
        raise StoreError(f"The note has {len(note)} characters; the limit is {MAX_NOTE_CHARACTERS}. Shorten it.")
    return note
