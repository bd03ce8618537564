"""The size of every picture, from its header alone, remembered between looks."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from grounding.database import connect
from grounding.errors import PictureError, StoreError
from grounding.pictures import check_header, picture_size_wh

CACHE_NAME = "picture-sizes.db"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_SIDE = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Header:
    """A picture's (width, height) in pixels as seen upright, or None and the reason why it can't be read. `bytes` is
    the file's size."""

    size_wh: tuple[int, int] | None
    reason: str = ""
    bytes: int = 0


def read_headers(pictures: Iterable[Path], cache: Path | None = None) -> dict[Path, Header]:
    """The header of every picture. `cache` is a file that remembers them by path, time and size; it may be deleted,
    and what it says of a file that has changed since is not believed."""
    paths = list(dict.fromkeys(pictures))
    known = _remembered(cache)
    headers: dict[Path, Header] = {}
    fresh: list[tuple[str, int, int, int | None, int | None, str]] = []
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116  # a hundred thousand times: Path.stat takes twice as long
        except (OSError, ValueError):
            headers[path] = Header(None, f"There is no picture at {path}.")
            continue
        kept = known.get(str(path))
        if kept is not None and kept[:2] == (stat.st_size, stat.st_mtime_ns):
            headers[path] = Header((kept[2], kept[3]) if kept[2] else None, kept[4], stat.st_size)
            continue
        header = read_header(path, stat.st_size)
        headers[path] = header
        width, height = header.size_wh or (None, None)
        fresh.append((str(path), stat.st_size, stat.st_mtime_ns, width, height, header.reason))
    _remember(cache, fresh)
    return headers


def read_header(path: Path, file_bytes: int = 0) -> Header:
    """The picture's size without decoding it; see `grounding.pictures` for what counts as a picture."""
    try:
        size_wh = _png_size_wh(path)
        if size_wh is None:
            size_wh = picture_size_wh(path)
        else:
            check_header(path) if max(size_wh) > _LARGEST_SIDE or min(size_wh) < 1 else None
        return Header(size_wh, "", file_bytes)
    except PictureError as error:
        return Header(None, str(error), file_bytes)


def _png_size_wh(path: Path) -> tuple[int, int] | None:
    """The size of a PNG that says nothing of being turned, by walking over its chunks; None for anything else.

    Pillow would unpack a PNG for its EXIF, which may stand behind the pixels.
    """
    try:
        with path.open("rb", buffering=4096) as file:
            if file.read(8) != _SIGNATURE:
                return None
            length, kind = _chunk(file)
            if kind != b"IHDR" or length != 13:
                return None
            width, height = struct.unpack(">II", file.read(8))
            file.seek(length - 8 + 4, os.SEEK_CUR)
            while True:
                length, kind = _chunk(file)
                if kind == b"IEND":
                    return width, height
                # EXIF in a chunk of its own, or packed into a text.
                if kind in (b"eXIf", b"zTXt", b"iTXt", b"tEXt"):
                    return None
                file.seek(length + 4, os.SEEK_CUR)
    except (OSError, struct.error):
        return None


def _chunk(file: BinaryIO) -> tuple[int, bytes]:
    length, kind = struct.unpack(">I4s", file.read(8))
    return length, kind


def _remembered(cache: Path | None) -> Mapping[str, tuple[int, int, int, int, str]]:
    if cache is None or not cache.is_file():
        return {}
    try:
        with connect(cache) as connection:
            rows = connection.execute("SELECT path, bytes, changed_ns, width, height, reason FROM sizes")
            return {row[0]: tuple(row[1:]) for row in rows}
    except StoreError as error:
        log.warning("picture sizes are read anew: %s", error)
        return {}


def _remember(cache: Path | None, rows: list[tuple[str, int, int, int | None, int | None, str]]) -> None:
    if cache is None or not rows:
        return
    with _quietly(), connect(cache) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sizes (path TEXT PRIMARY KEY, bytes INTEGER, changed_ns INTEGER, "
            "width INTEGER, height INTEGER, reason TEXT) WITHOUT ROWID"
        )
        connection.execute("BEGIN")
        connection.executemany("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


@contextmanager
def _quietly() -> Iterator[None]:
    """What can't be remembered is read anew the next time."""
    try:
        yield
    except StoreError as error:
        log.warning("picture sizes are not kept: %s", error)
