"""Pictures that stand in train and, as they are or as a copy, in val or test too: a model would be scored on what it
has learned by heart."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from annotate.twins import NOTHING_TO_SEE, alike, look_at, near_pairs
from grounding.errors import PictureError

Kind = Literal["same_picture", "same_image_id", "near_duplicate"]
KINDS: tuple[Kind, ...] = ("same_picture", "same_image_id", "near_duplicate")
# A number that stands for more pictures than this is no name of a picture.
_MOST_PICTURES_OF_AN_ID = 16
_MANY_PAIRS = 8
_PAIRS_LOOKED_AT = 64
_LOOKS_KEPT = 4096


@dataclass(frozen=True)
class Leak:
    """A picture of train and the one in val or test that it is a copy of: the same for `same_picture`.

    The pictures are SHA-256, the samples ids in import order.
    """

    kind: Kind
    train_picture: str
    held_out_picture: str
    train_samples: tuple[str, ...]
    held_out_samples: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a line of leaks.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class LeakReport:
    """Every leak. `not_compared` pictures couldn't be looked at, or show one even surface: near-duplicates of those
    are not found."""

    leaks: tuple[Leak, ...]
    not_compared: int

    def kind_of_picture(self) -> dict[str, Kind]:
        """The first kind of `KINDS` that holds for each picture of train that leaks, by its SHA-256."""
        kinds = sorted(((leak.train_picture, leak.kind) for leak in self.leaks), key=lambda each: -KINDS.index(each[1]))
        return dict(kinds)

    def counts(self) -> Mapping[Kind, int]:
        """How many train samples leak, each under the first kind that holds."""
        kind_of = self.kind_of_picture()
        samples = {leak.train_picture: len(leak.train_samples) for leak in self.leaks}
        counts = Counter(dict.fromkeys(KINDS, 0))
        for picture, kind in kind_of.items():
            counts[kind] += samples[picture]
        return dict(counts)


def find_leaks(connection: sqlite3.Connection, pictures_folder: Path, *, by_looks: bool = True) -> LeakReport:
    """The leaks as the store stands; near-duplicates among the pictures that `annotate.twins.fill_hashes` has seen.

    Not `by_looks`: those alone that are told without looking at many pictures, the same bytes and the same id in the
    same source.
    """
    looks = _Looks(connection, pictures_folder)
    ways: list[tuple[Kind, Iterator[tuple[str, str]]]] = [
        ("same_picture", ((same, same) for same in shared_pictures(connection, "train", "val", "test"))),
        ("same_image_id", _same_image_ids(connection, looks, by_looks=by_looks)),
    ]
    if by_looks:
        ways.append(("near_duplicate", _near_duplicates(connection, looks)))
    found: dict[tuple[str, str], Kind] = {}
    for kind, pairs in ways:
        for pair in pairs:
            found.setdefault(pair, kind)
    leaks = [_leak(connection, kind, *pair) for pair, kind in found.items()]
    leaks.sort(key=lambda leak: (KINDS.index(leak.kind), leak.train_picture, leak.held_out_picture))
    count = connection.execute("SELECT count(*) FROM pictures WHERE dhash IS NULL OR dhash = ?", (NOTHING_TO_SEE,))
    return LeakReport(tuple(leaks), int(count.fetchone()[0]))


def shared_pictures(connection: sqlite3.Connection, split: str, *others: str) -> Iterator[str]:
    """The pictures, by SHA-256, that stand in the split and in one of the others too."""
    marks = ", ".join("?" * len(others))
    rows = connection.execute(
        "SELECT DISTINCT picture_sha256 FROM samples WHERE split = ? "
        f"INTERSECT SELECT picture_sha256 FROM samples WHERE split IN ({marks})",
        (split, *others),
    )
    return (sha256 for (sha256,) in rows)


def _same_image_ids(connection: sqlite3.Connection, looks: _Looks, *, by_looks: bool) -> Iterator[tuple[str, str]]:
    """Pictures that have the same id in the same source, be they cut or painted over. Two sources may number
    different pictures alike, and so may one that counts anew in each split: theirs must look alike as well."""
    rows = connection.execute(
        "WITH named AS (SELECT DISTINCT image_id, source, picture_sha256, split = 'train' AS learned FROM samples "
        "WHERE image_id <> ''), shared AS (SELECT image_id FROM named GROUP BY image_id "
        "HAVING count(DISTINCT picture_sha256) BETWEEN 2 AND ? AND count(DISTINCT learned) = 2) "
        "SELECT t.picture_sha256, h.picture_sha256, max(CASE WHEN t.source = h.source THEN t.source END) FROM shared "
        "JOIN named t ON t.image_id = shared.image_id AND t.learned "
        "JOIN named h ON h.image_id = shared.image_id AND NOT h.learned AND h.picture_sha256 <> t.picture_sha256 "
        "GROUP BY 1, 2",
        (_MOST_PICTURES_OF_AN_ID,),
    )
    pairs_of: dict[str | None, list[tuple[str, str]]] = {}
    for ours, theirs, source in rows:
        pairs_of.setdefault(source, []).append((ours, theirs))
    for source, pairs in pairs_of.items():
        believed = source is not None and not _counts_anew(pairs, looks)
        if believed or by_looks:
            yield from (pair for pair in pairs if believed or looks.alike(*pair))


def _counts_anew(pairs: Sequence[tuple[str, str]], looks: _Looks) -> bool:
    """Whether hardly any of a source's many pictures with the same id look alike."""
    some = pairs[:: max(1, len(pairs) // _PAIRS_LOOKED_AT)]
    return len(pairs) >= _MANY_PAIRS and sum(looks.alike(*pair) for pair in some) < len(some) / 10


def _near_duplicates(connection: sqlite3.Connection, looks: _Looks) -> Iterator[tuple[str, str]]:
    query = (
        "SELECT sha256, dhash FROM pictures WHERE dhash <> ? AND EXISTS "
        "(SELECT 1 FROM samples WHERE picture_sha256 = sha256 AND split {} 'train')"
    )
    learned = dict(connection.execute(query.format("="), (NOTHING_TO_SEE,)).fetchall())
    held_out = dict(connection.execute(query.format("<>"), (NOTHING_TO_SEE,)).fetchall())
    alone = {sha256: dhash for sha256, dhash in learned.items() if sha256 not in held_out}
    return ((ours, theirs) for ours, theirs in near_pairs(alone, held_out) if looks.alike(ours, theirs))


class _Looks:
    """Compares pictures of the store by their SHA-256, and remembers some of what it has read."""

    def __init__(self, connection: sqlite3.Connection, pictures_folder: Path) -> None:
        self._connection = connection
        self._folder = pictures_folder
        self._look = lru_cache(_LOOKS_KEPT)(self._read)

    def _read(self, sha256: str) -> Any:
        row = self._connection.execute("SELECT file FROM pictures WHERE sha256 = ?", (sha256,)).fetchone()
        return look_at(self._folder / row[0])

    def alike(self, one: str, other: str) -> bool:
        """False too where a picture can't be read any more."""
        try:
            return alike(self._look(one), self._look(other))
        except PictureError:
            return False


def _leak(connection: sqlite3.Connection, kind: Kind, ours: str, theirs: str) -> Leak:
    def samples(sha256: str, split: str) -> tuple[str, ...]:
        query = f"SELECT id FROM samples WHERE picture_sha256 = ? AND split {split} 'train' ORDER BY position"
        return tuple(row[0] for row in connection.execute(query, (sha256,)))

    return Leak(kind, ours, theirs, samples(ours, "="), samples(theirs, "<>"))
