"""The tables of runs.db, as numbered migrations. One that has shipped is never edited: add the next."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("boxwright-runs")


@migrations()
def m001_runs_and_events(db: Database) -> None:
    """`process_started` is the start time of process `pid`, in seconds: it tells the worker from a later process
    that was given the same number. At most one run is active at a time, by the partial unique index."""
    db.execute("""
        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('starting', 'running', 'done', 'stopped', 'failed')),
            model_id TEXT NOT NULL,
            quantize TEXT NOT NULL,
            snapshot TEXT NOT NULL,
            settings TEXT NOT NULL,
            created_at TEXT NOT NULL,
            finished_at TEXT,
            heartbeat_at TEXT,
            pid INTEGER,
            process_started REAL,
            stop_requested INTEGER NOT NULL DEFAULT 0 CHECK (stop_requested IN (0, 1)),
            sentence TEXT NOT NULL DEFAULT ''
        ) STRICT
    """)
    db.execute("CREATE INDEX runs_by_time ON runs (created_at)")
    db.execute("CREATE UNIQUE INDEX runs_one_active ON runs ((1)) WHERE state IN ('starting', 'running')")
    db.execute("""
        CREATE TABLE events (
            run_id TEXT NOT NULL REFERENCES runs (id),
            number INTEGER NOT NULL,
            at TEXT NOT NULL,
            kind TEXT NOT NULL,
            payload TEXT NOT NULL,
            PRIMARY KEY (run_id, number)
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("CREATE INDEX events_by_kind ON events (run_id, kind, number)")


@migrations()
def m002_queue(db: Database) -> None:
    """Runs that wait, and what guards them. The tables are made anew, as SQLite can't change a CHECK.

    `position` orders the queued runs and is empty for all others. `attempt` counts how often a run was started, so
    that whoever speaks of an earlier attempt is not heard. `machine` is the boot of the machine that the process
    belongs to. `queue` holds its settings in one row. `device_holders` are the processes that may hold a GPU.
    """
    db.execute("""
        CREATE TABLE runs_new (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            state TEXT NOT NULL CHECK
                (state IN ('queued', 'starting', 'running', 'done', 'stopped', 'failed', 'discarded')),
            model_id TEXT NOT NULL,
            quantize TEXT NOT NULL,
            snapshot TEXT NOT NULL,
            settings TEXT NOT NULL,
            created_at TEXT NOT NULL,
            finished_at TEXT,
            heartbeat_at TEXT,
            pid INTEGER,
            process_started REAL,
            stop_requested INTEGER NOT NULL DEFAULT 0 CHECK (stop_requested IN (0, 1)),
            sentence TEXT NOT NULL DEFAULT '',
            position INTEGER CHECK ((position IS NOT NULL) = (state = 'queued')),
            attempt INTEGER NOT NULL DEFAULT 0,
            started_at TEXT,
            machine TEXT,
            discard_requested INTEGER NOT NULL DEFAULT 0 CHECK (discard_requested IN (0, 1)),
            asked_at TEXT
        ) STRICT
    """)
    kept = (
        "id, name, state, model_id, quantize, snapshot, settings, created_at, finished_at, heartbeat_at, pid, "
        "process_started, stop_requested, sentence"
    )
    db.execute(f"INSERT INTO runs_new ({kept}, attempt, started_at) SELECT {kept}, 1, created_at FROM runs")
    db.execute("""
        CREATE TABLE events_new (
            run_id TEXT NOT NULL REFERENCES runs_new (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            at TEXT NOT NULL,
            kind TEXT NOT NULL,
            payload TEXT NOT NULL,
            PRIMARY KEY (run_id, number)
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("INSERT INTO events_new SELECT run_id, number, at, kind, payload FROM events")
    db.execute("DROP TABLE events")
    db.execute("DROP TABLE runs")
    db.execute("ALTER TABLE runs_new RENAME TO runs")
    db.execute("ALTER TABLE events_new RENAME TO events")
    db.execute("CREATE INDEX runs_by_time ON runs (created_at)")
    db.execute("CREATE INDEX runs_by_start ON runs (started_at)")
    db.execute("CREATE UNIQUE INDEX runs_one_active ON runs ((1)) WHERE state IN ('starting', 'running')")
    db.execute("CREATE INDEX runs_queued ON runs (position) WHERE state = 'queued'")
    # Two runs on their way under one name would fight for one adapter.
    db.execute("CREATE UNIQUE INDEX runs_one_name ON runs (name) WHERE state IN ('queued', 'starting', 'running')")
    db.execute("CREATE INDEX events_by_kind ON events (run_id, kind, number)")
    db.execute("""
        CREATE TABLE queue (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            go_on_after_failure INTEGER NOT NULL DEFAULT 1 CHECK (go_on_after_failure IN (0, 1)),
            paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
            reason TEXT NOT NULL DEFAULT ''
        ) STRICT
    """)
    db.execute("INSERT INTO queue (id) VALUES (1)")
    db.execute("""
        CREATE TABLE device_holders (
            pid INTEGER NOT NULL,
            process_started REAL NOT NULL,
            machine TEXT NOT NULL,
            what TEXT NOT NULL,
            since TEXT NOT NULL,
            PRIMARY KEY (machine, pid)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m003_sweeps(db: Database) -> None:
    """Sweeps, and the runs that belong to one: `sweep` is its name ("" for none), `trial` the number within it.

    A sweep is `going` while further runs are to be queued. `sentence` says how it ended, `trouble` what keeps it from
    going on now.
    """
    db.execute("ALTER TABLE runs ADD COLUMN sweep TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE runs ADD COLUMN trial INTEGER")
    db.execute("CREATE UNIQUE INDEX runs_one_trial ON runs (sweep, trial) WHERE sweep != ''")
    db.execute("""
        CREATE TABLE sweeps (
            name TEXT PRIMARY KEY,
            state TEXT NOT NULL CHECK (state IN ('going', 'stopped', 'done')),
            created_at TEXT NOT NULL,
            ended_at TEXT,
            sentence TEXT NOT NULL DEFAULT '',
            trouble TEXT NOT NULL DEFAULT ''
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m004_evaluations(db: Database) -> None:
    """Evaluations behind the page. `adapter` is NULL for the base; `position` orders those that wait; `pid`,
    `process_started`, `machine` and `heartbeat_at` tell of the running ones' process as those of `runs` do; `folder`
    is the name of one in the workspace's evaluations."""
    db.execute("""
        CREATE TABLE evaluations (
            id TEXT PRIMARY KEY,
            model_id TEXT NOT NULL,
            quantize TEXT NOT NULL,
            adapter TEXT,
            split TEXT NOT NULL,
            words TEXT NOT NULL DEFAULT '',
            category TEXT NOT NULL DEFAULT '',
            state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'stopped', 'failed')),
            position INTEGER NOT NULL,
            done INTEGER NOT NULL DEFAULT 0,
            total INTEGER NOT NULL DEFAULT 0,
            left_out INTEGER NOT NULL DEFAULT 0,
            seconds REAL NOT NULL DEFAULT 0,
            sentence TEXT NOT NULL DEFAULT '',
            folder TEXT NOT NULL DEFAULT '',
            created_at TEXT NOT NULL,
            finished_at TEXT,
            pid INTEGER CHECK ((pid IS NOT NULL) = (state = 'running')),
            process_started REAL,
            machine TEXT,
            heartbeat_at TEXT,
            stop_requested INTEGER NOT NULL DEFAULT 0 CHECK (stop_requested IN (0, 1))
        ) STRICT
    """)
    db.execute("CREATE INDEX evaluations_on_their_way ON evaluations (state, position)")
    db.execute("CREATE INDEX evaluations_by_end ON evaluations (finished_at)")
