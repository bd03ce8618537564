"""Write a snapshot for other programs: one module a format, found by itself. A format is a class `Exporter`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol

from annotate.exporters.zipped import pack
from annotate.partial_folders import partial_folder
from annotate.snapshot import SnapshotInfo, check_unchanged
from grounding.errors import SnapshotError


class Exporter(Protocol):
    """One format to write."""

    name: str

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        """Write the snapshot's samples to the new folder `out`; returns how many. Raises `SnapshotError`."""


@cache
def exporters() -> dict[str, Exporter]:
    """Every format by its name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    formats: list[Exporter] = [module.Exporter() for module in modules if hasattr(module, "Exporter")]
    return {one.name: one for one in sorted(formats, key=lambda one: one.name)}


def export(snapshot: SnapshotInfo, format_name: str, out: Path, *, link: bool = False) -> int:
    """Write the snapshot as `format_name` to `out`, which must not exist or be empty; returns how many samples.

    An `out` that ends in .zip becomes one zip file. `link` hard-links pictures instead of copying them: only where
    nobody will write to them. Raises `SnapshotError` when the snapshot was tampered with or `out` can't be written.
    """
    out = out.resolve()
    exporter = exporters().get(format_name)
    if exporter is None:
        raise SnapshotError(f"There is no export format {format_name!r}. Expected one of {', '.join(exporters())}.")
    check_unchanged(snapshot)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SnapshotError(f"{out} is there already and not empty. Name a new folder with --out PATH.")
        as_zip = out.suffix.lower() == ".zip"
        with partial_folder(out.parent, "export") as partial:
            written, packed = partial / "written", partial / "packed.zip"
            # On the way into a zip file nobody writes to the pictures.
            count = exporter.write(snapshot, written, link=link or as_zip)
            if as_zip:
                pack(written, packed)
            (packed if as_zip else written).rename(out)
    except OSError as error:
        raise SnapshotError(f"{out} can't be written ({error}). Name another --out PATH.") from error
    except RecursionError as error:
        raise SnapshotError(f"A further key of {snapshot.name} is nested too deeply to be written.") from error
    return count
