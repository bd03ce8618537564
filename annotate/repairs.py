"""Fill placeholders from the phrases that the source itself gave for the same box."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from annotate.batches import batch_name
from annotate.edits import Edit, apply
from annotate.items import RepairPreview, RepairReport
from annotate.phrases import usable_phrase
from annotate.rows import BATCH_ROWS


def preview(connection: sqlite3.Connection, limit: int) -> RepairPreview:
    """What `repair` would do now, with up to `limit` examples."""
    total = left = 0
    examples: list[tuple[str, str, str]] = []
    for row, phrase in _placeholders(connection):
        if phrase is None:
            left += 1
            continue
        total += 1
        if len(examples) < limit:
            examples.append((row["id"], row["phrase"], phrase))
    return RepairPreview(total, left, tuple(examples))


def repair(connection: sqlite3.Connection, who: str) -> RepairReport:
    """Give every placeholder its first usable alternative. Rejected samples stay as they are."""
    batch = batch_name("repair")
    edit = Edit(who, "repair", origin="source", batch=batch)
    count = left = 0
    for row, phrase in _placeholders(connection):
        if phrase is None:
            left += 1
            continue
        apply(connection, row, {"phrase": phrase, "state": "repaired", "skipped_at": None, "skip_order": 0}, edit)
        count += 1
    return RepairReport(count, batch, left)


def _placeholders(connection: sqlite3.Connection) -> Iterator[tuple[sqlite3.Row, str | None]]:
    """Every open placeholder with the phrase that it would get; rows may be changed while this runs."""
    position = -1
    while rows := connection.execute(
        "SELECT * FROM samples INDEXED BY samples_in_order "
        "WHERE placeholder = 1 AND state <> 'rejected' AND position > ? ORDER BY position LIMIT ?",
        (position, BATCH_ROWS),
    ).fetchall():
        for row in rows:
            usable = (usable_phrase(text) for text in json.loads(row["alternatives"]))
            yield row, next((phrase for phrase in usable if phrase is not None), None)
        position = rows[-1]["position"]
