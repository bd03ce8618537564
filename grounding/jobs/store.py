"""The record of every run: its state, and the events it told, in runs.db."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from grounding.database import prepare, reading, writing
from grounding.errors import JobError
from grounding.jobs.processes import machine_mark
from grounding.jobs.schema import migrations
from grounding.training.events import NoteEvent, PhaseEvent, ScoreEvent, StepEvent, TrainEvent

_KINDS: Mapping[str, type[TrainEvent]] = {
    "phase": PhaseEvent,
    "note": NoteEvent,
    "step": StepEvent,
    "score": ScoreEvent,
}
Prepare = Callable[[str], None]
_Stepped = TypeVar("_Stepped", StepEvent, ScoreEvent)
_KIND_OF = {event_class: kind for kind, event_class in _KINDS.items()}
_NEWEST_OF_EACH_PHASE = (
    "AND number IN (SELECT max(number) FROM events WHERE run_id = :run AND kind = :kind "
    "GROUP BY json_extract(payload, '$.text')) ORDER BY number"
)


def _nothing(run_id: str) -> None:
    """What is to be prepared for a run that needs nothing."""


class RunState(StrEnum):
    """Where a run stands. `queued` waits for its turn, `starting` and `running` are active, the others have ended."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    DISCARDED = "discarded"

    @property
    def active(self) -> bool:
        return self in (RunState.STARTING, RunState.RUNNING)

    @property
    def ended(self) -> bool:
        return not self.active and self is not RunState.QUEUED

    @property
    def resumable(self) -> bool:
        """Whether it may be queued once more, to go on where it was."""
        return self in (RunState.STOPPED, RunState.FAILED)


@dataclass(frozen=True)
class RunRecord:
    """One run. `sentence` says how it ended. `process_started` is the worker's start time in seconds, `machine` the
    boot of its machine (`processes.machine_mark`). `position` orders the queued runs; `attempt` counts the starts;
    `asked_at` is when a stop was first asked for. `sweep` is the sweep that it belongs to, "" for none, and `trial` its
    number there, from 0."""

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
    position: int | None = None
    attempt: int = 1
    started_at: str | None = None
    machine: str | None = None
    discard_requested: bool = False
    asked_at: str | None = None
    sweep: str = ""
    trial: int | None = None


@dataclass(frozen=True)
class RunProgress:
    """What a run has told: its newest phase and step, its losses thinned to some hundred, and every scoring.

    `phases` is the newest word of each phase, the newest phase last. `last_step_at` is when the newest step was told.
    """

    phase: PhaseEvent | None
    last_step: StepEvent | None
    steps: tuple[StepEvent, ...]
    scores: tuple[ScoreEvent, ...]
    phases: tuple[PhaseEvent, ...] = ()
    notes: tuple[NoteEvent, ...] = ()
    last_step_at: str | None = None


