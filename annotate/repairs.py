"""Fill placeholders from the phrases that the source itself gave for the same box."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from annotate.batches import Outcome, last_change, outcomes
from annotate.edits import WORKED_ON
from annotate.items import RepairPreview
from annotate.phrases import usable_phrase
from annotate.scopes import Scope

# Rejected samples are not among them: they stay as they are.
PLACEHOLDERS = Scope("placeholders")


def preview(connection: sqlite3.Connection, limit: int) -> RepairPreview:
    """What a repair would do now, with up to `limit` examples."""
    total = left = 0
    examples: list[tuple[str, str, str]] = []
    as_of = last_change(connection)
    for row, outcome in outcomes(connection, PLACEHOLDERS, fill_from_source):
        if outcome.refusal:
            left += 1
            continue
        total += 1
        if len(examples) < limit:
            examples.append((row["id"], outcome.before, outcome.after))
    return RepairPreview(total, left, tuple(examples), as_of)


def fill_from_source(connection: sqlite3.Connection, row: Any) -> Outcome:
    """Give a placeholder its first usable alternative; refused when it has none."""
    usable = (usable_phrase(text) for text in json.loads(row["alternatives"]))
    phrase = next((phrase for phrase in usable if phrase is not None), None)
    if phrase is None:
        return Outcome(row["phrase"], "", {}, "The source gives no phrase of its own for it.")
    return Outcome(row["phrase"], phrase, {"phrase": phrase, "state": "repaired", **WORKED_ON})
