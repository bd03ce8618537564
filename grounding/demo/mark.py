"""Which files of a folder are the demo's own: those may be written over, anybody else's may not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from grounding.errors import RecordError, WorkspaceError
from grounding.records import read_samples

MARK = ".boxwright-demo.json"
_FORMAT = "boxwright-demo/1"


def check_own(folder: Path, lists: Iterable[str], pictures: Iterable[str]) -> None:
    """Raises `WorkspaceError` naming the first of these files, by path inside the folder, that is somebody else's.

    A list is the demo's own while its content is what the mark says; without a mark, as earlier versions left it,
    while all its samples are the demo's. Pictures are its own where there is a mark or such a list.
    """
    known = _known_sha256(folder)
    standing = [folder / name for name in lists if (folder / name).exists()]
    for path in standing:
        if not path.is_file() or not (_is_drawn(path) if known is None else _sha256(path) in known):
            raise _not_ours(path)
    if known is None and not standing:
        for name in pictures:
            if (folder / name).exists():
                raise _not_ours(folder / name)


def mark_own(folder: Path, lists: Iterable[Path] = ()) -> None:
    """Say that this folder is the demo's, and these lists too, before they get their place in it."""
    digests = (_known_sha256(folder) or set()) | {_sha256(path) for path in lists if path.is_file()}
    document = {"format": _FORMAT, "lists_sha256": sorted(digests)}
    partial = folder / f"{MARK}.partial"
    partial.write_text(json.dumps(document) + "\n", encoding="utf-8")
    partial.replace(folder / MARK)


def _not_ours(path: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{path} would be written over, and it is not as the demo wrote it. Choose another folder, or move it away."
    )


def _known_sha256(folder: Path) -> set[str] | None:
    """Of the lists written here; None where there is no mark."""
    try:
        return set(json.loads((folder / MARK).read_text(encoding="utf-8"))["lists_sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # damaged: a list that nobody vouches for stays


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_drawn(path: Path) -> bool:
    try:
        return all(sample.id.startswith(f"demo-{path.stem}-") for sample in read_samples(path))
    except RecordError:
        return False
