"""Find template wording by structure: the same words on many unrelated boxes, whatever the words are.

How often a phrase comes does not tell alone. "left", "man" and "guy on right" each stand on hundreds of boxes of
RefCOCO, and in 5,000 phrases that people wrote for photographs "a man in a blue shirt" came four times. What tells
is how much a phrase says against how often, and of what, it is said:

- 8 words or more: among those 5,000 no two such phrases were the same. More than 20 pictures are enough.
- 5 to 7 words: a few come again, but for things of one category. It takes more than 20 pictures, half a percent of
  all rows, and three categories of which none has more than 80% of the rows.
- fewer words: it takes more than 20 pictures, a twentieth of all rows, and five categories of which none has more
  than half. Words of place and small words alone ("left", "the one in front") are never taken for a template.

Where a source gives no categories, no kinship can be seen: then the shares are 2% and 20%.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from annotate.words import words
from grounding.placeholders import normalise

_PICTURES = 20
_LONG_WORDS = 8
_SHORT_WORDS = 5
# So many rows are counted before phrases that came but once or so are forgotten (lossy counting, Manku and Motwani
# 2002): memory stays bounded, and a count is short by at most one for each such stretch.
_STRETCH_ROWS = 200_000
_CATEGORIES_TOLD_APART = 64
_CHARACTERS_READ = 500
_STAND_FOR_THINGS = frozenset(("one", "ones", "half"))


@dataclass(frozen=True)
class _Bar:
    """What a phrase of some length must reach; `least_share_unseen` counts where there are no categories."""

    kinds: int
    most_alike: float
    least_share: float
    least_share_unseen: float


_MIDDLING = _Bar(kinds=3, most_alike=0.8, least_share=0.005, least_share_unseen=0.02)
_SHORT = _Bar(kinds=5, most_alike=0.5, least_share=0.05, least_share_unseen=0.2)


@dataclass(frozen=True)
class RepeatedPhrase:
    """A wording that seems to be a template; `phrase` as first met, `rows` how many boxes have it, `share` of all."""

    phrase: str
    rows: int
    share: float
    categories: int


@dataclass
class _Tally:
    phrase: str
    forgiven: int
    rows: int = 0
    pictures: set[str] = field(default_factory=set)
    categories: dict[str, int] = field(default_factory=dict)

    def add(self, category: str, picture: str) -> None:
        self.rows += 1
        if len(self.pictures) <= _PICTURES:
            self.pictures.add(picture)
        if category and (category in self.categories or len(self.categories) < _CATEGORIES_TOLD_APART):
            self.categories[category] = self.categories.get(category, 0) + 1


def repeated_phrases(rows: Iterable[tuple[str, str, str]]) -> tuple[RepeatedPhrase, ...]:
    """The wordings that are templates by structure, most frequent first, among rows of (phrase, category, picture).

    `category` may be empty. Phrases count as the same when only case, punctuation and spaces differ. The rows are
    read once; memory grows with the distinct phrases of some 200,000 rows, not with all of them.
    """
    tallies: dict[str, _Tally] = {}
    total = 0
    for phrase, category, picture in rows:
        key = wording_key(phrase)
        total += 1
        if key:
            tally = tallies.get(key)
            if tally is None:
                tally = tallies[key] = _Tally(phrase, total // _STRETCH_ROWS)
            tally.add(category, picture)
        if total % _STRETCH_ROWS == 0:
            stretch = total // _STRETCH_ROWS
            tallies = {key: tally for key, tally in tallies.items() if tally.rows + tally.forgiven > stretch}
    found = [
        RepeatedPhrase(tally.phrase[:_CHARACTERS_READ], tally.rows, tally.rows / total, len(tally.categories))
        for key, tally in tallies.items()
        if len(tally.pictures) > _PICTURES and _is_template(key.split(), tally, tally.rows / total)
    ]
    return tuple(sorted(found, key=lambda repeated: (-repeated.rows, repeated.phrase)))


def wording_key(phrase: str) -> str:
    """Equal for phrases that count as the same; empty where there is nothing but punctuation."""
    return normalise(phrase[:_CHARACTERS_READ])


def _is_template(spoken: list[str], tally: _Tally, share: float) -> bool:
    if len(spoken) >= _LONG_WORDS:
        return True
    bar = _MIDDLING
    if len(spoken) < _SHORT_WORDS:
        if words().everyday | _STAND_FOR_THINGS >= set(spoken):
            return False
        bar = _SHORT
    if not tally.categories:
        return share >= bar.least_share_unseen
    alike = max(tally.categories.values()) / tally.rows
    return share >= bar.least_share and len(tally.categories) >= bar.kinds and alike <= bar.most_alike
