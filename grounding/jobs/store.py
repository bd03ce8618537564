"""The record of every run: its state, and the events it told, in runs.db."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from grounding.database import prepare, reading, writing
from grounding.errors import JobError
from grounding.jobs.schema import migrations
from grounding.training.events import NoteEvent, PhaseEvent, ScoreEvent, StepEvent, TrainEvent

_KINDS: Mapping[str, type[TrainEvent]] = {
    "phase": PhaseEvent,
    "note": NoteEvent,
    "step": StepEvent,
    "score": ScoreEvent,
}
_Stepped = TypeVar("_Stepped", StepEvent, ScoreEvent)
_KIND_OF = {event_class: kind for kind, event_class in _KINDS.items()}
_NEWEST_OF_EACH_PHASE = (
    "AND number IN (SELECT max(number) FROM events WHERE run_id = :run AND kind = :kind "
    "GROUP BY json_extract(payload, '$.text')) ORDER BY number"
)


class RunState(StrEnum):
    """Where a run stands. `starting` and `running` are active, the others final."""

    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def active(self) -> bool:
        return self in (RunState.STARTING, RunState.RUNNING)


@dataclass(frozen=True)
class RunRecord:
    """One run. `sentence` says how it ended. `process_started` is the worker's start time in seconds."""

    id: str
    name: str
    state: RunState
    model_id: str
    quantize: str
    snapshot: str
    settings: Mapping[str, Any]
    created_at: str
    finished_at: str | None
    heartbeat_at: str | None
    pid: int | None
    process_started: float | None
    stop_requested: bool
    sentence: str


@dataclass(frozen=True)
class RunProgress:
    """What a run has told: its newest phase and step, its losses thinned to some hundred, and every scoring.

    `phases` is the newest word of each phase, the newest phase last.
    """

    phase: PhaseEvent | None
    last_step: StepEvent | None
    steps: tuple[StepEvent, ...]
    scores: tuple[ScoreEvent, ...]
    phases: tuple[PhaseEvent, ...] = ()
    notes: tuple[NoteEvent, ...] = ()


