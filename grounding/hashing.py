"""SHA-256 of files that are asked for again and again."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def sha256_once(path: Path) -> str:
    """64 hexadecimal digits of a file's content, read once for as long as its size and time stay. Raises `OSError`."""
    status = path.stat()
    return _content_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=65_536)
def _content_sha256(path: Path, _size: int, _time_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
