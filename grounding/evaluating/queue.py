"""The evaluations of a workspace in runs.db: which wait, which goes on, how each ended."""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from grounding.database import prepare, reading, writing
from grounding.errors import JobError
from grounding.evaluating.selection import Selection
from grounding.jobs.processes import AWAY_SECONDS, ProcessMark, is_process, machine_mark, own_mark, seconds_since
from grounding.jobs.schema import migrations
from grounding.jobs.store import now

CLOSED = "It was interrupted, as the app was closed; its answers are kept."
_FREED = "pid = NULL, process_started = NULL, machine = NULL, heartbeat_at = NULL, stop_requested = 0"


class EvaluationState(StrEnum):
    """Where an evaluation stands. `waiting` comes to its turn by itself; `stopped` and `failed` may go on."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (EvaluationState.WAITING, EvaluationState.RUNNING)

    @property
    def may_go_on(self) -> bool:
        return self in (EvaluationState.STOPPED, EvaluationState.FAILED)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation. `adapter` is None for the base; `done` of `total` samples are answered, `left_out` had no usable
    phrase; `seconds` were worked on it; `sentence` says what there is to say.

    `folder` is the one in the workspace's evaluations that holds its answers, and its report once it is done.
    """

    id: str
    model_id: str
    quantize: str
    adapter: str | None
    selection: Selection
    state: EvaluationState
    done: int
    total: int
    left_out: int
    seconds: float
    sentence: str
    folder: str
    stop_requested: bool
    created_at: str
    finished_at: str | None


