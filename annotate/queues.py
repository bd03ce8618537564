"""Next and previous in a queue: one index seek a split, so that a million samples cost what a hundred do."""

from __future__ import annotations

import sqlite3

from annotate.items import Place, Queue
from grounding.errors import StoreError
from grounding.records import SPLITS

# Each condition is word for word that of its partial index (schema m002), or SQLite could not use it.
_QUEUES = {
    "placeholders": ("samples_placeholders", "placeholder = 1 AND state <> 'rejected'"),
    "flagged": ("samples_flagged", "flagged = 1"),
    "skipped": ("samples_skipped", "skipped_at IS NOT NULL"),
    "all": ("samples_of_split", "1"),
}
QUEUES: tuple[str, ...] = tuple(_QUEUES)
_BEFORE_ALL: Place = (-1, -1)
_BEHIND_ALL: Place = (2**62, 2**62)


def seek(
    connection: sqlite3.Connection, queue: Queue, place: Place | None, split: str | None, *, forward: bool
) -> str | None:
    """The id of the sample next to `place` in the queue, or None at its end.

    A queue runs by (skip order, position): skipped samples come last, the longest skipped first. The queue "all"
    runs by position alone. `place` None starts at the front, or at the back when not `forward`.
    """
    check_queue(queue)
    start = place if place is not None else (_BEFORE_ALL if forward else _BEHIND_ALL)
    sql = seek_sql(queue, forward=forward)
    parameters = (start[1],) if queue == "all" else start
    found = []
    for one_split in [split] if split else SPLITS:
        row = connection.execute(sql, (one_split, *parameters)).fetchone()
        if row is not None:
            found.append(((row["position"],) if queue == "all" else (row["skip_order"], row["position"]), row["id"]))
    if not found:
        return None
    return (min(found) if forward else max(found))[1]


def seek_sql(queue: Queue, *, forward: bool) -> str:
    """The statement of one seek. Parameters: split, then the place (for "all" the position alone)."""
    index, condition = _QUEUES[queue]
    sign, order = (">", "ASC") if forward else ("<", "DESC")
    if queue == "all":
        where, by = f"position {sign} ?", f"position {order}"
    else:
        where, by = f"(skip_order, position) {sign} (?, ?)", f"skip_order {order}, position {order}"
    return (
        f"SELECT id, skip_order, position FROM samples INDEXED BY {index} "
        f"WHERE split = ? AND {condition} AND {where} ORDER BY {by} LIMIT 1"
    )


def check_queue(queue: str) -> None:
    if queue not in _QUEUES:
        raise StoreError(f"There is no queue {queue!r}. Expected one of {', '.join(QUEUES)}.")


def check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise StoreError(f"There is no split {split!r}. Expected one of {', '.join(SPLITS)}, or none for all.")
