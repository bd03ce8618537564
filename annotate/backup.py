"""One file that holds a workspace: written while people work, checked when it is brought back.

    annotations.db, runs.db, arena.db      copies of one moment each
    snapshots/ adapters/ evaluations/ runs/ calibrations.json compare-models.json
    sweeps/                      settings, finished adapters, and a copy of one moment of each study
    images/                      by SHA-256, those that annotations.db names
    members.jsonl                name, bytes and SHA-256 of each of these
    manifest.json                the SHA-256 of members.jsonl; written last

What can be made again (features), and what was only tried in Compare (uploads), is not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import annotate
from annotate.check import database_problems, picture_rows
from annotate.edits import now
from annotate.partial_folders import partial_folder
from grounding.database import explain, reading
from grounding.errors import PictureError, StoreError, WorkspaceError
from grounding.pictures import file_sha256
from grounding.workspace import Workspace

FORMAT = "boxwright-backup/1"
MANIFEST_FILE, MEMBERS_FILE = "manifest.json", "members.jsonl"
# What says that a folder is complete: it is written last there.
_LAST_WRITTEN = {"snapshots": "manifest.json", "adapters": "adapter.json", "evaluations": "report.json", "runs": ""}
_STUDY_FILE = "study.db"
# Runs take files of their own away while they train, such as all but their newest checkpoints.
_COME_AND_GO = ("runs/", "sweeps/")
_MEMBER_NAME = re.compile(
    r"annotations\.db|runs\.db|arena\.db|(?:calibrations|compare-models)\.json|images/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z]{3,4}"
    rf"|(?:{'|'.join(_LAST_WRITTEN)}|sweeps)(?:/[^./\\:\x00-\x1f][^/\\:\x00-\x1f]*){{2,8}}"
)
_PACKED_ALREADY = (".png", ".jpg", ".webp", ".gif", ".tif", ".bmp", ".safetensors", ".parquet")
_PIECE_BYTES = 1 << 20
_PAGES_A_STEP = 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BackupReport:
    """A backup that was written. `left_out` names, each with the reason, what stood in the workspace and isn't in
    the backup: missing and damaged pictures above all. `bytes` is the size of the file."""

    path: Path
    files: int
    bytes: int
    pictures: bool
    left_out: tuple[str, ...]
    created_at: str


def fits_as_member(name: str) -> bool:
    """Whether a file of this name belongs into a backup, and may be written when one is brought back."""
    return _MEMBER_NAME.fullmatch(name) is not None


def back_up(
    workspace: Workspace, path: Path, *, pictures: bool = True, progress: Progress | None = None
) -> BackupReport:
    """Write the workspace to the new zip file `path`, while others may go on writing.

    Every save that was acknowledged before the call is in it. It appears under its name only when it is complete
    and on the disk; one that broke off leaves at most a folder `.partial-backup-...` beside it, which the next backup
    there removes. `progress` gets the files done and all of them. Raises `WorkspaceError` when `path` exists or can't
    be written, and `StoreError` when a database is damaged.
    """
    path = path.absolute()
    _check_free(path)
    try:
        with partial_folder(path.parent, "backup") as partial:
            report = _Writer(workspace, partial, progress).write(path, pictures)
            _check_free(path)
            (partial / "backup.zip").rename(path)
    except OSError as error:
        raise WorkspaceError(
            f"The backup {path} can't be written ({error.strerror or error}: {error.filename or path}). "
            "Free some space, or name a place where you may write."
        ) from error
    return report


def _check_free(path: Path) -> None:
    if path.exists():
        raise WorkspaceError(f"{path} is there already, and a backup never replaces one. Name another file.")


def copy_database(source: Path, target: Path) -> None:
    """Copy one moment of a database that others write to. Raises `StoreError` also when the copy isn't sound."""
    with reading(source) as connection, closing(sqlite3.connect(target)) as copy:
        # The first read fixes the moment: without it every save of somebody else would start the copy anew.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            copy.execute("PRAGMA synchronous = OFF")
            connection.backup(copy, pages=_PAGES_A_STEP)
        except sqlite3.Error as error:
            raise explain(error, target) from error
    problems = database_problems(target)
    if problems:
        raise StoreError(f"{source} is damaged, so it was not backed up: {problems[0]} Bring an older backup back.")


