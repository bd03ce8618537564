"""An idle connection that keeps a database's write-ahead log, and empties it behind the back of those who write."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from pathlib import Path

from grounding.database import BUSY_SECONDS, explain

# The log is brought home this often where something was written; a crowd's saves then share one round.
PAUSE_SECONDS = 1.0
# At the end of a program a last round may be under way.
_LAST_ROUND_SECONDS = 10.0


def keep_log(owner: object, path: Path) -> weakref.finalize[..., object]:
    """Keep the write-ahead log of the database at `path` open, and empty it in the background, while `owner` lives.

    What is returned ends it sooner when called.

    Without it every edit would be the last to close the database, and would wait for the disk several times more, to
    write the log back and remove it; and one edit in some twenty would write back what all of them have changed before
    it is done (SQLite's automatic checkpoint). The rounds here are passive: nobody who reads or writes waits for them
    (https://sqlite.org/wal.html). Raises `StoreError` where the file can't be read.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise explain(error, path) from error
    ended = threading.Event()
    thread = threading.Thread(target=_empty_until, args=(ended, connection), name=f"log of {path.name}", daemon=True)
    thread.start()
    return weakref.finalize(owner, _end, ended, thread)


def _empty_until(ended: threading.Event, connection: sqlite3.Connection) -> None:
    """Write the log back after each second in which somebody wrote; close the connection when it has `ended`."""
    seen = None
    while not ended.wait(PAUSE_SECONDS):
        try:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != seen:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            seen = version
        except sqlite3.Error:
            # A full or vanished disk is told to whoever saves next; here it only means another try later.
            seen = None
    connection.close()


def _end(ended: threading.Event, thread: threading.Thread) -> None:
    ended.set()
    # Garbage may be collected on that very thread.
    if thread is not threading.current_thread():
        thread.join(_LAST_ROUND_SECONDS)
