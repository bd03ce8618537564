"""What an import has met so far, in a file that SQLite drops at the end: memory stays flat, whatever is imported."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class KeptPicture:
    """A picture of the source as it stands in the store; `problem` says why it can't stand there."""

    sha256: str = ""
    file: str = ""
    size_wh: tuple[int, int] = (0, 0)
    problem: str = ""


class Remembered:
    """The ids and pictures of one import. Use it in a `with` block."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)  # a file without a name
        self._last: tuple[Path, KeptPicture] | None = None
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("CREATE TABLE whole (sha256 TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute(
            "CREATE TABLE pictures (path TEXT PRIMARY KEY, sha256, file, width_px, height_px, problem) WITHOUT ROWID"
        )

    def __enter__(self) -> Remembered:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def is_new(self, sample_id: str) -> bool:
        """Whether the id is met for the first time."""
        asked = ascii(sample_id)  # a lone surrogate is no UTF-8
        with closing(self._connection.execute("INSERT OR IGNORE INTO ids VALUES (?)", (asked,))) as cursor:
            return cursor.rowcount == 1

    def is_whole(self, sha256: str) -> bool:
        """Whether `keep_whole` was told of the picture."""
        return self._connection.execute("SELECT 1 FROM whole WHERE sha256 = ?", (sha256,)).fetchone() is not None

    def keep_whole(self, sha256: str) -> None:
        """Remember that the store's picture with this SHA-256 was read and is whole."""
        self._connection.execute("INSERT OR IGNORE INTO whole VALUES (?)", (sha256,))

    def picture(self, path: Path) -> KeptPicture | None:
        """What `keep` was told about the picture, None for a new one."""
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        row = self._connection.execute("SELECT * FROM pictures WHERE path = ?", (ascii(path),)).fetchone()
        if row is None:
            return None
        _, sha256, file, width_px, height_px, problem = row
        self._last = path, KeptPicture(sha256, file, (width_px, height_px), problem)
        return self._last[1]

    def keep(self, path: Path, picture: KeptPicture) -> KeptPicture:
        """Remember the picture; returns it."""
        self._connection.execute(
            "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?)",
            (ascii(path), picture.sha256, picture.file, *picture.size_wh, picture.problem),
        )
        self._last = path, picture
        return picture
