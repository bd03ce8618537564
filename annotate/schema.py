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
def m005_checks_listener_people(db: Database) -> None:
    """What the newer queues run by. `problems` holds the codes of failed phrase checks with blanks between them,
    `edited_by` the last person who changed the sample ('' for none), `seen_at` when a person first had it open.
    `shuffle` is a random place. `listener_iou` (0 to 1) is the lowest IoU at which a model found the box from the
    phrase that stands, `listener_gap` how far the base and an adapter were apart; both NULL while nobody asked."""
    for column in (
        "problems TEXT NOT NULL DEFAULT ''",
        "reject_reason TEXT NOT NULL DEFAULT ''",
        "edited_by TEXT NOT NULL DEFAULT ''",
        "seen_at TEXT",
        "shuffle INTEGER NOT NULL DEFAULT 0",
        "listener_iou REAL CHECK (listener_iou BETWEEN 0 AND 1)",
        "listener_gap REAL CHECK (listener_gap BETWEEN 0 AND 1)",
    ):
        db.execute(f"ALTER TABLE samples ADD COLUMN {column}")
    db.execute("UPDATE samples SET shuffle = abs(random()) % 1000000007")
    db.execute("""
        UPDATE samples SET edited_by = coalesce((
            SELECT who FROM changes WHERE sample_id = samples.id AND origin = 'human' ORDER BY revision DESC LIMIT 1
        ), '')
    """)
    db.execute("UPDATE samples SET seen_at = (SELECT max(at) FROM changes WHERE sample_id = id) WHERE edited_by <> ''")


@migrations()
def m006_newer_queues(db: Database) -> None:
    """One index a queue, as in m002; each queue once more led by the category; and two with all that a queue asks
    for: what a person changed and what has certain words is looked through rather than sought in."""
    standing = "state <> 'rejected'"
    older = {
        "samples_placeholders": ("skip_order, position", f"placeholder = 1 AND {standing}"),
        "samples_flagged": ("skip_order, position", "flagged = 1"),
        "samples_skipped": ("skip_order, position", "skipped_at IS NOT NULL"),
        "samples_of_split": ("position", "1"),
    }
    newer = {
        "samples_problems": ("skip_order, position", f"problems <> '' AND {standing}"),
        "samples_unseen": ("skip_order, position", "seen_at IS NULL"),
        "samples_low_iou": ("listener_iou, position", f"typeof(listener_iou) = 'real' AND {standing}"),
        "samples_disagree": ("listener_gap, position", f"typeof(listener_gap) = 'real' AND {standing}"),
        "samples_review": ("shuffle, position", "state IN ('repaired', 'written')"),
        "samples_rejected": ("skip_order, position", "state = 'rejected'"),
    }
    # Not "IS NOT NULL": SQLite would seek by that condition instead of by the place.
    for name, (place, condition) in newer.items():
        db.execute(f"CREATE INDEX {name} ON samples (split, {place}) WHERE {condition}")
    for name, (place, condition) in (older | newer).items():
        where = "" if condition == "1" else f" WHERE {condition}"
        db.execute(f"CREATE INDEX {name}_by_category ON samples (category, split, {place}){where}")
    asked_for = (
        "split, category, state, placeholder, problems, flagged, skipped_at, skip_order, seen_at, shuffle, "
        "listener_iou, listener_gap"
    )
    db.execute(f"CREATE INDEX samples_of_person ON samples (edited_by, position, {asked_for}) WHERE edited_by <> ''")
    db.execute(f"CREATE INDEX samples_of_words ON samples (position, {asked_for}, edited_by)")
    db.execute("""
        CREATE INDEX changes_of_people ON changes (at, who, action)
        WHERE batch IS NULL AND origin IN ('human', 'model')
    """)


