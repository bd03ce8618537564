"""Backup while people work, and the way back: complete or not there, and nothing forged gets in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from annotate import backup as backup_module
from annotate.backup import back_up
from annotate.check import check
from annotate.restore import restore
from annotate.snapshot import freeze, read_snapshot
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.errors import StoreError, WorkspaceError
from grounding.workspace import Workspace

Fill = Callable[..., Store]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def busy(fill: Fill, workspace: Workspace) -> Workspace:
    """A workspace with samples on three pictures, a snapshot, an adapter, an evaluation, a run and things to skip."""
    fill("a", "b", picture=1)
    fill("c", picture=2)
    store = fill("v", split="val", picture=3)
    freeze(store, workspace.snapshots, "one", who="ann")
    with closing(sqlite3.connect(workspace.runs_db)) as runs, runs:
        runs.execute("CREATE TABLE runs (id TEXT)")
        runs.execute("INSERT INTO runs VALUES ('run-1')")
    with closing(sqlite3.connect(workspace.arena_db)) as arena, arena:
        arena.execute("CREATE TABLE votes (who TEXT)")
        arena.execute("INSERT INTO votes VALUES ('ann')")
    files = {
        "adapters/tools-v1/adapter.json": "{}",
        "adapters/tools-v1/adapter_model.safetensors": "weights",
        "adapters/half/adapter_model.safetensors": "half written",
        "evaluations/e1/report.json": "{}",
        "evaluations/e2/answers.jsonl": "broken off",
        "runs/run-1/log.txt": "steps",
        "calibrations.json": "{}",
        "compare-models.json": "[]",
        "features/big.bin": "made again",
        "uploads/x.png": "tried",
        "snapshots/.partial-two/samples.jsonl": "",
        "sweeps/tools/sweep.json": "{}",
        "sweeps/tools/preflight.json": "{}",
        "sweeps/tools/adapters/tools-01/adapter.json": "{}",
        "sweeps/tools/adapters/tools-01/adapter_model.safetensors": "weights",
        "sweeps/tools/adapters/tools-02/adapter_model.safetensors": "half written",
        "sweeps/begun/preflight.json": "{}",
    }
    for name, text in files.items():
        (workspace.root / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / name).write_text(text)
    with closing(sqlite3.connect(workspace.sweeps / "tools" / "study.db")) as study, study:
        study.execute("PRAGMA journal_mode = WAL")
        study.execute("CREATE TABLE trials (number INTEGER)")
        study.execute("INSERT INTO trials VALUES (7)")
    return workspace


@pytest.fixture
def zipped(busy: Workspace, tmp_path: Path) -> Path:
    return back_up(busy, tmp_path / "backup.zip").path


@pytest.fixture
def there(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "deep" / "there")


def files_under(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def opened(workspace: Workspace) -> Store:
    return Store(workspace.annotations_db, workspace.pictures)


def test_what_is_complete_comes_back_and_the_rest_stays_out(busy: Workspace, zipped: Path, there: Workspace) -> None:
    report = restore(there, zipped)
    expected = files_under(busy.root)
    unfinished = ("adapters/half", "evaluations/e2", "snapshots/.partial-two", "sweeps/begun")
    for left in (*unfinished, "sweeps/tools/adapters/tools-02", "features", "uploads"):
        expected = {name for name in expected if not name.startswith(f"{left}/")}
    expected -= {"annotations.db-wal", "annotations.db-shm"}
    assert files_under(there.root) == expected
    assert (report.files, report.pictures, report.left_out, report.moved_aside) == (len(expected), True, (), None)
    assert [opened(there).get(name).sample.phrase for name in "abcv"] == [f"the {name} thing" for name in "abcv"]
    assert read_snapshot(there.snapshots, "one").sha256 == read_snapshot(busy.snapshots, "one").sha256
    with closing(sqlite3.connect(there.runs_db)) as runs:
        assert runs.execute("SELECT id FROM runs").fetchone() == ("run-1",)
    with closing(sqlite3.connect(there.sweeps / "tools" / "study.db")) as study:
        assert study.execute("SELECT number FROM trials").fetchone() == (7,)
    assert check(there).problems == ()
    assert sorted(path.name for path in zipped.parent.iterdir() if path.name.startswith(".")) == []


def test_the_manifest_is_written_last_and_names_everything(zipped: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        names = archive.namelist()
        assert names[-2:] == ["members.jsonl", "manifest.json"]
        members = [json.loads(line) for line in archive.read("members.jsonl").splitlines()]
        assert [member["name"] for member in members] == names[:-2]
        assert [member["bytes"] for member in members] == [entry.file_size for entry in archive.infolist()[:-2]]


def test_without_pictures(busy: Workspace, tmp_path: Path, there: Workspace) -> None:
    small = back_up(busy, tmp_path / "small.zip", pictures=False)
    assert not small.pictures
    report = restore(there, small.path)
    assert not report.pictures
    assert not (there.root / "images").exists()
    assert opened(there).get("a").phrase == "the a thing"
    assert len(check(there).problems) == 3


def test_damaged_and_missing_pictures_are_named_and_the_work_is_saved_all_the_same(
    busy: Workspace, tmp_path: Path, there: Workspace
) -> None:
    store = opened(busy)
    damaged, missing = store.get("a").sample.image, store.get("c").sample.image
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    missing.unlink()
    report = back_up(busy, tmp_path / "backup.zip")
    assert sorted(line.split(": ", 1)[1] for line in report.left_out) == ["damaged: its hash is another", "missing"]
    assert restore(there, report.path).left_out == report.left_out
    assert opened(there).get("a").phrase == "the a thing"
    assert len(check(there).problems) == 2


def test_a_checkpoint_that_goes_meanwhile_is_left_out_and_named(
    busy: Workspace, tmp_path: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = busy.root / "runs" / "run-1" / "checkpoints" / "step-00000001"
    gone.mkdir(parents=True)
    for name in ("checkpoint.json", "weights.safetensors"):
        (gone / name).write_text("old")
    copy = backup_module.copy_database

    def copy_meanwhile(source: Path, target: Path) -> None:
        shutil.rmtree(gone, ignore_errors=True)
        copy(source, target)

    monkeypatch.setattr(backup_module, "copy_database", copy_meanwhile)
    report = back_up(busy, tmp_path / "backup.zip")
    assert [line.partition(": gone meanwhile")[0] for line in report.left_out] == [
        f"runs/run-1/checkpoints/step-00000001/{name}" for name in ("checkpoint.json", "weights.safetensors")
    ]
    assert restore(there, report.path).files == report.files
    assert (there.root / "runs" / "run-1" / "log.txt").read_text() == "steps"


def test_a_folder_of_a_run_that_goes_while_it_is_listed_is_passed_over(
    busy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def scan(folder: str | int) -> object:
        if Path(str(folder)).name in names:
            raise FileNotFoundError(2, "No such file or directory", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    names = {"run-1"}
    assert back_up(busy, tmp_path / "backup.zip").left_out == ()
    names = {"tools-v1"}
    with pytest.raises(WorkspaceError, match="No such file"):
        back_up(busy, tmp_path / "other.zip")


def test_what_people_made_is_never_left_out_silently(
    busy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backup_module.copy_database

    def copy_meanwhile(source: Path, target: Path) -> None:
        shutil.rmtree(busy.adapters / "tools-v1", ignore_errors=True)
        copy(source, target)

    monkeypatch.setattr(backup_module, "copy_database", copy_meanwhile)
    with pytest.raises(WorkspaceError, match="can't be written"):
        back_up(busy, tmp_path / "backup.zip")
    assert not (tmp_path / "backup.zip").exists()


def test_a_study_is_copied_with_what_its_log_holds(busy: Workspace, tmp_path: Path, there: Workspace) -> None:
    """A worker has it open and writes: what it has committed stands in the write-ahead log alone."""
    with closing(sqlite3.connect(busy.sweeps / "tools" / "study.db", isolation_level=None)) as worker:
        worker.execute("PRAGMA wal_autocheckpoint = 0")
        worker.execute("INSERT INTO trials VALUES (8)")
        zipped = back_up(busy, tmp_path / "backup.zip").path
    restore(there, zipped)
    with closing(sqlite3.connect(there.sweeps / "tools" / "study.db")) as study:
        assert study.execute("SELECT number FROM trials").fetchall() == [(7,), (8,)]
    with zipfile.ZipFile(zipped) as archive:
        assert not [name for name in archive.namelist() if name.endswith(("-wal", "-shm"))]


def test_a_damaged_study_is_named_and_the_rest_is_saved(busy: Workspace, tmp_path: Path, there: Workspace) -> None:
    (busy.sweeps / "tools" / "study.db").write_bytes(b"no database at all" * 300)
    report = back_up(busy, tmp_path / "backup.zip")
    (left_out,) = report.left_out
    assert left_out.startswith("sweeps/tools/study.db: ")
    restore(there, report.path)
    assert (there.sweeps / "tools" / "sweep.json").is_file() and not (there.sweeps / "tools" / "study.db").exists()


class Writers:
    """Four threads that save without a pause, and what has been acknowledged to them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.acknowledged: dict[str, tuple[int, str]] = {}
        self.saves = [0] * 4
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(4)]

    def _write(self, writer: int) -> None:
        while not self._stop.is_set():
            for number in range(writer, 40, 4):
                item, phrase = self.store.get(f"s{number}"), f"words {writer} {self.saves[writer]}"
                saved = self.store.save(item.id, phrase, who=f"w{writer}", expected_revision=item.revision)
                self.acknowledged[item.id] = (saved.revision, phrase)
                self.saves[writer] += 1

    def wait_for(self, more: int) -> None:
        goal, deadline = sum(self.saves) + more, time.monotonic() + 20
        while sum(self.saves) < goal:
            assert time.monotonic() < deadline, "nobody writes"
            time.sleep(0.002)

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Slowed:
    """A connection whose backup goes page by page, with saves of others between the first ones."""

    def __init__(self, connection: sqlite3.Connection, writers: Writers) -> None:
        self.connection, self.writers = connection, writers
        self.steps, self.remaining = 0, 1 << 30

    def execute(self, *arguments: str) -> sqlite3.Cursor:
        return self.connection.execute(*arguments)

    def backup(self, copy: sqlite3.Connection, *, pages: int) -> None:
        self.connection.backup(copy, pages=1, progress=self._step)

    def _step(self, status: int, remaining: int, total: int) -> None:
        assert remaining < self.remaining, "a save has started the copy anew"
        self.steps, self.remaining = self.steps + 1, remaining
        if self.steps < 12:
            self.writers.wait_for(2)


