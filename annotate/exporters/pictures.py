"""The pictures of an export, in a folder beside its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from grounding.errors import SnapshotError

FOLDER = "images"


class PicturesBeside:
    """The folder `images` in the new folder `out`. `link` hard-links pictures where the file system can."""

    def __init__(self, out: Path, link: bool) -> None:
        self.folder = out / FOLDER
        self._link = link
        self.folder.mkdir(parents=True)

    def place(self, source: Path) -> Path:
        """Put the picture there, once, under the name it has in the workspace; returns where it stands.

        Raises `SnapshotError` when the workspace has it no more.
        """
        target = self.folder / source.name
        if not target.exists():
            if not source.is_file():
                raise SnapshotError(f"There is no picture at {source}. Restore a backup, or import its source again.")
            self._put(source, target)
        return target

    def _put(self, source: Path, target: Path) -> None:
        if self._link:
            try:
                os.link(source, target)
                return
            except OSError:
                # Another file system, or one without links: a copy says the same.
                pass
        shutil.copyfile(source, target)
