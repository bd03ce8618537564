"""Pack an export into one zip file."""

from __future__ import annotations

import zipfile
from pathlib import Path

# What holds text: everything else is packed already.
_TEXT_SUFFIXES = frozenset({".json", ".jsonl", ".txt", ".xml", ".md", ".csv", ".p"})


def pack(folder: Path, archive: Path) -> None:
    """Write the files of the folder into the new archive, in the order of their names. Raises `OSError`."""
    with zipfile.ZipFile(archive, "x", strict_timestamps=False) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                method = zipfile.ZIP_DEFLATED if path.suffix in _TEXT_SUFFIXES else zipfile.ZIP_STORED
                packed.write(path, path.relative_to(folder).as_posix(), compress_type=method)
