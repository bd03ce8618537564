"""Who has which sample open. Leases only advise: what guards a save is the revision that it names."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from annotate.edits import clean_who
from grounding.database import reading, writing
from grounding.errors import StoreError

LEASE_SECONDS = 45.0


@dataclass(frozen=True)
class Held:
    """Who has a sample open, and until when: seconds since 1970. `yours` is about the page that asked."""

    by: str
    yours: bool
    until: float


class Leases:
    """The leases of one workspace. Safe to share between threads and processes.

    A `token` stands for one open page, which shows one sample at a time: with a new lease it lets go of its last one.
    The same person's other page has another token. Every method raises `StoreError` when the file can't be used.
    """

    def __init__(self, annotations_db: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(annotations_db).absolute()
        self._clock = clock

    def hold(self, sample_id: str, who: str, token: str, seconds: float = LEASE_SECONDS) -> Held:
        """Take the sample, or keep it, when no other page has it; otherwise say who does.

        Call it as a heartbeat: it writes only when less than half of the time is left. Raises `StoreError` for an
        unknown id.
        """
        return self._hold(sample_id, who, token, seconds, by_force=False)

    def take_over(self, sample_id: str, who: str, token: str, seconds: float = LEASE_SECONDS) -> Held:
        """Take the sample whoever has it. Their next heartbeat tells them. Raises `StoreError` for an unknown id."""
        return self._hold(sample_id, who, token, seconds, by_force=True)

    def release(self, token: str) -> None:
        """Let go of what this page holds, as it is closed or moves on."""
        with reading(self.path) as connection:
            held = connection.execute("SELECT 1 FROM leases WHERE token = ?", (token,)).fetchone()
        if held is not None:
            with writing(self.path, to_disk=False) as connection:
                connection.execute("DELETE FROM leases WHERE token = ? OR until <= ?", (token, self._clock()))

    def _hold(self, sample_id: str, who: str, token: str, seconds: float, *, by_force: bool) -> Held:
        now = self._clock()
        with reading(self.path) as connection:
            held = _holder(connection, sample_id, token, now)
            lingers = connection.execute(
                "SELECT 1 FROM leases WHERE token = ? AND sample_id <> ?", (token, sample_id)
            ).fetchone()
        takes = by_force or held is None or held.yours
        is_fresh = held is not None and held.yours and held.until - now >= seconds / 2
        if lingers is None and (is_fresh or not takes):
            assert held is not None
            return held
        with writing(self.path, to_disk=False) as connection:
            connection.execute(
                "DELETE FROM leases WHERE until <= ? OR (token = ? AND sample_id <> ?)", (now, token, sample_id)
            )
            # Looked at again under the lock: another page may have been quicker.
            held = _holder(connection, sample_id, token, now)
            if held is not None and not held.yours and not by_force:
                return held
            return _take(connection, sample_id, clean_who(who), token, now + seconds)


def _holder(connection: sqlite3.Connection, sample_id: str, token: str, now: float) -> Held | None:
    row = connection.execute("SELECT * FROM leases WHERE sample_id = ? AND until > ?", (sample_id, now)).fetchone()
    return None if row is None else Held(row["who"], row["token"] == token, row["until"])


def _take(connection: sqlite3.Connection, sample_id: str, who: str, token: str, until: float) -> Held:
    if connection.execute("SELECT 1 FROM samples WHERE id = ?", (sample_id,)).fetchone() is None:
        raise StoreError(f"There is no sample {sample_id[:80]!r} in this workspace. Reload the page, or import it.")
    connection.execute(
        "INSERT INTO leases (sample_id, who, token, until) VALUES (?, ?, ?, ?) ON CONFLICT (sample_id) "
        "DO UPDATE SET who = excluded.who, token = excluded.token, until = excluded.until",
        (sample_id, who, token, until),
    )
    return Held(who, True, until)