class RunStore:
    """The runs of a workspace. A connection an operation, so any thread or process may use it."""

    def __init__(self, runs_db: Path) -> None:
        self.path = runs_db
        prepare(runs_db, migrations)

    def add(
        self,
        *,
        name: str,
        model_id: str,
        quantize: str,
        snapshot: str,
        settings: Mapping[str, Any],
        prepare: Prepare = _nothing,
    ) -> RunRecord:
        """A new run in state `starting`. Raises `JobError` while another is active, or has the name and waits.

        `prepare` gets the run's id before anybody can see the run; where it raises, there is no run.
        """
        asked = (name, model_id, quantize, snapshot, json.dumps(dict(settings)))
        return self._insert(RunState.STARTING, asked, prepare)

    def enqueue(
        self,
        *,
        name: str,
        model_id: str,
        quantize: str,
        snapshot: str,
        settings: Mapping[str, Any],
        prepare: Prepare = _nothing,
        trial_of: tuple[str, int] | None = None,
    ) -> RunRecord:
        """A new run at the end of the queue. `trial_of`: the sweep that it belongs to and its number there.

        Raises `JobError` when a run on its way has the name, or is of the same sweep, or that sweep doesn't go on. See
        `add` for `prepare`.
        """
        asked = (name, model_id, quantize, snapshot, json.dumps(dict(settings)))
        return self._insert(RunState.QUEUED, asked, prepare, trial_of)

    def _insert(
        self,
        state: RunState,
        asked: tuple[str, str, str, str, str],
        prepare: Prepare,
        trial_of: tuple[str, int] | None = None,
    ) -> RunRecord:
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        queued = state is RunState.QUEUED
        with writing(self.path) as connection:
            if not queued:
                _check_free(connection)
            check_name_free(connection, asked[0])
            if trial_of is not None:
                _check_trial_free(connection, *trial_of)
            connection.execute(
                "INSERT INTO runs (id, name, model_id, quantize, snapshot, settings, state, created_at, position, "
                "attempt, started_at, sweep, trial) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run_id,
                    *asked,
                    str(state),
                    now(),
                    next_position(connection) if queued else None,
                    0 if queued else 1,
                    None if queued else now(),
                    *(trial_of or ("", None)),
                ),
            )
            prepare(run_id)
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
        return run_record(row)

    def active(self) -> RunRecord | None:
        """The run that is starting or running, if any."""
        with reading(self.path) as connection:
            row = connection.execute("SELECT * FROM runs WHERE state IN ('starting', 'running')").fetchone()
        return run_record(row) if row is not None else None

    def list(self, limit: int = 50) -> list[RunRecord]:
        """The newest runs, newest first."""
        with reading(self.path) as connection:
            rows = connection.execute(
                "SELECT * FROM runs ORDER BY created_at DESC, id DESC LIMIT ?", (limit,)
            ).fetchall()
        return [run_record(row) for row in rows]

    def shown(self) -> RunRecord | None:
        """The run to look at: the one that goes on, else the one begun last, else the first that waits."""
        with reading(self.path) as connection:
            row = connection.execute(
                "SELECT * FROM runs ORDER BY state IN ('starting', 'running') DESC, state = 'queued', position, "
                "started_at DESC, id DESC LIMIT 1"
            ).fetchone()
        return run_record(row) if row is not None else None

    def set_process(self, run_id: str, pid: int, process_started: float) -> None:
        """Remember which process is to work on a starting run; nothing where a worker has taken it already."""
        with writing(self.path) as connection:
            connection.execute(
                "UPDATE runs SET pid = ?, process_started = ?, machine = ? WHERE id = ? AND state = 'starting'",
                (pid, process_started, machine_mark(), run_id),
            )

    def claim(self, run_id: str, pid: int, process_started: float) -> bool:
        """Take a starting run for this process; False when it is not to be run (any more)."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = 'running', pid = ?, process_started = ?, machine = ?, heartbeat_at = ? "
                "WHERE id = ? AND state = 'starting'",
                (pid, process_started, machine_mark(), now(), run_id),
            ).rowcount
            # What an earlier attempt was busy with; its steps stay until this one takes them again.
            connection.execute("DELETE FROM events WHERE run_id = ? AND kind = 'phase'", (run_id,))
        return changed == 1

    def finish(self, run_id: str, state: RunState, sentence: str, *, judged: RunRecord | None = None) -> bool:
        """End an active run; False when it had ended already, or is no longer as it was when it was `judged`.

        After a failure the queue pauses, where it is set not to go on.
        """
        guard, known = "", tuple[Any, ...]()
        if judged is not None:
            guard, known = " AND attempt = ? AND pid IS ?", (judged.attempt, judged.pid)
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET state = ?, sentence = ?, finished_at = ? "
                f"WHERE id = ? AND state IN ('starting', 'running'){guard}",
                (str(state), sentence, now(), run_id, *known),
            ).rowcount
            if changed and state is RunState.FAILED:
                connection.execute(
                    "UPDATE queue SET paused = 1, reason = 'The queue waits, as a run has failed.' "
                    "WHERE go_on_after_failure = 0"
                )
        return changed == 1

    def request_stop(self, run_id: str, *, discard: bool = False) -> None:
        """Ask the worker to stop and save, or to stop and throw away. Raises `JobError` when the run is not active."""
        with writing(self.path) as connection:
            changed = connection.execute(
                "UPDATE runs SET stop_requested = 1, discard_requested = max(discard_requested, ?), "
                "asked_at = coalesce(asked_at, ?) WHERE id = ? AND state IN ('starting', 'running')",
                (int(discard), now(), run_id),
            ).rowcount
        if changed == 0:
            raise JobError("This run has already ended: there is nothing to stop.")

    def beat(self, run_id: str, attempt: int) -> None:
        """A sign of life of an active run's worker. It comes again by itself, so it doesn't wait for the disk."""
        with writing(self.path, to_disk=False) as connection:
            connection.execute(
                "UPDATE runs SET heartbeat_at = ? WHERE id = ? AND attempt = ? AND state IN ('starting', 'running')",
                (now(), run_id, attempt),
            )

    def rewind(self, run_id: str, step: int, scored: Collection[int] | None = None) -> None:
        """Forget the steps from this one on, and scorings from it on: an earlier attempt told them.

        `scored`: the steps whose scorings the run goes on with; those of all others are forgotten too (None: those
        before `step` stay).
        """
        with writing(self.path) as connection:
            connection.execute(
                "DELETE FROM events WHERE run_id = ? AND kind IN ('step', 'score') "
                "AND json_extract(payload, '$.step') >= ?",
                (run_id, step),
            )
            if scored is not None:
                connection.execute(
                    "DELETE FROM events WHERE run_id = ? AND kind = 'score' "
                    "AND json_extract(payload, '$.step') NOT IN (SELECT value FROM json_each(?))",
                    (run_id, json.dumps(sorted(scored))),
                )

    def tell(self, run_id: str, event: TrainEvent) -> None:
        """Store an event; it also counts as a sign of life."""
        with writing(self.path) as connection:
            if isinstance(event, ScoreEvent):  # a resumed run may score a step again
                connection.execute(
                    "DELETE FROM events WHERE run_id = ? AND kind = 'score' AND json_extract(payload, '$.step') = ?",
                    (run_id, event.step),
                )
            connection.execute(
                "INSERT INTO events (run_id, number, at, kind, payload) VALUES "
                "(?, (SELECT coalesce(max(number), 0) + 1 FROM events WHERE run_id = ?), ?, ?, ?)",
                (run_id, run_id, now(), _KIND_OF[type(event)], json.dumps(asdict(event))),
            )
            connection.execute("UPDATE runs SET heartbeat_at = ? WHERE id = ?", (now(), run_id))

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
            at = connection.execute(
                "SELECT at FROM events WHERE run_id = ? AND kind = 'step' ORDER BY number DESC LIMIT 1", (run_id,)
            ).fetchone()
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
            last_step_at=at["at"] if at is not None else None,
        )


def _as_told_last(events: Sequence[_Stepped]) -> tuple[_Stepped, ...]:
    """One event a step, in order: a run that went on from a checkpoint tells some steps twice, and the same."""
    newest = {event.step: event for event in events}
    return tuple(newest[step] for step in sorted(newest))


def _check_free(connection: sqlite3.Connection) -> None:
    active = connection.execute("SELECT name FROM runs WHERE state IN ('starting', 'running')").fetchone()
    if active is not None:
        raise JobError(f"The run {active['name']!r} is still going. Wait until it ends, or stop it first.")


def _check_trial_free(connection: sqlite3.Connection, sweep: str, trial: int) -> None:
    """One run of a sweep is on its way at a time, and each trial has one run; a sweep that was stopped, or removed,
    since somebody looked gets none."""
    if connection.execute("SELECT 1 FROM sweeps WHERE name = ? AND state = 'going'", (sweep,)).fetchone() is None:
        raise JobError(f"The sweep {sweep!r} doesn't go on: it queues no run. Resume it first.")
    other = connection.execute(
        "SELECT name FROM runs WHERE sweep = ? AND (trial = ? OR state IN ('queued', 'starting', 'running'))",
        (sweep, trial),
    ).fetchone()
    if other is not None:
        raise JobError(f"The sweep {sweep!r} has the run {other['name']!r} already. Wait until it ends.")


def _events(connection: sqlite3.Connection, run_id: str, kind: str, rest: str) -> list[TrainEvent]:
    query = f"SELECT payload FROM events WHERE run_id = :run AND kind = :kind {rest}"
    rows = connection.execute(query, {"run": run_id, "kind": kind})
    return [_KINDS[kind](**json.loads(row["payload"])) for row in rows]


def run_record(row: sqlite3.Row) -> RunRecord:
    """A row of `runs` as a record."""
    values = dict(row)
    return RunRecord(
        **{
            **values,
            "state": RunState(values["state"]),
            "settings": MappingProxyType(json.loads(values["settings"])),
            "stop_requested": bool(values["stop_requested"]),
            "discard_requested": bool(values["discard_requested"]),
        }
    )


def check_name_free(connection: sqlite3.Connection, name: str, but: str = "") -> None:
    """Raises `JobError` when a run on its way, other than `but`, has the name."""
    taken = connection.execute(
        "SELECT 1 FROM runs WHERE name = ? AND id != ? AND state IN ('queued', 'starting', 'running')", (name, but)
    ).fetchone()
    if taken is not None:
        raise JobError(f"A run called {name!r} waits or goes on already. Choose another name.")


def next_position(connection: sqlite3.Connection) -> int:
    """The place behind the last of the queue."""
    return int(connection.execute("SELECT coalesce(max(position), 0) + 1 FROM runs").fetchone()[0])


def now() -> str:
    """This moment in UTC, as the tables hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
