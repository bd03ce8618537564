"""The queue of a workspace: which runs wait, in which order, and which comes next. It stands in runs.db alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grounding.database import reading, writing
from grounding.errors import JobError
from grounding.jobs.store import RunRecord, RunState, RunStore, check_name_free, next_position, now, run_record

# A run that was taken from the queue this often without a worker coming to life does not go back into it.
MOST_FALSE_STARTS = 3


@dataclass(frozen=True)
class QueueSettings:
    """Whether the queue goes on after a failed run, and whether it waits now; `reason` says why it waits."""

    go_on_after_failure: bool
    paused: bool
    reason: str


class RunQueue:
    """What one may do with the queue. Every change is one transaction, so that any number of pages, commands and
    workers may act at once."""

    def __init__(self, store: RunStore) -> None:
        self.store = store

    def waiting(self) -> list[RunRecord]:
        """The queued runs, the next one first."""
        with reading(self.store.path) as connection:
            rows = connection.execute("SELECT * FROM runs WHERE state = 'queued' ORDER BY position").fetchall()
        return [run_record(row) for row in rows]

    def ended(self, limit: int = 20) -> list[RunRecord]:
        """The runs that have ended, the last one first."""
        with reading(self.store.path) as connection:
            rows = connection.execute(
                "SELECT * FROM runs WHERE state NOT IN ('queued', 'starting', 'running') "
                "ORDER BY finished_at DESC, id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [run_record(row) for row in rows]

    def settings(self) -> QueueSettings:
        with reading(self.store.path) as connection:
            row = connection.execute("SELECT * FROM queue").fetchone()
        return QueueSettings(bool(row["go_on_after_failure"]), bool(row["paused"]), row["reason"])

    def set_go_on_after_failure(self, go_on: bool) -> None:
        with writing(self.store.path) as connection:
            connection.execute("UPDATE queue SET go_on_after_failure = ?", (int(go_on),))

    def pause(self, reason: str = "The queue waits, as somebody has paused it.") -> None:
        """Start no further run. The one that goes on is left alone."""
        with writing(self.store.path) as connection:
            connection.execute("UPDATE queue SET paused = 1, reason = ?", (reason,))

    def go_on(self) -> None:
        with writing(self.store.path) as connection:
            connection.execute("UPDATE queue SET paused = 0, reason = ''")

    def may_start(self) -> bool:
        """Whether a run waits that could begin now. A cheap look, without the lock that `take_next` needs."""
        with reading(self.store.path) as connection:
            return _next(connection) is not None

    def take_next(self) -> RunRecord | None:
        """Take the next run out of the queue, to be started by the caller and by nobody else.

        None while a run is active, the queue is paused or empty.
        """
        with writing(self.store.path) as connection:
            run_id = _next(connection)
            if run_id is None:
                return None
            connection.execute(
                "UPDATE runs SET state = 'starting', position = NULL, attempt = attempt + 1, started_at = ?, "
                "finished_at = NULL, sentence = '', pid = NULL, process_started = NULL, machine = NULL, "
                "heartbeat_at = NULL, stop_requested = 0, discard_requested = 0, asked_at = NULL WHERE id = ?",
                (now(), run_id),
            )
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        return run_record(row)

    def put_back(self, run: RunRecord) -> bool:
        """Put a starting run that got no worker back to the front. False when it has got one, or was put back often
        enough: `attempt` counts the starts."""
        if run.attempt >= MOST_FALSE_STARTS:
            return False
        with writing(self.store.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = 'queued', started_at = NULL, "
                "position = (SELECT coalesce(min(position), 1) - 1 FROM runs) "
                "WHERE id = ? AND state = 'starting' AND attempt = ? AND pid IS NULL",
                (run.id, run.attempt),
            ).rowcount
        return changed == 1

    def requeue(self, run_id: str) -> RunRecord:
        """Queue a stopped or failed run once more. Raises `JobError` for any other."""
        with writing(self.store.path) as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is None or not run_record(row).state.resumable:
                state = f"is {row['state']}" if row is not None else "does not exist"
                raise JobError(f"The run {run_id} {state}: only a stopped or failed run can be resumed.")
            check_name_free(connection, row["name"], run_id)
            connection.execute(
                "UPDATE runs SET state = 'queued', position = ?, stop_requested = 0, discard_requested = 0, "
                "asked_at = NULL WHERE id = ?",
                (next_position(connection), run_id),
            )
        return self.store.get(run_id)

    def move(self, run_id: str, place: int) -> None:
        """Give a queued run the place `place`, from 1, which is the next to start; beyond the end is the end.

        Raises `JobError` when the run doesn't wait.
        """
        with writing(self.store.path) as connection:
            order = [
                row["id"] for row in connection.execute("SELECT id FROM runs WHERE state = 'queued' ORDER BY position")
            ]
            if run_id not in order:
                raise _not_waiting(run_id)
            order.remove(run_id)
            order.insert(max(0, place - 1), run_id)
            connection.executemany(
                "UPDATE runs SET position = ? WHERE id = ?", [(number, kept) for number, kept in enumerate(order, 1)]
            )

    def check_editable(self, run_id: str) -> RunRecord:
        """The run, when its settings may be changed. Raises `JobError` with the reason otherwise: it doesn't wait, was
        begun before, or a sweep has chosen its settings."""
        run = self.store.get(run_id)
        if run.state is not RunState.QUEUED:
            raise _not_waiting(run_id)
        if run.sweep:
            raise _of_a_sweep(run.name, run.sweep)
        if run.attempt:
            raise _begun(run.name)
        return run

    def edit(self, run_id: str, *, name: str, settings: Mapping[str, Any], stood: RunRecord | None = None) -> RunRecord:
        """Other settings and another name for a queued run. Raises `JobError` when it doesn't wait or was begun: what
        was learned under other settings can't be gone on with; and when it isn't as it `stood` before (None: not
        known)."""
        with writing(self.store.path) as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ? AND state = 'queued'", (run_id,)).fetchone()
            if row is None:
                raise _not_waiting(run_id)
            if row["sweep"]:
                raise _of_a_sweep(row["name"], row["sweep"])
            if stood is not None and (row["name"], json.loads(row["settings"])) != (stood.name, dict(stood.settings)):
                raise _edited_meanwhile(stood.name)
            if _was_begun(connection, run_id) and json.loads(row["settings"]) != json.loads(json.dumps(dict(settings))):
                raise _begun(row["name"])
            check_name_free(connection, name, run_id)
            connection.execute(
                "UPDATE runs SET name = ?, settings = ? WHERE id = ?", (name, json.dumps(dict(settings)), run_id)
            )
        return self.store.get(run_id)

    def remove(self, run_id: str) -> RunRecord:
        """Take a run that waits or has ended out of the record. Raises `JobError` for one that goes on."""
        run = self.store.get(run_id)
        with writing(self.store.path) as connection:
            removed = connection.execute(
                "DELETE FROM runs WHERE id = ? AND state NOT IN ('starting', 'running')", (run_id,)
            ).rowcount
        if not removed:
            raise JobError(f"The run {run.name!r} goes on: stop or discard it first.")
        return run

    def leave(self, run_id: str, sentence: str) -> None:
        """Take a run that was begun before out of the queue; it stands among the stopped ones again."""
        with writing(self.store.path) as connection:
            left = connection.execute(
                "UPDATE runs SET state = 'stopped', position = NULL, sentence = ?, finished_at = coalesce(finished_at, "
                "?) WHERE id = ? AND state = 'queued'",
                (sentence, now(), run_id),
            ).rowcount
        if not left:
            raise _not_waiting(run_id)

    def discard_ended(self, run_id: str, sentence: str) -> bool:
        """Mark a stopped or failed run as discarded; False when it is neither."""
        with writing(self.store.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = 'discarded', sentence = ? WHERE id = ? AND state IN ('stopped', 'failed')",
                (sentence, run_id),
            ).rowcount
        return changed == 1

    def check_name(self, name: str) -> None:
        """Raises `JobError` when a run on its way has the name."""
        with reading(self.store.path) as connection:
            check_name_free(connection, name)

    def names(self) -> set[str]:
        """The names of all runs."""
        with reading(self.store.path) as connection:
            return {row["name"] for row in connection.execute("SELECT DISTINCT name FROM runs")}


def _next(connection: sqlite3.Connection) -> str | None:
    row = connection.execute(
        "SELECT id FROM runs WHERE state = 'queued' AND NOT (SELECT paused FROM queue) "
        "AND NOT EXISTS (SELECT 1 FROM runs WHERE state IN ('starting', 'running')) ORDER BY position LIMIT 1"
    ).fetchone()
    return None if row is None else str(row["id"])


def _was_begun(connection: sqlite3.Connection, run_id: str) -> bool:
    return (
        connection.execute("SELECT 1 FROM events WHERE run_id = ? AND kind = 'step' LIMIT 1", (run_id,)).fetchone()
        is not None
    )


def _of_a_sweep(name: str, sweep: str) -> JobError:
    return JobError(
        f"The run {name!r} belongs to the sweep {sweep!r}, which has chosen its settings. Duplicate it instead."
    )


def _edited_meanwhile(name: str) -> JobError:
    return JobError(
        f"{name!r} was edited meanwhile, in another window or by somebody else. Nothing was replaced: note what you "
        "changed, press Cancel, and then Edit again."
    )


def _begun(name: str) -> JobError:
    return JobError(f"The run {name!r} was begun with its settings and goes on with them. Duplicate it instead.")


def _not_waiting(run_id: str) -> JobError:
    return JobError(f"The run {run_id} doesn't wait in the queue (any more): it was started, removed or has ended.")
