"""The tables of annotations.db, as numbered migrations. One that has shipped is never edited: add the next."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("boxwright-annotations")


@migrations()
def m001_pictures_samples_boxes(db: Database) -> None:
    """`position` is the import order; `skip_order` is 0, or grows with each skip: skipped samples come last."""
    db.execute("""
        CREATE TABLE pictures (
            sha256 TEXT PRIMARY KEY,
            file TEXT NOT NULL,
            width_px INTEGER NOT NULL CHECK (width_px > 0),
            height_px INTEGER NOT NULL CHECK (height_px > 0)
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE samples (
            id TEXT PRIMARY KEY CHECK (id <> ''),
            position INTEGER NOT NULL,
            picture_sha256 TEXT NOT NULL REFERENCES pictures (sha256),
            image_id TEXT NOT NULL,
            phrase TEXT NOT NULL,
            category TEXT NOT NULL,
            split TEXT NOT NULL CHECK (split IN ('train', 'val', 'test')),
            source TEXT NOT NULL,
            alternatives TEXT NOT NULL,
            extra TEXT NOT NULL,
            placeholder INTEGER NOT NULL CHECK (placeholder IN (0, 1)),
            state TEXT NOT NULL CHECK (state IN ('imported', 'repaired', 'written', 'approved', 'rejected')),
            flagged INTEGER NOT NULL DEFAULT 0 CHECK (flagged IN (0, 1)),
            flag_note TEXT NOT NULL DEFAULT '',
            skipped_at TEXT,
            skip_order INTEGER NOT NULL DEFAULT 0 CHECK (skip_order >= 0),
            revision INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
            CHECK ((skipped_at IS NULL) = (skip_order = 0))
        ) STRICT
    """)
    db.execute("""
        CREATE TABLE boxes (
            sample_id TEXT NOT NULL REFERENCES samples (id),
            ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
            x1_px REAL NOT NULL,
            y1_px REAL NOT NULL,
            x2_px REAL NOT NULL,
            y2_px REAL NOT NULL,
            PRIMARY KEY (sample_id, ordinal),
            CHECK (x2_px > x1_px AND y2_px > y1_px)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m002_queue_indices(db: Database) -> None:
    """One index a queue, led by the split: next and previous are one seek a split, whatever the size."""
    db.execute("CREATE UNIQUE INDEX samples_in_order ON samples (position)")
    db.execute("CREATE INDEX samples_of_split ON samples (split, position)")
    db.execute("CREATE INDEX samples_of_picture ON samples (picture_sha256, position)")
    db.execute("""
        CREATE INDEX samples_placeholders ON samples (split, skip_order, position)
        WHERE placeholder = 1 AND state <> 'rejected'
    """)
    db.execute("CREATE INDEX samples_flagged ON samples (split, skip_order, position) WHERE flagged = 1")
    # Not "skip_order > 0": SQLite would seek by that condition instead of by the place.
    db.execute("CREATE INDEX samples_skipped ON samples (split, skip_order, position) WHERE skipped_at IS NOT NULL")


@migrations()
def m003_changes(db: Database) -> None:
    """The history: rows are only ever added. `before` holds the sample's other columns as they stood, as JSON."""
    db.execute("""
        CREATE TABLE changes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            sample_id TEXT NOT NULL REFERENCES samples (id),
            revision INTEGER NOT NULL,
            at TEXT NOT NULL,
            who TEXT NOT NULL,
            action TEXT NOT NULL,
            origin TEXT NOT NULL CHECK (origin IN ('human', 'source', 'model', 'import')),
            phrase_before TEXT,
            phrase_after TEXT NOT NULL,
            before TEXT NOT NULL,
            note TEXT NOT NULL DEFAULT '',
            batch TEXT,
            undoes INTEGER REFERENCES changes (id),
            UNIQUE (sample_id, revision)
        ) STRICT
    """)
    db.execute("CREATE INDEX changes_of_batch ON changes (batch, id) WHERE batch IS NOT NULL")
    db.execute("CREATE UNIQUE INDEX changes_undone ON changes (undoes) WHERE undoes IS NOT NULL")
    for event in ("UPDATE", "DELETE"):
        db.execute(f"""
            CREATE TRIGGER changes_no_{event.lower()} BEFORE {event} ON changes
            BEGIN SELECT RAISE(ABORT, 'the history is only ever added to'); END
        """)


@migrations()
def m004_tallies_and_meta(db: Database) -> None:
    """Counts a split, kept by triggers in the transaction of each edit, so that showing them costs nothing."""
    conditions = {
        "total": "1",
        "placeholders": "({row}.placeholder = 1 AND {row}.state <> 'rejected')",
        "flagged": "{row}.flagged",
        "skipped": "({row}.skip_order > 0)",
        "repaired": "({row}.state = 'repaired')",
        "written": "({row}.state IN ('written', 'approved'))",
        "approved": "({row}.state = 'approved')",
        "rejected": "({row}.state = 'rejected')",
    }
    columns = ", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in conditions)
    db.execute(f"CREATE TABLE tallies (split TEXT PRIMARY KEY, {columns}) STRICT, WITHOUT ROWID")
    db.execute("INSERT INTO tallies (split) VALUES ('train'), ('val'), ('test')")

    def step(sign: str, row: str) -> str:
        sums = ", ".join(f"{name} = {name} {sign} {sql.format(row=row)}" for name, sql in conditions.items())
        return f"UPDATE tallies SET {sums} WHERE split = {row}.split;"

    db.execute(f"CREATE TRIGGER tally_insert AFTER INSERT ON samples BEGIN {step('+', 'NEW')} END")
    db.execute(f"CREATE TRIGGER tally_delete AFTER DELETE ON samples BEGIN {step('-', 'OLD')} END")
    db.execute(f"""
        CREATE TRIGGER tally_update AFTER UPDATE OF split, placeholder, state, flagged, skip_order ON samples
        BEGIN {step("-", "OLD")} {step("+", "NEW")} END
    """)
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID")


@migrations()
def m010_picture_hashes(db: Database) -> None:
    """What the picture looks like (`annotate.twins`): NULL until it is looked at, 0 when there is nothing to see."""
    db.execute("ALTER TABLE pictures ADD COLUMN dhash INTEGER")
