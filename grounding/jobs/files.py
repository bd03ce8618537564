"""The files of a run beside its record: checkpoints, what is half written, and an adapter that replaces its own."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from grounding.adapters import MANIFEST
from grounding.jobs.endings import RESERVE_FILE
from grounding.workspace import Workspace

_KEPT = ("log.txt", "settings.json")


def checkpoint_step(run_folder: Path) -> int | None:
    """The step of the newest checkpoint in the run's folder, by its name; None where there is none."""
    steps = [
        int(number[0])
        for path in (run_folder / "checkpoints").glob("[!.]*")
        if (number := re.findall(r"\d+", path.name)) and "partial" not in path.name
    ]
    return max(steps, default=None)


def throw_away(workspace: Workspace, run_id: str, *, log_too: bool = False) -> None:
    """Delete what a run has learned and its checkpoints; the log and the settings stay unless `log_too`."""
    folder = workspace.runs / run_id
    for path in folder.glob("*"):
        if path.name not in _KEPT or log_too:
            _delete(path)
    if log_too:
        with suppress(OSError):
            folder.rmdir()
    for hidden in (_half_written(workspace, run_id), _new_place(workspace, run_id)):
        _delete(hidden)


def tidy(workspace: Workspace, run_id: str, name: str) -> None:
    """Put right what a killed worker left: no half-written adapter, no reserve, and the adapter in its place."""
    _delete(_half_written(workspace, run_id))
    _delete(workspace.runs / run_id / RESERVE_FILE)
    mend(workspace, run_id, name)


def adapter_place(workspace: Workspace, run_id: str, name: str) -> Path:
    """Where a run writes its adapter: its place, or beside it while an adapter of the same run stands there."""
    mend(workspace, run_id, name)
    if not (workspace.adapters / name).exists():
        return workspace.adapters / name
    _delete(_new_place(workspace, run_id))
    return _new_place(workspace, run_id)


def replace_adapter(workspace: Workspace, run_id: str, name: str) -> None:
    """Put the adapter that was written beside its place into it. Interrupted anywhere, `mend` finishes it."""
    new = _new_place(workspace, run_id)
    if not (new / MANIFEST).is_file():
        return
    old = _old_place(workspace, run_id)
    _delete(old)
    if (workspace.adapters / name).exists():
        (workspace.adapters / name).rename(old)
    new.rename(workspace.adapters / name)
    _delete(old)


def mend(workspace: Workspace, run_id: str, name: str) -> None:
    """Finish a replacement that was interrupted between its two moves."""
    place, old = workspace.adapters / name, _old_place(workspace, run_id)
    if not place.exists():
        whole = [path for path in (_new_place(workspace, run_id), old) if (path / MANIFEST).is_file()]
        if whole:
            whole[0].rename(place)
    if place.exists():
        _delete(old)


def _half_written(workspace: Workspace, run_id: str) -> Path:
    return workspace.adapters / f".partial-{run_id}"


def _new_place(workspace: Workspace, run_id: str) -> Path:
    return workspace.adapters / f".resumed-{run_id}"


def _old_place(workspace: Workspace, run_id: str) -> Path:
    return workspace.adapters / f".replaced-{run_id}"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
