"""Folders for what is not complete yet, each locked by whoever fills it: one that a crash has left is cleared."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and so nothing cleared
    fcntl = None  # type: ignore[assignment]

PREFIX = ".partial-"


@contextmanager
def partial_folder(place: Path, kind: str) -> Iterator[Path]:
    """A new folder `.partial-KIND-...` in `place`, removed at the end; it may be renamed or moved meanwhile.

    Those of this kind that broke off there are removed first, and those that somebody fills right now are not.
    Raises `OSError` where none can be made.
    """
    clear_left_behind(place, kind)
    folder = place / f"{PREFIX}{kind}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clear_left_behind(place: Path, kind: str) -> None:
    """Remove the folders of this kind in `place` that nobody holds. An empty one may be just about to be locked."""
    for folder in place.glob(f"{PREFIX}{kind}-*"):
        with suppress(OSError):  # somebody else clears or ends it meanwhile, or it is another person's
            if not folder.is_symlink() and any(folder.iterdir()) and (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """The open folder, locked until it is closed or the process ends; None where somebody has it, or none can."""
    if fcntl is None:
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened
