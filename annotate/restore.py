"""Bring a backup back: everything is read and checked beside the workspace's things before any of them moves."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from annotate.backup import FORMAT, MANIFEST_FILE, MEMBERS_FILE, Progress, copy_hashed, fits_as_member
from annotate.check import database_problems, misplaced_pictures
from annotate.intake import sync_disk
from annotate.partial_folders import PREFIX, partial_folder
from annotate.schema import migrations
from grounding.database import prepare
from grounding.errors import WorkspaceError
from grounding.workspace import Workspace

_DATABASE = "annotations.db"
_LONGEST_LINE = 10_000
_MOST_MANIFEST_BYTES = 64 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    KeyError,
    TypeError,
)
_NAMED_TWICE = (FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class RestoreReport:
    """What was brought back. `moved_aside` is where the former content of the workspace stands now, if there was
    any; `pictures` is false when the backup was made without; `created_at` is the moment of the backup."""

    files: int
    pictures: bool
    left_out: tuple[str, ...]
    created_at: str
    moved_aside: Path | None


def restore(
    workspace: Workspace, path: Path, *, replace: bool = False, progress: Progress | None = None
) -> RestoreReport:
    """Bring the backup at `path` into a workspace that is empty or missing.

    With `replace` one that isn't is moved aside as a whole, never deleted: nobody may work in it meanwhile. Until
    every file has been written and compared with its hash and the databases are found sound, nothing moves.
    Raises `WorkspaceError` with nothing changed when the backup is damaged or forged or the folder is not empty.
    """
    root = workspace.root
    _check_free(root, replace)
    try:
        return _restore(root, path, replace, progress)
    except OSError as error:
        raise _unwritable(root, error) from error


def _check_free(root: Path, replace: bool) -> bool:
    """Whether anything stands there. Raises `WorkspaceError` where that is so and mustn't be."""
    try:
        standing = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(PREFIX))
    except FileNotFoundError:
        standing = []
    except OSError as error:
        raise _unwritable(root, error) from error
    if standing and not replace:
        raise WorkspaceError(
            f"The workspace {root} is not empty (it holds {standing[0]!r}). Name an empty or new one with "
            "--workspace DIR, or move what stands there aside with --replace."
        )
    return bool(standing)


def _restore(root: Path, path: Path, replace: bool, progress: Progress | None) -> RestoreReport:
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with partial_folder(root, "restore") as partial:
            manifest = _unpack(path, partial, progress)
            _check_databases(partial)
            sync_disk()
            # Looked at again: reading a large backup takes minutes, and somebody may have begun to work there.
            aside = _move_aside(root) if _check_free(root, replace) else None
            moved = (aside or root) / partial.name
            try:
                _move_in(moved, root, aside)
            finally:
                shutil.rmtree(moved, ignore_errors=True)
    finally:
        if made and not any(root.iterdir()):
            root.rmdir()
    return RestoreReport(
        manifest["members"], manifest["pictures"], tuple(manifest["left_out"]), manifest["created_at"], aside
    )


def _move_in(partial: Path, root: Path, aside: Path | None) -> None:
    try:
        root.mkdir(exist_ok=True)
        # Last comes what says that the workspace is complete.
        for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == _DATABASE):
            entry.rename(root / entry.name)
    except OSError as error:
        kept = f" What stood there is whole, in {aside}." if aside else ""
        raise WorkspaceError(f"{root} can't be filled ({error.strerror or error}).{kept}") from error


def _move_aside(root: Path) -> Path:
    """Rename the workspace; returns its new place. Raises `WorkspaceError` where that can't be done."""
    at = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = [f"{root.name}.replaced-{at}", *(f"{root.name}.replaced-{at}-{number}" for number in range(2, 100))]
    aside = next(place for name in names if not (place := root.with_name(name)).exists())
    try:
        root.rename(aside)
    except OSError as error:
        raise WorkspaceError(
            f"{root} can't be renamed to {aside} ({error.strerror or error}). Stop the app, move what stands in it "
            "away yourself, and restore without --replace."
        ) from error
    return aside


def _unpack(path: Path, partial: Path, progress: Progress | None) -> dict[str, Any]:
    """Write every member of the backup into `partial`, comparing hashes; returns the manifest."""
    try:
        with _open(path) as file, zipfile.ZipFile(file) as archive:
            manifest = _read_manifest(archive)
            entries = {entry.filename: entry for entry in archive.infolist()}
            if len(entries) != len(archive.infolist()) or len(entries) != manifest["members"] + 2:
                raise ValueError("it holds other files than its manifest says")
            _check_room(sum(entry.file_size for entry in entries.values()), partial)
            for done, member in enumerate(_members(archive, manifest), start=1):
                _unpack_one(archive, entries[member["name"]], member, partial)
                if progress is not None:
                    progress(done, manifest["members"])
    except (*_DAMAGED, *_NAMED_TWICE) as error:
        raise WorkspaceError(
            f"{path} is damaged, was changed, or is no backup of Boxwright ({error}). Nothing was restored; "
            "use another backup."
        ) from error
    return manifest


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise WorkspaceError(f"There is no readable backup at {path} ({error.strerror or error}).") from error


def _read_manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    entry = archive.getinfo(MANIFEST_FILE)
    if entry.file_size > _MOST_MANIFEST_BYTES:
        raise ValueError("its manifest is far too large")
    manifest = json.loads(archive.read(entry))
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is {str(manifest['format'])[:40]!r}, expected {FORMAT!r}")
    expected = {"members": int, "members_sha256": str, "pictures": bool, "left_out": list, "created_at": str}
    if not all(type(manifest[key]) is kind for key, kind in expected.items()):
        raise ValueError("its manifest is damaged")
    return dict(manifest)


def _members(archive: zipfile.ZipFile, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Name, bytes and SHA-256 of each file; raises `ValueError` at the end when the list isn't the manifest's."""
    digest, count = hashlib.sha256(), 0
    with archive.open(MEMBERS_FILE) as lines:
        while line := lines.readline(_LONGEST_LINE):
            digest.update(line)
            count += 1
            yield json.loads(line)
    if digest.hexdigest() != manifest["members_sha256"] or count != manifest["members"]:
        raise ValueError("the list of its files was changed")


def _unpack_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, member: dict[str, Any], partial: Path) -> None:
    name = member["name"]
    if not fits_as_member(name):
        raise ValueError(f"it holds a file named {name[:80]!r}")
    target = partial / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as file:
        found = copy_hashed(source, file, most_bytes=member["bytes"])
    if found != (member["bytes"], member["sha256"]):
        raise ValueError(f"{name} has another size or hash than listed")
    if name.startswith("images/") and target.stem != member["sha256"]:
        raise ValueError(f"{name} is another picture than its name says")


def _check_room(needed: int, partial: Path) -> None:
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise WorkspaceError(
            f"The backup unpacks to {needed / 1e9:.1f} GB, and only {free / 1e9:.1f} GB are free at {partial.parent}. "
            "Free some space, or name another --workspace DIR."
        )


def _check_databases(partial: Path) -> None:
    databases = [path for path in (partial / _DATABASE, partial / "runs.db", partial / "arena.db") if path.exists()]
    databases += sorted(partial.glob("sweeps/*/study.db"))
    if not (partial / _DATABASE).exists():
        raise WorkspaceError(f"The backup holds no {_DATABASE}. Use another one.")
    problems = [problem for path in databases for problem in database_problems(path)]
    if not problems:
        # Refuses a database of a newer Boxwright, and brings one of an older up to date.
        prepare(partial / _DATABASE, migrations)
        problems = misplaced_pictures(partial / _DATABASE)
    if problems:
        raise WorkspaceError(f"The backup was not restored: {problems[0]} Use another one.")


def _unwritable(root: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"The workspace {root} can't be written ({error.strerror or error}). "
        "Free some space, or choose a folder of your own with --workspace DIR."
    )