@migrations()
def m007_more_tallies(db: Database) -> None:
    """The counts of the newer queues, kept by the same triggers."""
    newer = {
        "problems": "({row}.problems <> '' AND {row}.state <> 'rejected')",
        "unseen": "({row}.seen_at IS NULL)",
        "low_iou": "({row}.listener_iou IS NOT NULL AND {row}.state <> 'rejected')",
        "disagree": "({row}.listener_gap IS NOT NULL AND {row}.state <> 'rejected')",
        "review": "({row}.state IN ('repaired', 'written'))",
    }
    conditions = {
        "total": "1",
        "placeholders": "({row}.placeholder = 1 AND {row}.state <> 'rejected')",
        "flagged": "{row}.flagged",
        "skipped": "({row}.skip_order > 0)",
        "repaired": "({row}.state = 'repaired')",
        "written": "({row}.state IN ('written', 'approved'))",
        "approved": "({row}.state = 'approved')",
        "rejected": "({row}.state = 'rejected')",
        **newer,
    }
    for name, sql in newer.items():
        db.execute(f"ALTER TABLE tallies ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
        db.execute(
            f"UPDATE tallies SET {name} = (SELECT coalesce(sum({sql.format(row='samples')}), 0) FROM samples "
            "WHERE samples.split = tallies.split)"
        )

    def step(sign: str, row: str) -> str:
        sums = ", ".join(f"{name} = {name} {sign} {sql.format(row=row)}" for name, sql in conditions.items())
        return f"UPDATE tallies SET {sums} WHERE split = {row}.split;"

    for name in ("tally_insert", "tally_delete", "tally_update"):
        db.execute(f"DROP TRIGGER {name}")
    db.execute(f"CREATE TRIGGER tally_insert AFTER INSERT ON samples BEGIN {step('+', 'NEW')} END")
    db.execute(f"CREATE TRIGGER tally_delete AFTER DELETE ON samples BEGIN {step('-', 'OLD')} END")
    db.execute(f"""
        CREATE TRIGGER tally_update AFTER UPDATE OF
            split, placeholder, state, flagged, skip_order, problems, seen_at, listener_iou, listener_gap ON samples
        BEGIN {step("-", "OLD")} {step("+", "NEW")} END
    """)


@migrations()
def m008_people_and_listeners(db: Database) -> None:
    """Who has a sample open (`until` in seconds since 1970); what a model (`listener`: "base" or "adapter NAME") heard
    in a phrase; what further people said about a sample (kind 'blind': they pointed from the phrase alone, with boxes
    or one point; 'phrase': they would write this), rows only ever added; the samples where that asks for a decision;
    what stands in for phrases without being one."""
    db.execute("""
        CREATE TABLE leases (
            sample_id TEXT PRIMARY KEY REFERENCES samples (id),
            who TEXT NOT NULL,
            token TEXT NOT NULL,
            until REAL NOT NULL
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("CREATE INDEX leases_by_end ON leases (until)")
    db.execute("""
        CREATE TABLE heard (
            sample_id TEXT NOT NULL REFERENCES samples (id),
            listener TEXT NOT NULL,
            phrase TEXT NOT NULL,
            boxes_xyxy_px TEXT NOT NULL,
            status TEXT NOT NULL,
            iou REAL NOT NULL CHECK (iou BETWEEN 0 AND 1),
            confidence REAL,
            at TEXT NOT NULL,
            PRIMARY KEY (sample_id, listener)
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("""
        CREATE TABLE opinions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            sample_id TEXT NOT NULL REFERENCES samples (id),
            revision INTEGER NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('blind', 'phrase')),
            who TEXT NOT NULL,
            at TEXT NOT NULL,
            phrase TEXT NOT NULL,
            boxes_xyxy_px TEXT NOT NULL,
            point_x_px REAL,
            point_y_px REAL,
            iou REAL CHECK (iou BETWEEN 0 AND 1),
            seconds REAL NOT NULL CHECK (seconds >= 0),
            CHECK ((kind = 'blind') = (iou IS NOT NULL)),
            CHECK ((point_x_px IS NULL) = (point_y_px IS NULL))
        ) STRICT
    """)
    db.execute("CREATE INDEX opinions_of_sample ON opinions (sample_id, id)")
    db.execute("CREATE INDEX opinions_of_person ON opinions (who, kind, id)")
    for event in ("UPDATE", "DELETE"):
        db.execute(f"""
            CREATE TRIGGER opinions_no_{event.lower()} BEFORE {event} ON opinions
            BEGIN SELECT RAISE(ABORT, 'opinions are only ever added to'); END
        """)
    db.execute("CREATE UNIQUE INDEX opinions_blind_once ON opinions (sample_id, revision, who) WHERE kind = 'blind'")
    db.execute("""
        CREATE INDEX samples_blind ON samples (split, shuffle, position, edited_by)
        WHERE placeholder = 0 AND state <> 'rejected'
    """)
    db.execute("""
        CREATE TABLE undecided (
            sample_id TEXT PRIMARY KEY REFERENCES samples (id),
            split TEXT NOT NULL,
            position INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("CREATE INDEX undecided_of_split ON undecided (split, position)")
    db.execute("""
        CREATE TABLE templates (
            phrase TEXT PRIMARY KEY,
            samples INTEGER NOT NULL,
            at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m009_phrase_search(db: Database) -> None:
    """The words of every phrase, for looking one up among a million. Keyed by `position`, which never changes."""
    db.execute("""
        CREATE VIRTUAL TABLE phrase_words USING fts5 (
            phrase, content = 'samples', content_rowid = 'position', tokenize = 'unicode61 remove_diacritics 2',
            prefix = '1 2 3', columnsize = 0
        )
    """)
    db.execute("INSERT INTO phrase_words (phrase_words) VALUES ('rebuild')")
    gone = "INSERT INTO phrase_words (phrase_words, rowid, phrase) VALUES ('delete', OLD.position, OLD.phrase);"
    come = "INSERT INTO phrase_words (rowid, phrase) VALUES (NEW.position, NEW.phrase);"
    db.execute(f"CREATE TRIGGER words_insert AFTER INSERT ON samples BEGIN {come} END")
    db.execute(f"CREATE TRIGGER words_delete AFTER DELETE ON samples BEGIN {gone} END")
    db.execute(f"CREATE TRIGGER words_update AFTER UPDATE OF phrase ON samples BEGIN {gone} {come} END")


@migrations()
def m010_picture_hashes(db: Database) -> None:
    """What the picture looks like (`annotate.twins`): NULL until it is looked at, 0 when there is nothing to see."""
    db.execute("ALTER TABLE pictures ADD COLUMN dhash INTEGER")


@migrations()
def m011_wordings(db: Database) -> None:
    """The phrase without what makes no difference (case, articles, punctuation), to find the same words on a picture;
    and what the phrase checks say of every sample that stands."""
    from annotate.checks import profile_named, same_wording
    from annotate.problems import refresh

    db.execute("ALTER TABLE samples ADD COLUMN wording TEXT NOT NULL DEFAULT ''")
    for sample_id, phrase in db.execute("SELECT id, phrase FROM samples").fetchall():
        db.execute("UPDATE samples SET wording = ? WHERE id = ?", [same_wording(phrase), sample_id])
    db.execute("CREATE INDEX samples_of_wording ON samples (picture_sha256, wording)")
    for row in db.conn.execute("SELECT * FROM samples").fetchall():
        refresh(db.conn, row, profile_named("free"))


@migrations()
def m012_batches(db: Database) -> None:
    """Repairs and bulk edits, which run in chunks: where each stands, so that one that ended in the middle is seen.
    `at` is when it last went on; `done` of `total` samples were looked at, `count` changed, `left_alone` not."""
    db.execute("""
        CREATE TABLE batches (
            name TEXT PRIMARY KEY,
            action TEXT NOT NULL,
            who TEXT NOT NULL,
            began_at TEXT NOT NULL,
            at TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'broken', 'undoing', 'undone')),
            done INTEGER NOT NULL DEFAULT 0,
            total INTEGER NOT NULL DEFAULT 0,
            count INTEGER NOT NULL DEFAULT 0,
            left_alone INTEGER NOT NULL DEFAULT 0
        ) STRICT, WITHOUT ROWID
    """)
    db.execute("""
        INSERT INTO batches (name, action, who, began_at, at, state, done, total, count)
        SELECT batch, min(action), min(who), min(at), max(at), 'done', count(*), count(*), count(*)
        FROM changes WHERE batch IS NOT NULL AND undoes IS NULL GROUP BY batch
    """)


@migrations()
def m013_marks_in_wordings(db: Database) -> None:
    """Vowel signs and the like belong to the words of a phrase now: wordings that lack them are made anew, and so is
    what the phrase checks say on those pictures."""
    from annotate.checks import profile_named, same_wording
    from annotate.problems import kept_profile, refresh

    rows = db.execute("SELECT id, picture_sha256, phrase, wording FROM samples")
    stale = [row for row in rows if not row[2].isascii() and same_wording(row[2]) != row[3]]
    for sample_id, _, phrase, _ in stale:
        db.execute("UPDATE samples SET wording = ? WHERE id = ?", [same_wording(phrase), sample_id])
    profile = profile_named(kept_profile(db.conn))
    for picture in {row[1] for row in stale}:
        for row in db.conn.execute("SELECT * FROM samples WHERE picture_sha256 = ?", [picture]).fetchall():
            refresh(db.conn, row, profile)
