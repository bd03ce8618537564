"""Long work on the store, a little at a time: what people save meanwhile comes between and never waits for long."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

from grounding.database import transaction

# Whoever saves waits about as long as a chunk holds the lock.
CHUNK_SECONDS = 0.2
MOST_IN_CHUNK = 5000
# SQLite doesn't hand the lock on: who waits looks for it every tenth of a second, so a pause must be longer.
PAUSE_SECONDS = 0.11
_POSITIONS_AT_ONCE = 5000

Work = TypeVar("Work")


def in_chunks(connection: sqlite3.Connection, work: Iterable[Work]) -> Iterator[Iterator[Work]]:
    """The work in pieces, each in a transaction of its own that stands when the next one is asked for.

    Read inside a piece what must still be true there: others have written since `work` was put together.
    """
    ahead = iter(work)
    for number, first in enumerate(ahead):
        if number:
            time.sleep(PAUSE_SECONDS)
        with transaction(connection):
            yield _for_a_while(chain([first], ahead))


def _for_a_while(work: Iterator[Work]) -> Iterator[Work]:
    end = time.monotonic() + CHUNK_SECONDS
    for one in islice(work, MOST_IN_CHUNK):
        yield one
        if time.monotonic() >= end:
            return


def positions_in(connection: sqlite3.Connection, table: str) -> Iterator[int]:
    """Every `position` of the table in order, read a page at a time so that no statement stays open in between."""
    last = -1
    while page := connection.execute(
        f"SELECT position FROM {table} WHERE position > ? ORDER BY position LIMIT ?", (last, _POSITIONS_AT_ONCE)
    ).fetchall():
        yield from (row[0] for row in page)
        last = page[-1][0]


def row_at(connection: sqlite3.Connection, position: int) -> sqlite3.Row:
    """The sample at this position of the import order, as it stands now."""
    row: sqlite3.Row = connection.execute("SELECT * FROM samples WHERE position = ?", (position,)).fetchone()
    return row
