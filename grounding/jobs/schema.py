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
