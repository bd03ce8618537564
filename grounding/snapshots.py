"""Read a frozen snapshot: the only thing that training accepts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from grounding.errors import SnapshotError
from grounding.records import Sample, read_samples

SNAPSHOT_FORMAT = "boxwright-snapshot/1"
BASE_SCENES = "base-scenes"
"""Names no snapshot but what the embedded model learned from, drawn anew where it is to be rehearsed."""


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot whose samples match the hash in its manifest."""

    name: str
    path: Path
    samples_sha256: str
    samples: tuple[Sample, ...]

    def split(self, name: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.split == name]


def read_snapshot(snapshots: Path, name_or_folder: str) -> Snapshot:
    """A snapshot by its name in the workspace or by a folder.

    Raises `SnapshotError` when it is missing, incomplete, or changed since it was frozen.
    """
    folder = _complete_folder(snapshots, name_or_folder)
    if folder is None:
        names = sorted(path.parent.name for path in snapshots.glob("[!.]*/manifest.json"))
        raise SnapshotError(
            f"There is no complete snapshot {name_or_folder[:80]!r}. Snapshots here: {', '.join(names) or 'none yet'}. "
            "Make one with `python -m annotate snapshot NAME`."
        )
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        expected, name = str(manifest["samples_sha256"]), str(manifest["name"])
        content = (folder / "samples.jsonl").read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"The snapshot {folder} is damaged ({error}). Freeze a new one.") from error
    if manifest.get("format") != SNAPSHOT_FORMAT:
        raise SnapshotError(
            f"The snapshot {folder} has the format {manifest.get('format')!r}: expected {SNAPSHOT_FORMAT!r}."
        )
    if hashlib.sha256(content).hexdigest() != expected:
        raise SnapshotError(f"The samples of snapshot {name!r} changed since it was frozen. Freeze a new one.")
    return Snapshot(name, folder, expected, tuple(read_samples(folder / "samples.jsonl")))


def _complete_folder(snapshots: Path, name_or_folder: str) -> Path | None:
    try:
        given = Path(name_or_folder).expanduser()
        candidates = [snapshots / name_or_folder, given]
        if given.is_absolute() and given.parent.name == snapshots.name:
            candidates.append(snapshots / given.name)  # runs name theirs in full: the workspace may have moved since
        return next((path for path in candidates if (path / "manifest.json").is_file()), None)
    except (OSError, RuntimeError):  # too long for a path, or the home of somebody unknown
        return None