class _Writer:
    """One backup in the making, in the folder `partial`."""

    def __init__(self, workspace: Workspace, partial: Path, progress: Progress | None) -> None:
        self._workspace = workspace
        self._partial = partial
        self._progress = progress
        self._done = self._total = 0
        self._left_out: list[str] = []

    def write(self, path: Path, pictures: bool) -> BackupReport:
        # Before the copy of the database: a snapshot that is frozen after it may hold pictures that the copy lacks.
        kept = [*self._kept_files()]
        created_at = now()
        copies = [self._copy(source) for source in self._databases()]
        members = [(copy.name, copy) for copy in copies if copy is not None] + kept
        # After the copy of runs.db: a study ahead of it is what a crash leaves too, and the sweep goes on from it.
        members += self._sweep_files()
        self._total = len(members) + (self._picture_count() if pictures else 0)
        zipped, listed = self._partial / "backup.zip", self._partial / MEMBERS_FILE
        with zipped.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            with listed.open("w", encoding="utf-8") as lines:
                for name, source in members:
                    self._add(archive, name, source, lines)
                if pictures:
                    self._add_pictures(archive, lines)
            manifest = {
                "format": FORMAT,
                "created_at": created_at,
                "app_version": annotate.__version__,
                "pictures": pictures,
                "left_out": self._left_out,
                "members": self._done,
                "members_sha256": _put(archive, MEMBERS_FILE, listed)[1],
            }
            archive.writestr(MANIFEST_FILE, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        size = zipped.stat().st_size
        return BackupReport(path, self._done, size, pictures, tuple(self._left_out), created_at)

    def _kept_files(self) -> Iterator[tuple[str, Path]]:
        for folder, last_written in _LAST_WRITTEN.items():
            for complete in sorted((self._workspace.root / folder).glob(f"[!.]*/{last_written}")):
                yield from self._files_of(complete if not last_written else complete.parent)
        for single in (self._workspace.calibrations, self._workspace.compare_models):
            if single.is_file():
                yield single.name, single

    def _sweep_files(self) -> Iterator[tuple[str, Path]]:
        """Of each sweep its settings, what its check found, its study as of one moment, its finished adapters."""
        for settings in sorted(self._workspace.sweeps.glob("[!.]*/sweep.json")):
            sweep = settings.parent
            for path in sorted(sweep.glob("[!.]*.json")):
                yield from self._files_of(path)
            if (sweep / _STUDY_FILE).is_file():
                yield from self._study(sweep)
            for complete in sorted(sweep.glob(f"adapters/[!.]*/{_LAST_WRITTEN['adapters']}")):
                yield from self._files_of(complete.parent)

    def _study(self, sweep: Path) -> Iterator[tuple[str, Path]]:
        """A damaged one is no reason to leave everything else out."""
        name, copy = f"sweeps/{sweep.name}/{_STUDY_FILE}", self._partial / f"study-{sweep.name}.db"
        try:
            copy_database(sweep / _STUDY_FILE, copy)
        except StoreError as error:
            self._left_out.append(f"{name}: {error}")
        else:
            yield name, copy

    def _files_of(self, holder: Path) -> Iterator[tuple[str, Path]]:
        """The file, or all files under the folder, with their names in the backup."""
        for path in [holder] if holder.is_file() else self._below(holder):
            if path.is_symlink() or not path.is_file():
                continue
            name = path.relative_to(self._workspace.root).as_posix()
            if fits_as_member(name):
                yield name, path
            else:
                self._left_out.append(f"{name}: an unfit name")

    def _below(self, folder: Path) -> list[Path]:
        """All files under a folder of the workspace; one of a run that goes meanwhile is passed over."""
        name = f"{folder.relative_to(self._workspace.root).as_posix()}/"

        def tell(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError) or not name.startswith(_COME_AND_GO):
                raise error

        return sorted(Path(at) / file for at, _, files in os.walk(folder, onerror=tell) for file in files)

    def _databases(self) -> tuple[Path, ...]:
        return self._workspace.annotations_db, self._workspace.runs_db, self._workspace.arena_db

    def _copy(self, source: Path) -> Path | None:
        if not source.exists():
            return None
        copy_database(source, self._partial / source.name)
        return self._partial / source.name

    def _picture_count(self) -> int:
        with reading(self._partial / "annotations.db") as connection:
            return int(connection.execute("SELECT count(*) FROM pictures").fetchone()[0])

    def _add_pictures(self, archive: zipfile.ZipFile, lines: IO[str]) -> None:
        folder = self._workspace.pictures.folder
        for batch in picture_rows(self._partial / "annotations.db"):
            for sha256, file in batch:
                name = f"images/{file}"
                try:
                    fault = "" if file_sha256(folder / file) == sha256 else "damaged: its hash is another"
                except PictureError:
                    fault = "missing"
                if not fault and not fits_as_member(name):
                    fault = "an unfit name"
                if fault:
                    self._left_out.append(f"{name}: {fault}")
                    self._total -= 1
                else:
                    self._add(archive, name, folder / file, lines)

    def _add(self, archive: zipfile.ZipFile, name: str, source: Path, lines: IO[str]) -> None:
        try:
            size, sha256 = _put(archive, name, source)
        except FileNotFoundError:
            if not name.startswith(_COME_AND_GO):
                raise
            self._left_out.append(f"{name}: gone meanwhile, as its run took it away")
            self._total -= 1
            return
        lines.write(json.dumps({"name": name, "bytes": size, "sha256": sha256}) + "\n")
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _put(archive: zipfile.ZipFile, name: str, source: Path) -> tuple[int, str]:
    """Stream a file into the archive; returns its bytes and SHA-256."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_STORED if source.suffix in _PACKED_ALREADY else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    with source.open("rb") as file, archive.open(entry, "w", force_zip64=True) as target:
        return copy_hashed(file, target)


def copy_hashed(source: IO[bytes], target: IO[bytes], most_bytes: int | None = None) -> tuple[int, str]:
    """Copy piece by piece; returns bytes and SHA-256. Stops behind `most_bytes`."""
    digest, size = hashlib.sha256(), 0
    while piece := source.read(_PIECE_BYTES):
        size += len(piece)
        if most_bytes is not None and size > most_bytes:
            break
        digest.update(piece)
        target.write(piece)
    return size, digest.hexdigest()
