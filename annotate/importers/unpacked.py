"""Pictures that a source holds as bytes, written out for the store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from grounding.errors import RecordError


class Unpacked:
    """The folder that takes them, each content once: one that was taken into the store since is not written again."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch / "unpacked"
        self._written: set[bytes] = set()

    def path_of(self, picture: bytes) -> Path:
        """Where the picture stands; its name is its SHA-256, whatever the source called it."""
        digest = hashlib.sha256(picture)
        path = self._folder / digest.hexdigest()
        if digest.digest() not in self._written:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
            except OSError as error:
                raise RecordError(
                    f"{self._folder} can't be written ({error.strerror or error}). Free some space."
                ) from error
            self._written.add(digest.digest())
        return path
