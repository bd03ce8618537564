"""The files of a run beside its record: checkpoints, what is half written, and an adapter that replaces its own."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from grounding.adapters import MANIFEST
from grounding.adapters.labels import keep_label
from grounding.jobs.endings import RESERVE_FILE
from grounding.workspace import Workspace

_KEPT = ("log.txt", "settings.json", "preset.json", "preflight.json")


def checkpoint_step(run_folder: Path) -> int | None:
    """The step of the newest checkpoint in the run's folder, by its name; None where there is none."""
    steps = [
        int(number[0])
        for path in (run_folder / "checkpoints").glob("[!.]*")
        if (number := re.findall(r"\d+", path.name)) and "partial" not in path.name
    ]
    return max(steps, default=None)


def adapters_folder(workspace: Workspace, sweep: str = "") -> Path:
    """Where the adapters of runs stand: among all others, or those of a sweep's runs in the sweep's own folder."""
    return workspace.sweeps / sweep / "adapters" if sweep else workspace.adapters


def throw_away(workspace: Workspace, run_id: str, *, log_too: bool = False, sweep: str = "") -> None:
    """Delete what a run has learned and its checkpoints; the log and the settings stay unless `log_too`."""
    folder = workspace.runs / run_id
    for path in folder.glob("*"):
        if path.name not in _KEPT or log_too:
            _delete(path)
    if log_too:
        with suppress(OSError):
            folder.rmdir()
    adapters = adapters_folder(workspace, sweep)
    for hidden in (_half_written(adapters, run_id), _new_place(adapters, run_id)):
        _delete(hidden)


def tidy(workspace: Workspace, run_id: str, name: str, sweep: str = "") -> None:
    """Put right what a killed worker left: no half-written adapter, no reserve, and the adapter in its place."""
    _delete(_half_written(adapters_folder(workspace, sweep), run_id))
    _delete(workspace.runs / run_id / RESERVE_FILE)
    mend(workspace, run_id, name, sweep)


def adapter_place(workspace: Workspace, run_id: str, name: str, sweep: str = "") -> Path:
    """Where a run writes its adapter: its place, or beside it while an adapter of the same run stands there."""
    adapters = adapters_folder(workspace, sweep)
    mend(workspace, run_id, name, sweep)
    if not (adapters / name).exists():
        return adapters / name
    _delete(_new_place(adapters, run_id))
    return _new_place(adapters, run_id)


def replace_adapter(workspace: Workspace, run_id: str, name: str, sweep: str = "") -> None:
    """Put the adapter that was written beside its place into it, with the note that somebody wrote on the one before.

    Does nothing where none was. Interrupted anywhere, `mend` finishes it.
    """
    adapters = adapters_folder(workspace, sweep)
    new = _new_place(adapters, run_id)
    if not (new / MANIFEST).is_file():
        return
    old = _old_place(adapters, run_id)
    _delete(old)
    if (adapters / name).exists():
        keep_label(adapters / name, new)
        (adapters / name).rename(old)
    new.rename(adapters / name)
    _delete(old)


def mend(workspace: Workspace, run_id: str, name: str, sweep: str = "") -> None:
    """Finish a replacement that was interrupted between its two moves."""
    adapters = adapters_folder(workspace, sweep)
    place, old = adapters / name, _old_place(adapters, run_id)
    if not place.exists():
        whole = [path for path in (_new_place(adapters, run_id), old) if (path / MANIFEST).is_file()]
        if whole:
            whole[0].rename(place)
    if place.exists():
        _delete(old)


def _half_written(adapters: Path, run_id: str) -> Path:
    return adapters / f".partial-{run_id}"


def _new_place(adapters: Path, run_id: str) -> Path:
    return adapters / f".resumed-{run_id}"


def _old_place(adapters: Path, run_id: str) -> Path:
    return adapters / f".replaced-{run_id}"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
