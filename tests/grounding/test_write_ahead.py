import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from grounding import write_ahead
from grounding.database import connect, writing
from grounding.errors import StoreError
from grounding.write_ahead import keep_log

SECONDS = 20.0


class Owner:
    """Whoever keeps the database in use."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(write_ahead, "PAUSE_SECONDS", 0.02)
    made = tmp_path / "notes.db"
    with connect(made) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE words (word TEXT)")
    return made


@pytest.fixture
def owner(path: Path) -> Iterator[Owner]:
    made = Owner()
    keep_log(made, path)
    yield made


def add(path: Path, word: str) -> None:
    with writing(path) as connection:
        connection.execute("INSERT INTO words VALUES (?)", (word,))


def words_in_the_file_alone(path: Path) -> list[str]:
    """What stands in the database without its log."""
    alone = path.with_name("alone.db")
    alone.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT word FROM words")]


def wait_for(path: Path, words: list[str]) -> None:
    end = time.monotonic() + SECONDS
    while words_in_the_file_alone(path) != words:
        assert time.monotonic() < end, f"{words} are still in the log alone"
        time.sleep(0.02)


def test_what_was_written_goes_home_in_the_background(path: Path, owner: Owner) -> None:
    add(path, "mug")
    wait_for(path, ["mug"])
    add(path, "cup")
    wait_for(path, ["mug", "cup"])


def test_an_edit_leaves_the_log_to_the_background(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_ahead, "PAUSE_SECONDS", SECONDS)
    owner = Owner()
    keep_log(owner, path)
    for number in range(1200):  # more pages than those after which SQLite by itself empties the log
        add(path, f"word {number}")
    assert words_in_the_file_alone(path) == []
    del owner
    assert len(words_in_the_file_alone(path)) == 1200


def test_a_writer_at_work_is_not_disturbed(path: Path, owner: Owner) -> None:
    add(path, "mug")
    with writing(path) as connection:
        connection.execute("INSERT INTO words VALUES ('cup')")
        wait_for(path, ["mug"])
    wait_for(path, ["mug", "cup"])


def test_the_thread_ends_with_its_owner(path: Path) -> None:
    owner = Owner()
    keep_log(owner, path)
    mine = [thread for thread in threading.enumerate() if thread.name == f"log of {path.name}"]
    assert mine
    del owner
    assert not any(thread.is_alive() for thread in mine)
    assert not path.with_name("notes.db-wal").exists()


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database, but long enough to look like one " * 20)
    with pytest.raises(StoreError, match="is not an SQLite database"):
        keep_log(Owner(), tmp_path / "notes.db")
