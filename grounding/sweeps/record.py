"""The record of the sweeps of a workspace: whether each goes on, and how it ended. In runs.db, beside their runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from grounding.database import reading, writing
from grounding.errors import JobError
from grounding.jobs.store import RunRecord, RunStore, now, run_record


class SweepState(StrEnum):
    """`going`: further runs are queued as earlier ones end. `stopped`: somebody stopped it; it can go on. `done`."""

    GOING = "going"
    STOPPED = "stopped"
    DONE = "done"


@dataclass(frozen=True)
class SweepRecord:
    """One sweep. `sentence` says how it ended, `trouble` what keeps it from going on now; "" for nothing."""

    name: str
    state: SweepState
    created_at: str
    ended_at: str | None
    sentence: str
    trouble: str


class SweepStore:
    """The sweeps of a workspace. A connection an operation, so any thread or process may use it."""

    def __init__(self, runs_db: Path) -> None:
        self.path = RunStore(runs_db).path  # with its tables brought up to date

    def add(self, name: str, prepare: Callable[[], None] = lambda: None) -> None:
        """A new sweep that goes on. Raises `JobError` for a name that is taken.

        `prepare` is called once the name is this one's, before anybody can see it; where it raises, there is no sweep.
        """
        with writing(self.path) as connection:
            if connection.execute("SELECT 1 FROM sweeps WHERE name = ?", (name,)).fetchone():
                raise JobError(f"A sweep called {name!r} stands already. Choose another name.")
            connection.execute("INSERT INTO sweeps (name, state, created_at) VALUES (?, 'going', ?)", (name, now()))
            prepare()

    def get(self, name: str) -> SweepRecord:
        """Raises `JobError` for an unknown name."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM sweeps WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = ", ".join(sweep.name for sweep in self.list()) or "none yet"
            raise JobError(f"There is no sweep {name[:60]!r}. Sweeps here: {known}.")
        return _record(row)

    def list(self) -> list[SweepRecord]:
        """The sweeps, those that go on first, then the newest."""
        with reading(self.path) as connection:
            rows = connection.execute(
                "SELECT * FROM sweeps ORDER BY state = 'going' DESC, created_at DESC, name"
            ).fetchall()
        return [_record(row) for row in rows]

    def change(self, name: str, before: SweepState, after: SweepState, sentence: str = "") -> bool:
        """Bring a sweep from one state to another; False when it is not in the first."""
        ended = None if after is SweepState.GOING else now()
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE sweeps SET state = ?, sentence = ?, ended_at = ?, trouble = '' WHERE name = ? AND state = ?",
                (str(after), sentence, ended, name, str(before)),
            ).rowcount
        return changed == 1

    def set_trouble(self, name: str, trouble: str) -> None:
        """What keeps the sweep from going on; written only where it is news."""
        if self.get(name).trouble == trouble:
            return
        with writing(self.path) as connection:
            connection.execute("UPDATE sweeps SET trouble = ? WHERE name = ?", (trouble, name))

    def remove(self, name: str) -> None:
        """Take an ended sweep with its runs out of the record."""
        with writing(self.path) as connection:
            connection.execute("DELETE FROM runs WHERE sweep = ?", (name,))
            connection.execute("DELETE FROM sweeps WHERE name = ?", (name,))

    def runs(self, name: str) -> dict[int, RunRecord]:
        """The runs of a sweep by the number of their trial."""
        with reading(self.path) as connection:
            rows = connection.execute("SELECT * FROM runs WHERE sweep = ? ORDER BY trial", (name,)).fetchall()
        return {int(row["trial"]): run_record(row) for row in rows}


def _record(row: sqlite3.Row) -> SweepRecord:
    values = dict(row)
    return SweepRecord(**{**values, "state": SweepState(values["state"])})