def test_every_save_acknowledged_before_the_backup_is_in_it(
    fill: Fill, workspace: Workspace, tmp_path: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch, real_disk: None
) -> None:
    store = fill(*(f"s{number}" for number in range(40)), phrase=PLACEHOLDER)
    with Writers(store) as writers:
        reading = backup_module.reading

        @contextmanager
        def slowed(path: Path) -> Iterator[Slowed]:
            with reading(path) as connection:
                yield Slowed(connection, writers)

        writers.wait_for(60)
        before = dict(writers.acknowledged)
        with monkeypatch.context() as patched:
            patched.setattr(backup_module, "reading", slowed)
            report = back_up(workspace, tmp_path / "b.zip", pictures=False)
        assert sum(writers.saves) >= 60 + 20
    restore(there, report.path)
    copy = opened(there)
    for sample_id, (revision, phrase) in before.items():
        history = copy.history(sample_id)
        assert any((change.revision, change.phrase_after) == (revision, phrase) for change in history)
        assert len(history) == copy.get(sample_id).revision
    with closing(sqlite3.connect(there.annotations_db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


SLOW_BACKUP = """
import sys, time
from pathlib import Path
from annotate import backup
from grounding.workspace import Workspace

put = backup._put

def slow(archive, name, source):
    if name.startswith(sys.argv[3]):
        print(name, flush=True)
        time.sleep(60)
    return put(archive, name, source)

backup._put = slow
backup.back_up(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("at", ["images/", "members.jsonl"])
def test_kill_9_leaves_nothing_that_looks_complete(at: str, busy: Workspace, tmp_path: Path, there: Workspace) -> None:
    target = tmp_path / "out" / "backup.zip"
    target.parent.mkdir()
    command = [sys.executable, "-c", SLOW_BACKUP, str(busy.root), str(target), at]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(at)
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    (left,) = target.parent.iterdir()
    assert left.name.startswith(".partial-backup-")
    with pytest.raises(WorkspaceError, match="damaged"):
        restore(there, left / "backup.zip")
    assert not there.root.exists()
    back_up(busy, target)
    assert list(target.parent.iterdir()) == [target]
    restore(there, target)


Tamper = Callable[[dict[str, bytes]], None]


def swap_picture(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.startswith("images/"))
    members[name] = members[name][:-1] + b"?"


def swap_phrase(members: dict[str, bytes]) -> None:
    members["annotations.db"] = members["annotations.db"].replace(b"the a thing", b"the b thing")


def add_a_file(members: dict[str, bytes]) -> None:
    members["adapters/x/adapter.json"] = b"{}"


def drop_a_file(members: dict[str, bytes]) -> None:
    del members["adapters/tools-v1/adapter.json"]


def drop_the_manifest(members: dict[str, bytes]) -> None:
    del members["manifest.json"]


def rewrite(members: dict[str, bytes], name: str, value: bytes) -> None:
    """As a forger would: the lists follow."""
    members[name] = value
    lines = [
        {"name": key, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for key, data in members.items()
        if key not in ("members.jsonl", "manifest.json")
    ]
    members["members.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    manifest = json.loads(members["manifest.json"])
    manifest |= {"members": len(lines), "members_sha256": hashlib.sha256(members["members.jsonl"]).hexdigest()}
    members["manifest.json"] = json.dumps(manifest).encode()


def forge_a_climbing_name(members: dict[str, bytes]) -> None:
    rewrite(members, "snapshots/../../../evil.txt", b"evil")


def forge_an_absolute_name(members: dict[str, bytes]) -> None:
    rewrite(members, "/tmp/evil.txt", b"evil")


def forge_a_windows_name(members: dict[str, bytes]) -> None:
    rewrite(members, "adapters/x/..\\..\\evil.txt", b"evil")


def forge_a_program(members: dict[str, bytes]) -> None:
    rewrite(members, "app.py", b"evil")


def forge_a_picture(members: dict[str, bytes]) -> None:
    rewrite(members, "images/ab/" + "ab" * 32 + ".png", b"another picture")


def forge_a_file_under_a_file(members: dict[str, bytes]) -> None:
    rewrite(members, "adapters/tools-v1/adapter.json/more", b"evil")


def forge_a_database(members: dict[str, bytes]) -> None:
    rewrite(members, "annotations.db", members["annotations.db"][:9000])


def forge_another_format(members: dict[str, bytes]) -> None:
    members["manifest.json"] = members["manifest.json"].replace(b"boxwright-backup/1", b"boxwright-backup/9")


def forge_the_manifest(members: dict[str, bytes]) -> None:
    members["manifest.json"] = b'{"format": "boxwright-backup/1", "members": "many"}'


TAMPERED = [value for name, value in list(globals().items()) if name.split("_")[0] in ("swap", "add", "drop", "forge")]


@pytest.mark.parametrize("tamper", TAMPERED)
def test_a_backup_that_was_changed_is_refused_and_nothing_moves(
    tamper: Tamper, busy: Workspace, zipped: Path, there: Workspace, tmp_path: Path
) -> None:
    with zipfile.ZipFile(zipped) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tamper(members)
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(changed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    standing = files_under(busy.root)
    for workspace in (there, busy):
        with pytest.raises(WorkspaceError, match=r"Nothing was restored|was not restored"):
            restore(workspace, changed, replace=True)
    assert not there.root.exists()
    assert files_under(busy.root) == standing
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list(tmp_path.rglob("*.replaced-*"))


def test_a_picture_path_that_climbs_is_refused_even_in_a_sound_database(
    busy: Workspace, zipped: Path, there: Workspace, tmp_path: Path
) -> None:
    with zipfile.ZipFile(zipped) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    forged = tmp_path / "forged.db"
    forged.write_bytes(members["annotations.db"])
    with closing(sqlite3.connect(forged)) as connection, connection:
        connection.execute("UPDATE pictures SET file = '../../../etc/passwd'")
    rewrite(members, "annotations.db", forged.read_bytes())
    with zipfile.ZipFile(tmp_path / "forged.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(WorkspaceError, match="no name of a picture"):
        restore(there, tmp_path / "forged.zip")


def test_a_bomb_is_refused_before_it_unpacks(zipped: Path, there: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(zipped.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(WorkspaceError, match=r"unpacks to .* GB, and only 0.0 GB are free"):
        restore(there, zipped)
    assert not there.root.exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_what_is_no_backup_is_refused(content: bytes | None, tmp_path: Path, there: Workspace) -> None:
    if content is not None:
        (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"no backup of Boxwright|no readable backup"):
        restore(there, tmp_path / "x.zip")
    assert not there.root.exists()


def test_work_that_stands_is_never_overwritten(busy: Workspace, zipped: Path) -> None:
    store = opened(busy)
    store.save("a", "newer words", who="ann", expected_revision=1)
    with pytest.raises(WorkspaceError, match=r"is not empty .*--replace"):
        restore(busy, zipped)
    assert store.get("a").phrase == "newer words"
    report = restore(busy, zipped, replace=True)
    assert opened(busy).get("a").phrase == "the a thing"
    assert report.moved_aside is not None
    assert report.moved_aside.parent == busy.root.parent
    aside = Workspace(report.moved_aside)
    assert opened(aside).get("a").phrase == "newer words"
    assert (aside.root / "uploads" / "x.png").exists()
    assert not list(busy.root.parent.rglob(".partial-restore*"))


@pytest.mark.parametrize("replace", [False, True])
def test_work_that_begins_while_a_backup_is_brought_back_is_never_overwritten(
    zipped: Path, there: Workspace, make_sample: Callable[..., Any], replace: bool
) -> None:
    def begin_work(done: int, total: int) -> None:
        opened(there).import_samples([make_sample("new")], source="test", who="ann")

    if replace:
        aside = restore(there, zipped, replace=True, progress=begin_work).moved_aside
        assert aside is not None and opened(there).get("a").phrase == "the a thing"
        assert opened(Workspace(aside)).get("new").phrase == "the new thing"
        return
    with pytest.raises(WorkspaceError, match=r"is not empty .*--replace"):
        restore(there, zipped, progress=begin_work)
    assert opened(there).get("new").phrase == "the new thing"
    assert not list(there.root.rglob(".partial-restore*"))


def test_an_empty_folder_is_filled_where_it_stands(zipped: Path, there: Workspace) -> None:
    there.root.mkdir(parents=True)
    inode = there.root.stat().st_ino
    restore(there, zipped)
    assert there.root.stat().st_ino == inode, "a folder that is mounted can't be replaced"


def test_a_backup_never_replaces_one_and_a_full_disk_leaves_nothing(
    busy: Workspace, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = zipped.read_bytes()
    with pytest.raises(WorkspaceError, match="there already"):
        back_up(busy, zipped)
    assert zipped.read_bytes() == before

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_module, "copy_hashed", full)
    (tmp_path / "out").mkdir()
    with pytest.raises(WorkspaceError, match=r"No space left.*Free some space"):
        back_up(busy, tmp_path / "out" / "b.zip")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(WorkspaceError, match="can't be written"):
        back_up(busy, tmp_path / "nowhere" / "b.zip")


def test_a_damaged_database_is_not_backed_up_as_if_it_were_sound(busy: Workspace, tmp_path: Path) -> None:
    opened(busy)
    content = bytearray(busy.annotations_db.read_bytes())
    content[4096 * 3 : 4096 * 12] = b"\xa5" * (4096 * 9)
    busy.annotations_db.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"):
        back_up(busy, tmp_path / "b.zip")
    assert not list(tmp_path.glob("*.zip"))
    assert "damaged" in check(busy).problems[0]
