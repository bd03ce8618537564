"""Which of our splits a name stands for."""

from __future__ import annotations

import re

_WORDS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "minival": "val",
}
_TEST = re.compile(r"test(?:ing|[abc]{1,3})?", re.IGNORECASE)


def split_in(name: str) -> tuple[str, str] | None:
    """(train, val or test; the word that says so) of a name such as "testA-00000-of-00002", or None without one."""
    for word in re.findall(r"[A-Za-z]+", name):
        if word.lower() in _WORDS:
            return _WORDS[word.lower()], word
        if _TEST.fullmatch(word):
            return "test", word
    return None
