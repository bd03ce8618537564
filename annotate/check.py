"""Check that a workspace is whole: its databases, its pictures, its snapshots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from annotate.snapshot import MANIFEST_FILE, check_unchanged, read_snapshot
from grounding.database import reading
from grounding.errors import PictureError, SnapshotError, StoreError
from grounding.pictures import file_sha256
from grounding.workspace import Workspace

_BATCH_PICTURES = 256
_MOST_THREADS = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckReport:
    """`problems` are sentences, none when all is well; `pictures` is how many were read."""

    pictures: int
    problems: tuple[str, ...]


def check(workspace: Workspace, progress: Progress | None = None) -> CheckReport:
    """Read everything that people rely on, and change nothing. `progress` gets pictures done and all of them."""
    problems = database_problems(workspace.annotations_db)
    for path in (workspace.runs_db, workspace.arena_db):
        if path.exists():
            problems += database_problems(path)
    problems += _snapshot_problems(workspace.snapshots)
    done = 0
    try:
        problems += misplaced_pictures(workspace.annotations_db)
        total = _picture_count(workspace.annotations_db)
        for batch in _picture_problems(workspace):
            done += len(batch)
            problems += [problem for problem in batch if problem]
            if progress is not None:
                progress(done, total)
    except StoreError as error:
        problems.append(str(error))
    return CheckReport(done, tuple(dict.fromkeys(problems)))


def database_problems(path: Path) -> list[str]:
    """What SQLite finds wrong with the file or with what its rows refer to, as sentences."""
    try:
        with reading(path) as connection:
            verdicts = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            dangling = connection.execute("PRAGMA foreign_key_check").fetchall()
    except StoreError as error:
        return [str(error)]
    found = [f"{path.name} is damaged: {verdict}." for verdict in verdicts if verdict != "ok"]
    return found + [f"{path.name}: a row of {row[0]} refers to one of {row[2]} that is not there." for row in dangling]


def misplaced_pictures(annotations_db: Path) -> list[str]:
    """Pictures that the database keeps under another name than their own, as only a forged one does."""
    query = (
        "SELECT sha256, file FROM pictures WHERE file NOT GLOB substr(sha256, 1, 2) || '/' || sha256 || '.[a-z]*' "
        "OR file GLOB '*/*/*' OR length(sha256) <> 64 OR sha256 GLOB '*[^0-9a-f]*'"
    )
    with reading(annotations_db) as connection:
        rows = connection.execute(query).fetchall()
    return [f"The picture {row[0]} is kept as {row[1]!r}, which is no name of a picture here." for row in rows]


def _picture_count(annotations_db: Path) -> int:
    with reading(annotations_db) as connection:
        return int(connection.execute("SELECT count(*) FROM pictures").fetchone()[0])


def _picture_problems(workspace: Workspace) -> Iterator[list[str | None]]:
    """For each picture of a batch what is wrong with it, or None."""

    def problem(row: tuple[str, str]) -> str | None:
        sha256, file = row
        path = workspace.pictures.folder / file
        try:
            return None if file_sha256(path) == sha256 else f"The picture {path} was changed: its hash is another."
        except PictureError as error:
            return str(error)

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for batch in picture_rows(workspace.annotations_db):
            yield list(pool.map(problem, batch))


def picture_rows(annotations_db: Path) -> Iterator[list[tuple[str, str]]]:
    """(SHA-256, file) of every picture, in batches."""
    after = ""
    while True:
        with reading(annotations_db) as connection:
            query = "SELECT sha256, file FROM pictures WHERE sha256 > ? ORDER BY sha256 LIMIT ?"
            batch = [(row[0], row[1]) for row in connection.execute(query, (after, _BATCH_PICTURES))]
        if not batch:
            return
        yield batch
        after = batch[-1][0]


def _snapshot_problems(snapshots: Path) -> list[str]:
    problems = []
    for manifest in sorted(snapshots.glob(f"[!.]*/{MANIFEST_FILE}")):
        try:
            check_unchanged(read_snapshot(snapshots, manifest.parent.name))
        except SnapshotError as error:
            problems.append(str(error))
    return problems