class EvaluationQueue:
    """What one may do with evaluations. Every change is one transaction; any thread or process may make it."""

    def __init__(self, runs_db: Path) -> None:
        self.path = runs_db
        prepare(runs_db, migrations)

    def add(
        self, model_id: str, quantize: str, adapter: str | None, selection: Selection, *, total: int, left_out: int = 0
    ) -> Evaluation | None:
        """A new one at the end of the queue; None where one that asks the same waits or goes on already."""
        evaluation_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        asked = (model_id, quantize, adapter, selection.split, selection.words, selection.category)
        with writing(self.path) as connection:
            if _on_its_way(connection, asked):
                return None
            connection.execute(
                "INSERT INTO evaluations (id, model_id, quantize, adapter, split, words, category, state, position, "
                f"total, left_out, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting', {_LAST}, ?, ?, ?)",
                (evaluation_id, *asked, total, left_out, now()),
            )
        return self.get(evaluation_id)

    def get(self, evaluation_id: str) -> Evaluation:
        """Raises `JobError` for an unknown id."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM evaluations WHERE id = ?", (evaluation_id,)).fetchone()
        if row is None:
            raise JobError(f"There is no evaluation {evaluation_id[:40]!r} (any more). Reload the page.")
        return _record(row)

    def list(self, most_ended: int = 50) -> list[Evaluation]:
        """The one that goes on, those that wait in their order, then the ended ones, the last one first: all that can
        be gone on with, and the last `most_ended` of those that are done."""
        with reading(self.path) as connection:
            ways = connection.execute(
                "SELECT * FROM evaluations WHERE state IN ('waiting', 'running') ORDER BY state = 'waiting', position"
            ).fetchall()
            ended = connection.execute(
                "SELECT * FROM evaluations WHERE state NOT IN ('waiting', 'running', 'done') OR id IN ("
                "SELECT id FROM evaluations WHERE state = 'done' ORDER BY finished_at DESC, position DESC LIMIT ?) "
                "ORDER BY finished_at DESC, position DESC",
                (most_ended,),
            ).fetchall()
        return [_record(row) for row in (*ways, *ended)]

    def take_next(self, model_id: str, quantize: str) -> Evaluation | None:
        """Take the next that waits for this model, for this process and nobody else."""
        with reading(self.path) as connection:  # without the lock: most often there is none
            if _next(connection, model_id, quantize) is None:
                return None
        with writing(self.path) as connection:
            evaluation_id = _next(connection, model_id, quantize)
            if evaluation_id is None:
                return None
            mark = own_mark()
            connection.execute(
                "UPDATE evaluations SET state = 'running', sentence = '', finished_at = NULL, pid = ?, "
                "process_started = ?, machine = ?, heartbeat_at = ?, stop_requested = 0 WHERE id = ?",
                (mark.pid, mark.started, mark.machine, now(), evaluation_id),
            )
        return self.get(evaluation_id)

    def begin(
        self, evaluation_id: str, folder: str, *, total: int, left_out: int, done: int = 0, sentence: str = ""
    ) -> None:
        """Say what a running one works on, and how many answers it has of before."""
        with writing(self.path) as connection:
            connection.execute(
                "UPDATE evaluations SET folder = ?, total = ?, left_out = ?, done = ?, sentence = ? WHERE id = ?",
                (folder, total, left_out, done, sentence, evaluation_id),
            )

    def tell(self, evaluation_id: str, done: int, seconds: float) -> bool:
        """How far a running one is, and that its process lives; True when it was asked to stop."""
        with writing(self.path, to_disk=False) as connection:
            connection.execute(
                "UPDATE evaluations SET done = ?, seconds = ?, heartbeat_at = ? WHERE id = ? AND state = 'running'",
                (done, seconds, now(), evaluation_id),
            )
            row = connection.execute(
                "SELECT stop_requested FROM evaluations WHERE id = ? AND state = 'running'", (evaluation_id,)
            ).fetchone()
        return row is None or bool(row["stop_requested"])

    def end(self, evaluation_id: str, state: EvaluationState, sentence: str, *, folder: str | None = None) -> None:
        """End a running one. `folder` is given where the report stands in another than its own."""
        with writing(self.path) as connection:
            connection.execute(
                f"UPDATE evaluations SET state = ?, sentence = ?, finished_at = ?, folder = coalesce(?, folder), "
                f"done = CASE WHEN ? = 'done' THEN total ELSE done END, {_FREED} WHERE id = ? AND state = 'running'",
                (str(state), sentence, now(), folder, str(state), evaluation_id),
            )

    def put_back(self, evaluation_id: str, sentence: str) -> None:
        """Let a running one wait again in its place; one that was asked to stop is stopped."""
        with writing(self.path) as connection:
            _let_wait(connection, evaluation_id, sentence)

    def put_back_lost(self, *, idle: bool) -> None:
        """Let those wait again whose process is gone. `idle`: this process works on none itself.

        Cheap when there is none.
        """
        with reading(self.path) as connection:
            rows = connection.execute("SELECT * FROM evaluations WHERE state = 'running'").fetchall()
        for row in rows:
            if not _is_worked_on(row, idle):
                with writing(self.path) as connection:
                    now_row = connection.execute(
                        "SELECT * FROM evaluations WHERE id = ? AND state = 'running'", (row["id"],)
                    ).fetchone()
                    if now_row is not None and not _is_worked_on(now_row, idle):
                        _let_wait(connection, row["id"], CLOSED)

    def stop(self, evaluation_id: str) -> None:
        """Stop one that waits, or ask a running one to. Raises `JobError` for one that has ended."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE evaluations SET stop_requested = 1 WHERE id = ? AND state = 'running'", (evaluation_id,)
            ).rowcount
            changed += connection.execute(
                "UPDATE evaluations SET state = 'stopped', finished_at = ?, sentence = ? "
                "WHERE id = ? AND state = 'waiting'",
                (now(), "Stopped before its turn came.", evaluation_id),
            ).rowcount
        if not changed:
            raise JobError("This evaluation has already ended: there is nothing to stop.")

    def go_on(self, evaluation_id: str) -> None:
        """Put a stopped or failed one at the end of the queue; what was answered is not asked again.

        Raises `JobError` for any other, and where one that asks the same is on its way.
        """
        with writing(self.path) as connection:
            row = connection.execute("SELECT * FROM evaluations WHERE id = ?", (evaluation_id,)).fetchone()
            if row is None or not EvaluationState(row["state"]).may_go_on:
                raise JobError("Only an evaluation that was stopped or has failed can go on.")
            if _on_its_way(connection, tuple(row[key] for key in _ASKED)):
                raise JobError("An evaluation that asks the same waits or goes on already.")
            connection.execute(
                "UPDATE evaluations SET state = 'waiting', sentence = '', finished_at = NULL, "
                f"position = {_LAST} WHERE id = ?",
                (evaluation_id,),
            )

    def remove(self, evaluation_id: str) -> Evaluation:
        """Take one off the list. Raises `JobError` for one that goes on."""
        evaluation = self.get(evaluation_id)
        with writing(self.path) as connection:
            removed = connection.execute(
                "DELETE FROM evaluations WHERE id = ? AND state != 'running'", (evaluation_id,)
            ).rowcount
        if not removed:
            raise JobError("This evaluation goes on: stop it first.")
        return evaluation

    def newest_done(self) -> str:
        """What changes whenever another report is there: time and folder of the one that was done last, "" for none."""
        with reading(self.path) as connection:
            row = connection.execute(
                "SELECT finished_at, folder FROM evaluations WHERE state = 'done' ORDER BY finished_at DESC LIMIT 1"
            ).fetchone()
        return "" if row is None else f"{row['finished_at']} {row['folder']}"


