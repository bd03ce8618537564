"""The tables of arena.db, as numbered migrations. One that has shipped is never edited: add the next."""

from __future__ import annotations

import secrets

from sqlite_utils import Database, Migrations

migrations = Migrations("boxwright-arena")


@migrations()
def m001_votes(db: Database) -> None:
    """`first` and `second` are contestants in the order of their names, `left` is which of them stood on the left.
    A vote that was taken back keeps its row. `secret` decides the order of the questions and of the sides.

    A person judges a question once, by the partial unique index: whatever windows do at the same time.
    """
    db.execute("""
        CREATE TABLE votes (
            id INTEGER PRIMARY KEY,
            at TEXT NOT NULL,
            who TEXT NOT NULL,
            first TEXT NOT NULL,
            second TEXT NOT NULL CHECK (first < second),
            sample TEXT NOT NULL,
            phrase TEXT NOT NULL,
            picture_sha256 TEXT NOT NULL,
            first_evaluation TEXT NOT NULL,
            second_evaluation TEXT NOT NULL,
            left TEXT NOT NULL CHECK (left IN ('first', 'second')),
            preferred TEXT NOT NULL CHECK (preferred IN ('first', 'second', 'both', 'neither')),
            undone_at TEXT
        ) STRICT
    """)
    db.execute(
        "CREATE UNIQUE INDEX votes_once ON votes (first, second, who, sample, phrase, picture_sha256) "
        "WHERE undone_at IS NULL"
    )
    db.execute("CREATE INDEX votes_by_person ON votes (first, second, who)")
    db.execute("CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT")
    db.execute("INSERT INTO secret (id, key) VALUES (1, ?)", [secrets.token_bytes(32)])
