"""Connections to the databases of a workspace, and the one place where an SQLite error becomes a sentence."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database, Migrations

from grounding.errors import StoreError

# Far longer than anything of ours holds the lock, as long work runs in chunks: a save then waits instead of failing.
BUSY_SECONDS = 30.0
_BETWEEN_TRIES_SECONDS = 0.02
_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA recursive_triggers = ON",
    # 80 MB: an edit writes the log back only where nothing else does (grounding.write_ahead).
    "PRAGMA wal_autocheckpoint = 20000",
)
# These mean that our own statements are wrong: they stay what they are, so that the bug is seen.
_OUR_MISTAKES = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.IntegrityError, sqlite3.NotSupportedError)
_SENTENCES = {
    sqlite3.SQLITE_READONLY: "can't be written: the file or its disk is read-only. "
    "Give yourself the right to write there, or choose another folder with --workspace DIR.",
    sqlite3.SQLITE_CANTOPEN: "can't be opened. Check that its folder exists and that you may read and write it, "
    "or choose another folder with --workspace DIR.",
    sqlite3.SQLITE_BUSY: f"is locked: another program has been writing to it for more than {BUSY_SECONDS:.0f} seconds. "
    "Nothing was saved; try again, and close other tools that have the file open.",
    sqlite3.SQLITE_PROTOCOL: "is held by a program that was stopped in the midst of opening it. Nothing was saved; "
    "let that program go on or end it (a worker of Boxwright that hangs, a debugger), and try again.",
    sqlite3.SQLITE_FULL: "can't be written: the disk is full. Nothing was saved; free some space and try again.",
    sqlite3.SQLITE_CORRUPT: "is damaged. Stop the app, keep a copy of the file, and restore a backup or recover it "
    "with: sqlite3 FILE .recover",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database, or is damaged. Move it away and restore a backup, "
    "or choose another folder with --workspace DIR.",
    sqlite3.SQLITE_IOERR: "can't be read or written: the disk reports an error. Check the disk and try again.",
}


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The error as a sentence that says what happened to the file at `path` and the way out."""
    code = getattr(error, "sqlite_errorcode", None)
    primary_code = code & 0xFF if isinstance(code, int) else None
    same = {sqlite3.SQLITE_LOCKED: sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PERM: sqlite3.SQLITE_READONLY}
    sentence = _SENTENCES.get(same.get(primary_code, primary_code)) if primary_code is not None else None
    if sentence is None:
        sentence = "can't be used. Check that it was made by this version of Boxwright."
    return StoreError(f"{path} {sentence} (SQLite: {error})")


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A new connection in autocommit mode, closed at the end; an open transaction is rolled back.

    Raises `StoreError` for whatever SQLite can't do, inside the block too.
    """
    try:
        # Gradio may resume a generator on another thread, so the connection isn't tied to one.
        opened = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        with closing(opened) as connection:
            connection.row_factory = sqlite3.Row
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            yield connection
    except _OUR_MISTAKES:
        raise
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"{path} can't hold a value that it was given ({error}). Reload the page.") from error


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose reads all see the same moment."""
    with connect(path) as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")


@contextmanager
def writing(path: Path, *, to_disk: bool = True) -> Iterator[sqlite3.Connection]:
    """One transaction that holds the write lock from its start, so that what it reads stays true until it commits.

    Committed to the disk when the block ends; rolled back when it raises. Not `to_disk`: it doesn't wait for the disk,
    so a power cut may take it away, as if it had never been; only for what comes back by itself.
    """
    with connect(path) as connection:
        if not to_disk:
            connection.execute("PRAGMA synchronous = NORMAL")
        with transaction(connection):
            yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """As `writing`, for one of several transactions of a connection that is closed when the block raises."""
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


def log_ahead(connection: sqlite3.Connection) -> None:
    """Switch the database to write-ahead logging, for good; one whose database is so already does nothing.

    Waits up to `BUSY_SECONDS` for whoever writes: here SQLite itself doesn't wait, as it holds a read lock by then.
    Raises `sqlite3.OperationalError` after that.
    """
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
        time.sleep(_BETWEEN_TRIES_SECONDS)


def prepare(path: Path, migrations: Migrations) -> None:
    """Make the database and bring its tables up to date. Raises `StoreError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {path.parent} can't be made ({error.strerror or error}). "
            "Choose a folder of your own with --workspace DIR."
        ) from error
    with connect(path) as connection:
        database = Database(connection, execute_plugins=False)
        known = {migration.name for migration in migrations._migrations}
        newer = [migration.name for migration in migrations.applied(database) if migration.name not in known]
        if newer:
            raise StoreError(f"{path} was made by a newer Boxwright (it has {newer[-1]}). Update Boxwright to open it.")
        if not migrations.pending(database):
            return
        log_ahead(connection)
        # The lock comes first: two programs that open a new workspace at once must not both make the tables.
        connection.execute("BEGIN IMMEDIATE")
        migrations.apply(database)
        connection.execute("COMMIT")
