"""Look for phrases that teach nothing or the wrong thing. It only warns: people write in many ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from annotate.items import Item
from annotate.phrases import clean_text
from annotate.placeholders import normalise
from annotate.store import Store


@dataclass(frozen=True)
class LintReport:
    """What was found among `checked` samples; rejected ones are not looked at.

    `empty` and `placeholders` are ids. `duplicates` are groups of ids: samples of one picture with the same phrase
    for different boxes, so that no reader could tell which is meant.
    """

    checked: int
    empty: tuple[str, ...]
    placeholders: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each finding concerns."""
        return {
            "empty": len(self.empty),
            "placeholders": len(self.placeholders),
            "duplicates": sum(len(group) for group in self.duplicates),
        }


def lint(store: Store) -> LintReport:
    """Check every sample that is not rejected."""
    checked = 0
    empty: list[str] = []
    placeholders: list[str] = []
    duplicates: list[tuple[str, ...]] = []
    with store.view() as view:
        standing = (item for item in view.items_by_picture() if item.state != "rejected")
        for _, of_picture in groupby(standing, key=lambda item: item.picture_sha256):
            items = list(of_picture)
            checked += len(items)
            empty += [item.id for item in items if not clean_text(item.phrase)]
            placeholders += [item.id for item in items if item.placeholder and clean_text(item.phrase)]
            duplicates += _duplicates(item for item in items if not item.placeholder)
    return LintReport(checked, tuple(empty), tuple(placeholders), tuple(duplicates))


def _duplicates(items: Iterable[Item]) -> Iterator[tuple[str, ...]]:
    by_phrase: dict[str, list[Item]] = {}
    for item in items:
        by_phrase.setdefault(normalise(item.phrase), []).append(item)
    for same_phrase in by_phrase.values():
        if len({item.sample.boxes_xyxy_px for item in same_phrase}) > 1:
            yield tuple(item.id for item in same_phrase)
