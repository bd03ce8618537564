"""Which samples of a workspace are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from grounding.errors import SettingsError, StoreError
from grounding.records import MAX_PHRASE_CHARACTERS, SPLITS, Sample

ALL_SPLITS = "all"
_MOST_CHARACTERS = 200


class Source(Protocol):
    """Where samples come from."""

    def iterate(self, split: str | None, *, with_source: bool = False) -> Iterator[Sample]:
        """Every sample of a split, or of all of them."""


@dataclass(frozen=True)
class Picked:
    """The samples to ask about, and how many were left out as their phrase is a placeholder, empty or too long."""

    samples: tuple[Sample, ...]
    left_out: int


@dataclass(frozen=True)
class Selection:
    """A split ("all": every one), narrowed down by `words`, each of which stands somewhere in the phrase in any case,
    and by `category`; "" narrows nothing.

    Raises `SettingsError` for another split and for texts that are too long.
    """

    split: str
    words: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        if self.split not in (*SPLITS, ALL_SPLITS):
            raise SettingsError(f"The split is {str(self.split)[:40]!r}: expected {', '.join(SPLITS)} or {ALL_SPLITS}.")
        for what, text in (("words", self.words), ("category", self.category)):
            if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
                raise SettingsError(f"The {what} to look for are no text of at most {_MOST_CHARACTERS} characters.")

    @property
    def title(self) -> str:
        """Such as "test", or "test: “left”, category mug": the split that a kept report is of."""
        parts = [f"“{' '.join(self.words.split())}”"] if self.words.strip() else []
        parts += [f"category {self.category}"] if self.category else []
        return f"{self.split}: {', '.join(parts)}" if parts else self.split

    def pick(self, source: Source, is_placeholder: Callable[[str], bool]) -> Picked:
        """The samples of the selection in the source's order. Raises `StoreError` when none can be asked about."""
        words = self.words.casefold().split()
        samples, left_out = [], 0
        for sample in source.iterate(None if self.split == ALL_SPLITS else self.split, with_source=True):
            if self.category and sample.category != self.category:
                continue
            phrase = sample.phrase.strip()
            if not 0 < len(phrase) <= MAX_PHRASE_CHARACTERS or is_placeholder(sample.phrase):
                left_out += 1
            elif all(word in phrase.casefold() for word in words):
                samples.append(sample)
        if not samples:
            where = "No sample" if self.split == ALL_SPLITS else f"No {self.split} sample"
            if words or self.category:
                which, way_out = " that the filter lets through", "Choose other words or another category"
            else:
                which, way_out = "", "Write phrases in Annotate"
            other = "" if self.split == ALL_SPLITS else ", or choose another split"
            raise StoreError(f"{where}{which} has a usable phrase, so there is nothing to score. {way_out}{other}.")
        return Picked(tuple(samples), left_out)


def is_narrowed(title: str) -> bool:
    """Whether a `Selection.title`, the split that a kept report is of, is that of a split narrowed down."""
    return any(title.startswith(f"{split}: ") for split in (*SPLITS, ALL_SPLITS))
