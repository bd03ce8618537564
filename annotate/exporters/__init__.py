"""Write a snapshot for other programs: one module a format. A format is an object with `name` and `write`."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Protocol

from annotate.exporters import jsonl
from annotate.snapshot import SnapshotInfo, check_unchanged
from grounding.errors import SnapshotError


class Exporter(Protocol):
    """One format to write."""

    name: str

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        """Write the snapshot's samples to the new folder `out`; returns how many. Raises `SnapshotError`."""


EXPORTERS: tuple[Exporter, ...] = (jsonl.Exporter(),)
FORMATS = tuple(exporter.name for exporter in EXPORTERS)


def export(snapshot: SnapshotInfo, format_name: str, out: Path, *, link: bool = False) -> int:
    """Write the snapshot as `format_name` to `out`, which must not exist or be empty; returns how many samples.

    `link` hard-links pictures instead of copying them: only where nobody will write to them. Raises
    `SnapshotError` when the snapshot was tampered with or `out` can't be written.
    """
    out = out.resolve()
    exporter = next((exporter for exporter in EXPORTERS if exporter.name == format_name), None)
    if exporter is None:
        raise SnapshotError(f"There is no export format {format_name!r}. Expected one of {', '.join(FORMATS)}.")
    check_unchanged(snapshot)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SnapshotError(f"{out} is there already and not empty. Name a new folder with --out PATH.")
        partial = out.with_name(f".partial-{out.name}-{secrets.token_hex(4)}")
        try:
            count = exporter.write(snapshot, partial, link=link)
            partial.rename(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise SnapshotError(f"{out} can't be written ({error}). Name another --out PATH.") from error
    return count
