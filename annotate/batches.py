"""Many edits under one name, and all of them taken back by it."""

from __future__ import annotations

import secrets
import sqlite3
from datetime import UTC, datetime

from annotate.edits import take_back
from annotate.items import RepairReport
from annotate.rows import BATCH_ROWS
from grounding.errors import StoreError


def batch_name(kind: str) -> str:
    """A name that no other batch has; it begins with `kind` and the time in UTC."""
    return f"{kind}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def undo_batch(connection: sqlite3.Connection, batch: str, who: str) -> RepairReport:
    """Take a batch back wherever it is still the last word; samples changed since keep what people wrote."""
    count = left = last_id = 0
    while changes := connection.execute(
        "SELECT * FROM changes WHERE batch = ? AND id > ? AND undoes IS NULL ORDER BY id LIMIT ?",
        (batch, last_id, BATCH_ROWS),
    ).fetchall():
        for change in changes:
            row = connection.execute("SELECT * FROM samples WHERE id = ?", (change["sample_id"],)).fetchone()
            if row["revision"] == change["revision"]:
                take_back(connection, row, change, who, batch=f"undo-{batch}")
                count += 1
            else:
                left += 1
        last_id = changes[-1]["id"]
    if not last_id:
        raise StoreError(
            f"There is no repair or bulk edit named {batch[:80]!r}. See the history of a sample for names."
        )
    return RepairReport(count, batch, left)
