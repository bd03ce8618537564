"""Wordings that stand on many unrelated boxes: found by structure, kept, and taken for placeholders from then on."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate.chunks import in_chunks
from annotate.edits import now
from annotate.structure import repeated_phrases, wording_key
from grounding.database import connect, reading, transaction

# What people wrote stays what it is: somebody looked at the box.
_UNSEEN_BY_PEOPLE = "state = 'imported' AND edited_by = ''"
_MARK = (
    f"UPDATE samples SET placeholder = 1, problems = '' WHERE position = ? AND placeholder = 0 AND {_UNSEEN_BY_PEOPLE}"
)


@dataclass(frozen=True)
class TemplatesFound:
    """`phrases` are new templates as first met; `samples` became placeholders by them."""

    phrases: tuple[str, ...]
    samples: int


def mark_templates(path: Path) -> TemplatesFound:
    """Look through all phrases of the store for templates (see `annotate.structure`), and mark what they stand on.

    A marked sample waits among the placeholders like one of a known wording; its phrase and revision stay. In chunks,
    so that people can save meanwhile; what they save is left alone.
    """
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT phrase, category, picture_sha256 FROM samples WHERE state <> 'rejected' AND placeholder = 0"
        )
        found = {wording_key(one.phrase): one.phrase for one in repeated_phrases(map(tuple, rows))}
        if not found:
            return TemplatesFound((), 0)
        standing = _standing_on(connection, found)
    counts = dict.fromkeys(found, 0)
    with connect(path) as connection:
        # Known first: what is saved while the samples are marked is told by them already.
        with transaction(connection):
            connection.executemany(
                "INSERT INTO templates (phrase, samples, at) VALUES (?, 0, ?) ON CONFLICT DO NOTHING",
                [(key, now()) for key in found],
            )
        for chunk in in_chunks(connection, standing):
            for key, position in chunk:
                counts[key] += connection.execute(_MARK, (position,)).rowcount
        with transaction(connection):
            connection.executemany(
                "UPDATE templates SET samples = samples + ? WHERE phrase = ?",
                [(count, key) for key, count in counts.items()],
            )
    return TemplatesFound(tuple(found.values()), sum(counts.values()))


def _standing_on(connection: sqlite3.Connection, keys: Collection[str]) -> Iterator[tuple[str, int]]:
    """(template, position) of the samples that these stand on. Eight bytes each are held: they may be many."""
    found = {key: array("q") for key in keys}
    for row in connection.execute(
        f"SELECT position, phrase FROM samples WHERE placeholder = 0 AND {_UNSEEN_BY_PEOPLE}"
    ):
        key = wording_key(row["phrase"])
        if key in found:
            found[key].append(row["position"])
    return ((key, position) for key, positions in found.items() for position in positions)
