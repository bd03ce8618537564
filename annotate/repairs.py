"""Fill placeholders from the phrases that the source itself gave for the same box, and take that back."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

from annotate.edits import Edit, apply, take_back
from annotate.items import RepairPreview, RepairReport
from annotate.phrases import usable_phrase
from annotate.rows import BATCH_ROWS
from grounding.errors import StoreError


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
    batch = f"repair-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    edit = Edit(who, "repair", origin="source", batch=batch)
    count = left = 0
    for row, phrase in _placeholders(connection):
        if phrase is None:
            left += 1
            continue
        apply(connection, row, {"phrase": phrase, "state": "repaired", "skipped_at": None, "skip_order": 0}, edit)
        count += 1
    return RepairReport(count, batch, left)


def undo_repair(connection: sqlite3.Connection, batch: str, who: str) -> RepairReport:
    """Take a repair back wherever it is still the last word; samples changed since keep what people wrote."""
    changes = connection.execute("SELECT * FROM changes WHERE batch = ? ORDER BY id", (batch,)).fetchall()
    if not changes:
        raise StoreError(f"There is no repair named {batch[:80]!r}. Its name stands in the history of each sample.")
    count = 0
    for change in changes:
        row = connection.execute("SELECT * FROM samples WHERE id = ?", (change["sample_id"],)).fetchone()
        if row["revision"] == change["revision"]:
            take_back(connection, row, change, who)
            count += 1
    return RepairReport(count, batch, len(changes) - count)


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