_ASKED = ("model_id", "quantize", "adapter", "split", "words", "category")
_LAST = "(SELECT coalesce(max(position), 0) + 1 FROM evaluations)"


def _next(connection: sqlite3.Connection, model_id: str, quantize: str) -> str | None:
    row = connection.execute(
        "SELECT id FROM evaluations WHERE state = 'waiting' AND model_id = ? AND quantize = ? "
        "ORDER BY position LIMIT 1",
        (model_id, quantize),
    ).fetchone()
    return None if row is None else str(row["id"])


def _on_its_way(connection: sqlite3.Connection, asked: tuple[object, ...]) -> bool:
    same = " AND ".join(f"{key} IS ?" for key in _ASKED)
    query = f"SELECT 1 FROM evaluations WHERE state IN ('waiting', 'running') AND {same}"
    return connection.execute(query, asked).fetchone() is not None


def _let_wait(connection: sqlite3.Connection, evaluation_id: str, sentence: str) -> None:
    connection.execute(
        "UPDATE evaluations SET state = CASE stop_requested WHEN 1 THEN 'stopped' ELSE 'waiting' END, "
        "finished_at = CASE stop_requested WHEN 1 THEN ? END, sentence = ?, "
        f"{_FREED} WHERE id = ? AND state = 'running'",
        (now(), sentence, evaluation_id),
    )


def _is_worked_on(row: sqlite3.Row, idle: bool) -> bool:
    """Whether a process that lives works on a running one. `idle`: this process doesn't."""
    mark = ProcessMark(row["pid"], row["process_started"], row["machine"])
    if mark.machine and machine_mark() and mark.machine != machine_mark():  # it can't be seen from here
        return seconds_since(row["heartbeat_at"]) < AWAY_SECONDS
    own = own_mark()
    if mark.pid == own.pid and abs(mark.started - own.started) < 1.0:
        return not idle
    return is_process(mark.pid, mark.started)


def _record(row: sqlite3.Row) -> Evaluation:
    return Evaluation(
        id=row["id"],
        model_id=row["model_id"],
        quantize=row["quantize"],
        adapter=row["adapter"],
        selection=Selection(row["split"], row["words"], row["category"]),
        state=EvaluationState(row["state"]),
        done=row["done"],
        total=row["total"],
        left_out=row["left_out"],
        seconds=row["seconds"],
        sentence=row["sentence"],
        folder=row["folder"],
        stop_requested=bool(row["stop_requested"]),
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
