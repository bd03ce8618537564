"""Wordings that stand on many unrelated boxes: found by structure, kept, and taken for placeholders from then on."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from annotate.edits import now
from annotate.structure import repeated_phrases, wording_key
from grounding.database import reading, writing

# What people wrote stays what it is: somebody looked at the box.
_UNSEEN_BY_PEOPLE = "state = 'imported' AND edited_by = ''"


@dataclass(frozen=True)
class TemplatesFound:
    """`phrases` are new templates as first met; `samples` became placeholders by them."""

    phrases: tuple[str, ...]
    samples: int


def mark_templates(path: Path) -> TemplatesFound:
    """Look through all phrases of the store for templates (see `annotate.structure`), and mark what they stand on.

    A marked sample waits among the placeholders like one of a known wording; its phrase and revision stay.
    """
    with reading(path) as connection:
        rows = connection.execute(
            "SELECT phrase, category, picture_sha256 FROM samples WHERE state <> 'rejected' AND placeholder = 0"
        )
        found = {wording_key(one.phrase): one.phrase for one in repeated_phrases(map(tuple, rows))}
    if not found:
        return TemplatesFound((), 0)
    with writing(path) as connection:
        counts = {key: _mark(connection, key) for key in found}
        connection.executemany(
            "INSERT INTO templates (phrase, samples, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(key, count, now()) for key, count in counts.items()],
        )
    return TemplatesFound(tuple(found.values()), sum(counts.values()))


def _mark(connection: sqlite3.Connection, key: str) -> int:
    rows = connection.execute(f"SELECT id, phrase FROM samples WHERE placeholder = 0 AND {_UNSEEN_BY_PEOPLE}")
    ids = [row["id"] for row in rows if wording_key(row["phrase"]) == key]
    connection.executemany("UPDATE samples SET placeholder = 1, problems = '' WHERE id = ?", [(one,) for one in ids])
    return len(ids)