class RunStore:
    """The runs of a workspace. A connection an operation, so any thread or process may use it."""

    def __init__(self, runs_db: Path) -> None:
        self.path = runs_db
        prepare(runs_db, migrations)

    def add(self, *, name: str, model_id: str, quantize: str, snapshot: str, settings: Mapping[str, Any]) -> RunRecord:
        """A new run in state `starting`. Raises `JobError` while another is active."""
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        with writing(self.path) as connection:
            _check_free(connection)
            connection.execute(
                "INSERT INTO runs (id, name, state, model_id, quantize, snapshot, settings, created_at) "
                "VALUES (?, ?, 'starting', ?, ?, ?, ?, ?)",
                (run_id, name, model_id, quantize, snapshot, json.dumps(dict(settings)), _now()),
            )
        return self.get(run_id)

    def check_free(self) -> None:
        """Raises `JobError` while a run is active."""
        with reading(self.path) as connection:
            _check_free(connection)

    def get(self, run_id: str) -> RunRecord:
        """Raises `JobError` for an unknown id."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise JobError(f"There is no run {run_id!r} in {self.path}.")
        return _record(row)

    def active(self) -> RunRecord | None:
        """The run that is starting or running, if any."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM runs WHERE state IN ('starting', 'running')").fetchone()
        return _record(row) if row is not None else None

    def list(self, limit: int = 50) -> list[RunRecord]:
        """The newest runs, newest first."""
        with reading(self.path) as connection:
            rows = connection.execute(
                "SELECT * FROM runs ORDER BY created_at DESC, id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [_record(row) for row in rows]

    def set_process(self, run_id: str, pid: int, process_started: float) -> None:
        """Remember which process works on the run."""
        with writing(self.path) as connection:
            connection.execute(
                "UPDATE runs SET pid = ?, process_started = ? WHERE id = ?", (pid, process_started, run_id)
            )

    def claim(self, run_id: str, pid: int, process_started: float) -> bool:
        """Take a starting run for this process; False when it is not to be run (any more)."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = 'running', pid = ?, process_started = ? WHERE id = ? AND state = 'starting'",
                (pid, process_started, run_id),
            ).rowcount
        return changed == 1

    def finish(self, run_id: str, state: RunState, sentence: str) -> bool:
        """End an active run; returns False when it had ended already."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = ?, sentence = ?, finished_at = ? "
                "WHERE id = ? AND state IN ('starting', 'running')",
                (str(state), sentence, _now(), run_id),
            ).rowcount
        return changed == 1

    def request_stop(self, run_id: str) -> None:
        """Ask the worker to stop and save. Raises `JobError` when the run is not active."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET stop_requested = 1 WHERE id = ? AND state IN ('starting', 'running')", (run_id,)
            ).rowcount
        if changed == 0:
            raise JobError("This run has already ended: there is nothing to stop.")

    def tell(self, run_id: str, event: TrainEvent) -> None:
        """Store an event; it also counts as a sign of life."""
        with writing(self.path) as connection:
            connection.execute(
                "INSERT INTO events (run_id, number, at, kind, payload) VALUES "
                "(?, (SELECT coalesce(max(number), 0) + 1 FROM events WHERE run_id = ?), ?, ?, ?)",
                (run_id, run_id, _now(), _KIND_OF[type(event)], json.dumps(asdict(event))),
            )
            connection.execute("UPDATE runs SET heartbeat_at = ? WHERE id = ?", (_now(), run_id))

    def progress(self, run_id: str, *, most_steps: int = 400) -> RunProgress:
        """What the run has told so far, its steps thinned evenly to at most `most_steps`."""
        with reading(self.path) as connection:
            told = _events(connection, run_id, "phase", _NEWEST_OF_EACH_PHASE)
            newest = _events(connection, run_id, "step", "ORDER BY number DESC LIMIT 1")
            count = connection.execute(
                "SELECT count(*) FROM events WHERE run_id = ? AND kind = 'step'", (run_id,)
            ).fetchone()[0]
            every = max(1, -(-count // most_steps))
            steps = _events(
                connection, run_id, "step", f"AND json_extract(payload, '$.step') % {every} = 0 ORDER BY number"
            )
            scores = _events(connection, run_id, "score", "ORDER BY number")
            notes = _events(connection, run_id, "note", "ORDER BY number DESC LIMIT 20")
        phases = tuple(event for event in told if isinstance(event, PhaseEvent))
        last_step = next((event for event in newest if isinstance(event, StepEvent)), None)
        return RunProgress(
            phase=phases[-1] if phases else None,
            last_step=last_step,
            steps=_as_told_last([event for event in steps if isinstance(event, StepEvent)]),
            scores=_as_told_last([event for event in scores if isinstance(event, ScoreEvent)]),
            phases=phases,
            notes=tuple(event for event in reversed(notes) if isinstance(event, NoteEvent)),
        )


def _as_told_last(events: Sequence[_Stepped]) -> tuple[_Stepped, ...]:
    """One event a step, in order: a run that went on from a checkpoint tells some steps twice, and the same."""
    newest = {event.step: event for event in events}
    return tuple(newest[step] for step in sorted(newest))


def _check_free(connection: sqlite3.Connection) -> None:
    active = connection.execute("SELECT name FROM runs WHERE state IN ('starting', 'running')").fetchone()
    if active is not None:
        raise JobError(f"The run {active['name']!r} is still going. Wait until it ends, or stop it first.")


def _events(connection: sqlite3.Connection, run_id: str, kind: str, rest: str) -> list[TrainEvent]:
    query = f"SELECT payload FROM events WHERE run_id = :run AND kind = :kind {rest}"
    rows = connection.execute(query, {"run": run_id, "kind": kind})
    return [_KINDS[kind](**json.loads(row["payload"])) for row in rows]


def _record(row: sqlite3.Row) -> RunRecord:
    values = dict(row)
    return RunRecord(
        **{
            **values,
            "state": RunState(values["state"]),
            "settings": MappingProxyType(json.loads(values["settings"])),
            "stop_requested": bool(values["stop_requested"]),
        }
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
