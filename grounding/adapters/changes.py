"""Rename, annotate, delete and bring back the adapters of a workspace.

Each change is one rename of a folder or one replaced file: a crash leaves the adapter as it was or as it should be,
never in between.
"""

from __future__ import annotations

import re
import secrets
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.adapters.labels import clean_note, now, read_label, write_label
from grounding.adapters.registry import AdapterRegistry
from grounding.database import reading
from grounding.errors import AdapterError
from grounding.workspace import Workspace, check_name

_TIME = "%Y%m%dT%H%M%S"
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63})\.(?P<at>\d{8}T\d{6})-[0-9a-f]{6}")
_PURGING = ".purging-"
_ENDED = ("done", "stopped", "failed", "discarded")


@dataclass(frozen=True)
class Deleted:
    """An adapter in the bin. `id` is what its folder is called there; `deleted_at` is in UTC, ISO 8601."""

    id: str
    name: str
    deleted_at: str
    path: Path


def rename(workspace: Workspace, name: str, new_name: str) -> AdapterInfo:
    """Give an adapter another name; its evaluations stay its own (see `evaluations_of`).

    Raises `AdapterError` when there is no such adapter, the new name is taken, or a run that has not ended uses
    either; `WorkspaceError` for a name unfit for a folder.
    """
    info = _own(workspace, name)
    if new_name == name:
        return info
    _check_place(workspace, new_name)
    label = read_label(info.path)
    # First: a crash between the two leaves a line that says nothing untrue, as the name was given up at no other time.
    write_label(info.path, replace(label, names=(*label.names, (name, now()))))
    _move(info.path, workspace.adapters / new_name)
    return AdapterRegistry(workspace.adapters).find(new_name)


def set_note(workspace: Workspace, name: str, text: str, *, read: str | None = None) -> str:
    """Replace the note of an adapter; returns it as kept. `read` is the note that the person had before them (None: not
    known). Raises `AdapterError` when another stands by now, it is too long or can't be written, or there is no such
    adapter."""
    info = _own(workspace, name, at_work=True)
    note, stands = clean_note(text), read_label(info.path).note
    # By lines, as a page may end them otherwise. The same note sent twice is no conflict.
    if read is not None and stands.splitlines() not in (read.splitlines(), note.splitlines()):
        raise AdapterError(
            f'The note of {name!r} was changed meanwhile: it reads "{stands[:200]}" now. Nothing was replaced: copy '
            "your words, reload the page, and put both together."
        )
    write_label(info.path, replace(read_label(info.path), note=note))
    return note


def note_of(info: AdapterInfo) -> str:
    """What people say of the adapter; "" for nothing."""
    return read_label(info.path).note


def delete(workspace: Workspace, name: str) -> Deleted:
    """Move an adapter into the workspace's bin, where it stays until it is restored or purged.

    Raises `AdapterError` when there is no such adapter or a run that has not ended uses it.
    """
    info = _own(workspace, name)
    folder = _bin(workspace)
    entry = f"{name}.{datetime.now(UTC):{_TIME}}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    _move(info.path, folder / entry)
    return _entry(folder / entry)


def deleted(workspace: Workspace) -> list[Deleted]:
    """What lies in the bin, newest first."""
    found = [path for path in _bin(workspace).glob(f"*/{MANIFEST}") if _ENTRY.fullmatch(path.parent.name)]
    return sorted((_entry(path.parent) for path in found), key=lambda entry: (entry.deleted_at, entry.id), reverse=True)


def restore(workspace: Workspace, name_or_id: str, new_name: str | None = None) -> AdapterInfo:
    """Bring an adapter back whole, under its name or `new_name`.

    `name_or_id`: the name it had (the one deleted last is taken) or its id in the bin. Raises `AdapterError` when
    there is none, or the name has been taken since.
    """
    entry = find_deleted(workspace, name_or_id)
    name = new_name or entry.name
    _check_place(workspace, name, way_out="Restore it under another name.")
    if name != entry.name:
        label = read_label(entry.path)
        write_label(entry.path, replace(label, names=(*label.names, (entry.name, entry.deleted_at))))
    try:
        workspace.adapters.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(workspace.adapters, error) from error
    _move(entry.path, workspace.adapters / name)
    return AdapterRegistry(workspace.adapters).find(name)


