"""Connections: transactions that hold or leave nothing, and every failure of SQLite as a sentence."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from grounding import database
from grounding.database import connect, explain, prepare, reading, writing
from grounding.errors import StoreError

migrations = Migrations("boxwright-test")


@migrations()
def m001_words(db: Database) -> None:
    db.execute("CREATE TABLE words (word TEXT PRIMARY KEY, language TEXT) STRICT")
    db.execute("CREATE TABLE uses (word TEXT NOT NULL REFERENCES words (word)) STRICT")


@migrations()
def m002_seed(db: Database) -> None:
    db.execute("INSERT INTO words VALUES ('mug', 'en')")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    prepare(tmp_path / "words.db", migrations)
    return tmp_path / "words.db"


def words(path: Path) -> list[str]:
    with reading(path) as connection:
        return [row["word"] for row in connection.execute("SELECT word FROM words ORDER BY word")]


def add(connection: sqlite3.Connection, word: str) -> None:
    connection.execute("INSERT INTO words VALUES (?, 'en')", (word,))


def test_a_database_is_made_with_its_folder_and_made_ready_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "words.db"
    prepare(path, migrations)
    with writing(path) as connection:
        add(connection, "cup")
    prepare(path, migrations)
    assert words(path) == ["cup", "mug"]


def test_what_need_not_reach_the_disk_at_once_is_kept_all_the_same(path: Path) -> None:
    with writing(path, to_disk=False) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1
        add(connection, "cup")
    with writing(path) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert words(path) == ["cup", "mug"]


def test_a_database_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    earlier = Migrations("boxwright-test")
    earlier()(m001_words)
    prepare(tmp_path / "words.db", earlier)
    assert words(tmp_path / "words.db") == []
    prepare(tmp_path / "words.db", migrations)
    assert words(tmp_path / "words.db") == ["mug"]


def test_a_database_of_a_newer_version_is_not_touched(path: Path) -> None:
    earlier = Migrations("boxwright-test")
    earlier()(m001_words)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"made by a newer Boxwright \(it has m002_seed\)\. Update Boxwright"):
        prepare(path, earlier)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_tables_as_they_were(path: Path) -> None:
    broken = Migrations("boxwright-test")
    broken()(m001_words)
    broken()(m002_seed)

    @broken()
    def m003_broken(db: Database) -> None:
        db.execute("DELETE FROM words")
        db.execute("CREATE TABLE words (word TEXT)")

    with pytest.raises(StoreError, match=r"already exists"):
        prepare(path, broken)
    assert words(path) == ["mug"]
    prepare(path, migrations)


def test_many_programs_may_open_a_new_workspace_at_once(tmp_path: Path) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(6)

    def open_it() -> None:
        start.wait()
        try:
            prepare(tmp_path / "words.db", migrations)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert words(tmp_path / "words.db") == ["mug"]


def test_a_new_database_is_made_ready_when_another_program_has_written_to_it(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, other.execute, ["COMMIT"])
        ending.start()
        prepare(path, migrations)
        ending.join()
    assert words(path) == ["mug"]


def test_a_new_database_that_another_program_holds_is_said_to_be_locked(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked"):
            prepare(path, migrations)


def test_what_a_block_wrote_stands_when_it_ends_and_is_gone_when_it_fails(path: Path) -> None:
    with writing(path) as connection:
        add(connection, "cup")
        assert connection.in_transaction
    with pytest.raises(KeyError), writing(path) as connection:
        add(connection, "jug")
        raise KeyError("something else went wrong")
    assert words(path) == ["cup", "mug"]
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


def test_a_read_sees_one_moment_while_another_writes(path: Path) -> None:
    with reading(path) as before:
        assert before.execute("SELECT count(*) FROM words").fetchone()[0] == 1
        with writing(path) as connection:
            add(connection, "cup")
        assert before.execute("SELECT count(*) FROM words").fetchone()[0] == 1
    assert words(path) == ["cup", "mug"]


def test_a_second_writer_waits_for_the_first(path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with writing(path) as connection:
            order.append("second")
            add(connection, "jug")

    with writing(path) as connection:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
        add(connection, "cup")
    thread.join()
    assert order == ["first", "second"]
    assert words(path) == ["cup", "jug", "mug"]


def test_rows_have_names_and_references_are_checked(path: Path) -> None:
    with connect(path) as connection:
        assert connection.execute("SELECT word FROM words").fetchone()["word"] == "mug"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2, "FULL: what is saved outlives a power cut"
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    with pytest.raises(sqlite3.IntegrityError), writing(path) as connection:
        connection.execute("INSERT INTO uses VALUES ('unknown')")


@pytest.mark.parametrize(
    ("case", "statement", "error"),
    [
        ("a value twice", "INSERT INTO words VALUES ('mug', 'en')", sqlite3.IntegrityError),
        ("too few values", "INSERT INTO words VALUES (?, ?)", sqlite3.ProgrammingError),
    ],
)
def test_our_own_mistakes_stay_what_they_are(path: Path, case: str, statement: str, error: type[sqlite3.Error]) -> None:
    with pytest.raises(error), writing(path) as connection:
        connection.execute(statement)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)


def test_a_locked_database_says_that_nothing_was_saved(path: Path, impatient: None) -> None:
    with writing(path), pytest.raises(StoreError) as caught, writing(path):
        raise AssertionError("two writers at once")
    assert str(caught.value).startswith(f"{path} is locked: another program has been writing to it for more than 30 ")
    assert "Nothing was saved; try again" in str(caught.value)
    assert "database is locked" in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "words.db"
    path.write_text("these are my notes, and they are longer than the header of a database. " * 20)
    before = path.read_bytes()
    for use in (lambda: prepare(path, migrations), lambda: words(path)):
        with pytest.raises(StoreError, match=r"words\.db is not an SQLite database, or is damaged\. Move it away"):
            use()
    assert path.read_bytes() == before


def test_a_damaged_database_says_how_to_recover(path: Path) -> None:
    with writing(path) as connection:
        for number in range(2000):
            add(connection, f"word {number:05d}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged\. Stop the app, keep a copy.*sqlite3 FILE \.recover"):
        words(path)


def test_a_database_that_may_only_be_read(path: Path) -> None:
    with pytest.raises(StoreError) as caught, connect(path) as connection:
        connection.execute("PRAGMA query_only = ON")
        add(connection, "cup")
    assert f"{path} can't be written: the file or its disk is read-only" in str(caught.value)
    assert "--workspace DIR" in str(caught.value)
    assert words(path) == ["mug"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the rights of a file don't hold root back")
def test_a_file_without_the_right_to_write(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(StoreError, match="read-only"), writing(path) as connection:
        add(connection, "cup")


@pytest.mark.parametrize(
    ("case", "name"),
    [("no such folder", "missing/words.db"), ("a folder", "folder"), ("below a file", "file/words.db")],
)
def test_a_database_that_can_not_be_opened(tmp_path: Path, case: str, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"can't be opened\. Check that its folder exists"), reading(tmp_path / name):
        pass


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"The folder .*file/below can't be made \(Not a directory\)\. Choose"):
        prepare(tmp_path / "file" / "below" / "words.db", migrations)


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    with pytest.raises(StoreError, match=r"the disk is full. Nothing was saved; free some space"), connect(path) as it:
        pages = it.execute("PRAGMA page_count").fetchone()[0]
        it.execute(f"PRAGMA max_page_count = {pages}")
        it.execute("BEGIN IMMEDIATE")
        for number in range(5000):
            add(it, f"word {number}")
    assert words(path) == ["mug"]


@pytest.mark.parametrize(("case", "value"), [("a lone surrogate", "\ud800"), ("a number too large", 2**70)])
def test_a_value_that_does_not_fit(path: Path, case: str, value: object) -> None:
    with (
        pytest.raises(StoreError, match=r"words\.db can't hold a value that it was given"),
        writing(path) as connection,
    ):
        connection.execute("INSERT INTO words VALUES (?, 'en')", (value,))
    assert words(path) == ["mug"]


def test_a_failure_of_another_kind_keeps_the_words_of_sqlite(path: Path) -> None:
    with pytest.raises(StoreError, match=r"can't be used\. Check that it was made by.*no such table: colours"):
        words_of(path, "colours")


def words_of(path: Path, table: str) -> None:
    with reading(path) as connection:
        connection.execute(f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("busy", sqlite3.SQLITE_BUSY, "is locked"),
        ("busy, the kind after a crash", sqlite3.SQLITE_BUSY_RECOVERY, "is locked"),
        ("busy, an old snapshot", sqlite3.SQLITE_BUSY_SNAPSHOT, "is locked"),
        ("locked by our own process", sqlite3.SQLITE_LOCKED, "is locked"),
        ("no right to read", sqlite3.SQLITE_PERM, "read-only"),
        ("a read-only folder", sqlite3.SQLITE_READONLY_DIRECTORY, "read-only"),
        ("full", sqlite3.SQLITE_FULL, "the disk is full"),
        ("held by a frozen program", sqlite3.SQLITE_PROTOCOL, "was stopped in the midst of opening it"),
        ("a broken disk", sqlite3.SQLITE_IOERR_READ, "the disk reports an error"),
        ("corrupt, in an index", sqlite3.SQLITE_CORRUPT_INDEX, "is damaged"),
        ("cannot open: a folder", sqlite3.SQLITE_CANTOPEN_ISDIR, "can't be opened"),
        ("not a database", sqlite3.SQLITE_NOTADB, "is not an SQLite database"),
        ("anything else", sqlite3.SQLITE_ERROR, "can't be used"),
        ("no code at all", None, "can't be used"),
    ],
)
def test_every_code_has_its_sentence(case: str, code: int | None, says: str) -> None:
    error = sqlite3.OperationalError("the words of SQLite")
    if code is not None:
        error.sqlite_errorcode = code
    sentence = explain(error, Path("/w/runs.db"))
    assert isinstance(sentence, StoreError)
    assert re.match(rf"/w/runs\.db .*{says}.*\(SQLite: the words of SQLite\)$", str(sentence))


def test_a_reader_that_is_left_open_is_closed(path: Path) -> None:
    """As Gradio leaves a generator: on another thread than the one that began it."""

    def rows() -> Iterator[str]:
        with reading(path) as connection:
            for row in connection.execute("SELECT word FROM words"):
                yield row["word"]

    left_open = rows()
    assert next(left_open) == "mug"
    thread = threading.Thread(target=left_open.close)
    thread.start()
    thread.join()
    with writing(path) as connection, suppress(StopIteration):
        add(connection, "cup")
        next(left_open)
    assert words(path) == ["cup", "mug"]
