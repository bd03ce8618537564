"""The tables: from nothing, from every older state, and what they refuse."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from annotate.schema import migrations
from annotate.store import Store
from grounding.boxes import Box
from grounding.database import connect
from grounding.errors import StoreError
from grounding.pictures import PictureStore

NAMES = [migration.name for migration in migrations._migrations]


def schema_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_a_new_database_has_every_table_and_reads_in_a_plain_sqlite_shell(store: Store) -> None:
    with closing(Database(store.path)) as database:
        tables = {"pictures", "samples", "boxes", "changes", "tallies", "meta"}
        assert tables <= set(database.table_names())
        assert all(database.table(name).strict for name in tables)
        assert database.journal_mode == "wal"
        assert [applied.name for applied in migrations.applied(database)] == NAMES


@pytest.mark.parametrize("first_missing", NAMES)
def test_every_older_state_is_brought_up_to_date(first_missing: str, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "old.db"
    with closing(Database(path)) as database:
        migrations.apply(database, stop_before=first_missing)
    Store(path, PictureStore(tmp_path / "images"))
    assert schema_of(path) == schema_of(store.path)


def test_wordings_of_a_time_without_vowel_signs_are_made_anew(fill: Callable[..., Store]) -> None:
    """ "boy on the left" and "girl on the left" in Hindi, once taken for the same words."""
    boy, girl = "\u0932\u0921\u093c\u0915\u093e", "\u0932\u0921\u093c\u0915\u0940"
    fill("a", phrase=boy)
    store = fill("b", phrase=girl, boxes_xyxy_px=(Box(5, 5, 20, 20),))
    assert [store.get(sample_id).problems for sample_id in "ab"] == [(), ()]
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE samples SET wording = 'x', problems = 'duplicate'")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm013_marks_in_wordings'")
    store = Store(store.path, store.pictures)
    assert [store.get(sample_id).problems for sample_id in "ab"] == [(), ()]
    with closing(sqlite3.connect(store.path)) as connection:
        assert [row[0] for row in connection.execute("SELECT wording FROM samples ORDER BY id")] == [boy, girl]


def test_opening_again_changes_nothing(store: Store) -> None:
    before = schema_of(store.path)
    Store(store.path, store.pictures)
    assert schema_of(store.path) == before


def test_a_database_of_a_newer_version_is_refused(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'm999_later', '2030')",
            [migrations.name],
        )
    with pytest.raises(StoreError, match=r"newer Boxwright \(it has m999_later\)"):
        Store(store.path, store.pictures)


REFUSED = {
    "history rewritten": "UPDATE changes SET who = 'x'",
    "history deleted": "DELETE FROM changes",
    "sample without a picture": "UPDATE samples SET picture_sha256 = 'none'",
    "picture in use removed": "DELETE FROM pictures",
    "box of no sample": "INSERT INTO boxes VALUES ('nobody', 0, 1, 2, 3, 4)",
    "box turned round": "UPDATE boxes SET x2_px = x1_px - 1",
    "unknown split": "UPDATE samples SET split = 'testA'",
    "unknown state": "UPDATE samples SET state = 'done'",
    "text for a number": "UPDATE samples SET position = 'first'",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_the_database_itself_refuses(statement: str, fill: Callable[..., Store]) -> None:
    store = fill("a")
    with pytest.raises(sqlite3.IntegrityError), connect(store.path) as connection:
        connection.execute(statement)