def purge(workspace: Workspace, name_or_id: str | None = None) -> int:
    """Delete one adapter of the bin for good, or all of them (None); returns how many. Raises `AdapterError`.

    What an interrupted purge left behind is deleted too.
    """
    entries = deleted(workspace) if name_or_id is None else [find_deleted(workspace, name_or_id)]
    for entry in entries:
        # Out of the list first: what is half deleted can't be restored whole.
        _move(entry.path, entry.path.with_name(_PURGING + entry.id))
    for path in _bin(workspace).glob(f"{_PURGING}*"):
        shutil.rmtree(path, ignore_errors=True)
    return len(entries)


def find_deleted(workspace: Workspace, name_or_id: str) -> Deleted:
    """An adapter in the bin by its id, or the newest by its name. Raises `AdapterError` naming what lies there."""
    entries = deleted(workspace)
    for entry in entries:
        if name_or_id in (entry.id, entry.name):
            return entry
    there = ", ".join(entry.id for entry in entries) or "nothing"
    raise AdapterError(f"There is no adapter {name_or_id[:80]!r} in the bin. It holds: {there}.")


def names_at_work(workspace: Workspace) -> set[str]:
    """The names of the runs that have not ended: queued, starting or running. Raises `StoreError`."""
    if not workspace.runs_db.is_file():
        return set()
    with reading(workspace.runs_db) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'runs'").fetchone():
            return set()  # made this moment
        marks = ", ".join("?" * len(_ENDED))
        rows = connection.execute(f"SELECT name FROM runs WHERE state NOT IN ({marks})", _ENDED).fetchall()
    return {row["name"] for row in rows}


def _own(workspace: Workspace, name: str, *, at_work: bool = False) -> AdapterInfo:
    """An adapter of this workspace by its name; refused while a run uses it, unless `at_work`."""
    check_name(name, "an adapter")
    if not (workspace.adapters / name / MANIFEST).is_file():
        names = ", ".join(info.name for info in AdapterRegistry(workspace.adapters).list()) or "none yet"
        raise AdapterError(f"There is no adapter {name!r} in this workspace. Adapters here: {names}.")
    if not at_work and name in names_at_work(workspace):
        raise AdapterError(f"The adapter {name!r} belongs to a run that has not ended. Wait until it ends, or stop it.")
    return AdapterRegistry(workspace.adapters).find(name)


def _check_place(workspace: Workspace, name: str, way_out: str = "Choose another name.") -> None:
    check_name(name, "an adapter")
    if (workspace.adapters / name).exists():
        raise AdapterError(f"An adapter called {name!r} stands already. {way_out}")
    if name in names_at_work(workspace):
        raise AdapterError(f"A run that has not ended will call its adapter {name!r}. {way_out}")


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError as error:
        raise AdapterError(
            f"{source.name!r} is not there any more: somebody moved it meanwhile. Look again at what stands."
        ) from error
    except OSError as error:
        raise AdapterError(
            f"{source} can't be moved to {target} ({error.strerror or error}); it stands where it was."
        ) from error


def _bin(workspace: Workspace) -> Path:
    return workspace.bin / "adapters"


def _entry(path: Path) -> Deleted:
    parts = _ENTRY.fullmatch(path.name)
    assert parts is not None
    moment = datetime.strptime(parts["at"], _TIME).replace(tzinfo=UTC)
    return Deleted(path.name, parts["name"], moment.isoformat(timespec="seconds"), path)


def _unwritable(folder: Path, error: OSError) -> AdapterError:
    return AdapterError(
        f"{folder} can't be made ({error.strerror or error}). Give yourself the right to write there, then try again."
    )
