"""Which samples wait for somebody to decide between opinions. All inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3

from annotate.rows import boxes_of
from grounding.placeholders import normalise

HIT_IOU = 0.5


def refresh(connection: sqlite3.Connection, sample_id: str) -> None:
    """Bring the sample's place among the undecided up to date, after a change of it or a new opinion."""
    if connection.execute("SELECT 1 FROM opinions WHERE sample_id = ? LIMIT 1", (sample_id,)).fetchone() is None:
        return
    connection.execute("DELETE FROM undecided WHERE sample_id = ?", (sample_id,))
    if is_undecided(connection, sample_id):
        connection.execute(
            "INSERT INTO undecided (sample_id, split, position) SELECT id, split, position FROM samples WHERE id = ?",
            (sample_id,),
        )


def is_undecided(connection: sqlite3.Connection, sample_id: str) -> bool:
    """Whether somebody proposes other words or boxes than stand, or at least half of those who pointed missed.

    What was said before the last decision counts no more; neither does a miss before the words or boxes changed.
    A rejected sample waits for nobody.
    """
    sample = connection.execute("SELECT phrase, state FROM samples WHERE id = ?", (sample_id,)).fetchone()
    if sample["state"] == "rejected":
        return False
    decided, since = _decided_at(connection, sample_id), stands_since(connection, sample_id)
    opinions = connection.execute(
        "SELECT * FROM opinions WHERE sample_id = ? AND revision >= ?", (sample_id, decided)
    ).fetchall()
    stands = (normalise(sample["phrase"]), [list(box) for box in boxes_of(connection, [sample_id]).get(sample_id, [])])
    if any(one["kind"] == "phrase" and _said(one) != stands for one in opinions):
        return True
    pointed = [one["iou"] for one in opinions if one["kind"] == "blind" and one["revision"] >= since]
    return bool(pointed) and 2 * sum(iou < HIT_IOU for iou in pointed) >= len(pointed)


def stands_since(connection: sqlite3.Connection, sample_id: str) -> int:
    """The revision at which the sample got the phrase and boxes that it has."""
    row = connection.execute(
        "SELECT MAX(revision) FROM changes WHERE sample_id = ? AND (phrase_before IS NOT phrase_after "
        "OR json_extract(before, '$.boxes_xyxy_px') IS NOT NULL)",
        (sample_id,),
    ).fetchone()
    return int(row[0])


def _decided_at(connection: sqlite3.Connection, sample_id: str) -> int:
    """The revision of the last decision that was not undone; 0 without one."""
    row = connection.execute(
        "SELECT COALESCE(MAX(revision), 0) FROM changes WHERE sample_id = ? AND action = 'decide' "
        "AND NOT EXISTS (SELECT 1 FROM changes later WHERE later.undoes = changes.id)",
        (sample_id,),
    ).fetchone()
    return int(row[0])


def _said(opinion: sqlite3.Row) -> tuple[str, list[list[float]]]:
    return normalise(opinion["phrase"]), json.loads(opinion["boxes_xyxy_px"])
