"""Many writers at once, kill -9, a disk that refuses: an acknowledged save stands, and a refusal is a sentence."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from annotate.leases import Leases
from annotate.opinions import Opinions
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakeSample
from grounding import database
from grounding.database import connect
from grounding.errors import StaleSaveError, StoreError
from grounding.pictures import PictureStore, file_sha256
from grounding.records import read_samples, write_samples
from grounding.workspace import Workspace

Fill = Callable[..., Store]
REPOSITORY = Path(__file__).resolve().parents[2]
THREADS = 8


def test_saves_wait_for_the_disk(store: Store, real_disk: None) -> None:
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_no_update_is_lost_among_eight_writers(fill: Fill) -> None:
    store = fill("shared", phrase=PLACEHOLDER)
    saves_each = 15
    together = threading.Barrier(THREADS)

    def write(number: int) -> int:
        stale = 0
        together.wait()
        for save in range(saves_each):
            while True:
                revision = store.get("shared").revision
                try:
                    store.save("shared", f"w{number} s{save}", who=f"w{number}", expected_revision=revision)
                    break
                except StaleSaveError as error:
                    assert error.current.revision > revision
                    stale += 1
        return stale

    with ThreadPoolExecutor(THREADS) as pool:
        stale = sum(pool.map(write, range(THREADS)))
    history = store.history("shared")
    assert len(history) == 1 + THREADS * saves_each
    assert [change.revision for change in history] == list(range(1, len(history) + 1))
    for earlier, later in itertools.pairwise(history):
        assert later.phrase_before == earlier.phrase_after
    for number in range(THREADS):
        mine = [change.phrase_after for change in history if change.who == f"w{number}"]
        assert mine == [f"w{number} s{save}" for save in range(saves_each)]
    assert stale > 0, "the writers never met: the test shows nothing"


def test_people_write_while_an_import_runs(store: Store, make_sample: MakeSample) -> None:
    store.import_samples([make_sample(f"a{n}", phrase=PLACEHOLDER) for n in range(30)], source="s", who="w")

    def write(number: int) -> None:
        for n in range(number, 30, 4):
            store.save(f"a{n}", f"words {n}", who="ann", expected_revision=1)

    with ThreadPoolExecutor(5) as pool:
        imports = pool.submit(store.import_samples, [make_sample(f"b{n}") for n in range(1200)], source="s", who="w")
        for done in [pool.submit(write, number) for number in range(4)]:
            done.result()
        assert imports.result().imported == 1200
    assert (store.counts().total, store.counts().written) == (1230, 30)


def test_a_new_workspace_opened_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    together = threading.Barrier(THREADS)

    def open_store(number: int) -> int:
        together.wait()
        return Store(tmp_path / "new" / "annotations.db", PictureStore(tmp_path / "images")).counts().total

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(open_store, range(THREADS))) == [0] * THREADS


KILLED_WRITER = """
import sys
from pathlib import Path
from annotate.store import Store
from grounding.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))
store = Store(workspace.annotations_db, workspace.pictures)
for number in range(100000):
    item = store.get(f"s{number % 5}")
    saved = store.save(item.id, f"words {number}", who="ann", expected_revision=item.revision)
    print(saved.id, saved.revision, saved.phrase, sep="|", flush=True)
"""


def test_every_acknowledged_save_survives_kill_9(fill: Fill, workspace: Workspace, real_disk: None) -> None:
    fill(*(f"s{number}" for number in range(5)), phrase=PLACEHOLDER)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(workspace.root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(25)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    store = Store(workspace.annotations_db, workspace.pictures)
    complete = [line.rstrip("\n").split("|") for line in acknowledged if line.endswith("\n")]
    assert len(complete) >= 25
    kept = {(c.sample_id, c.revision): c.phrase_after for n in range(5) for c in store.history(f"s{n}")}
    for sample_id, revision, phrase in complete:
        assert kept[sample_id, int(revision)] == phrase
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


KILLED_IMPORT = """
import sys
from pathlib import Path
from annotate.store import Store
from grounding.records import read_samples
from grounding.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))
store = Store(workspace.annotations_db, workspace.pictures)
samples = read_samples(sys.argv[2])
store.import_samples(samples, source="s", who="w", progress=lambda done: print(done, flush=True))
"""


def test_an_import_killed_in_the_middle_keeps_its_batches_and_is_finished_by_another(
    make_sample: MakeSample, tmp_path: Path, workspace: Workspace, real_disk: None
) -> None:
    total = 20_000
    source = tmp_path / "all.jsonl"
    samples = [make_sample(f"i{number}", number % 7) for number in range(total)]
    write_samples(source, samples)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_IMPORT, str(workspace.root), str(source)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as importer:
        assert importer.stdout is not None
        told = [importer.stdout.readline() for _ in range(3)]
        os.kill(importer.pid, signal.SIGKILL)
        told += importer.stdout.readlines()
    acknowledged = max(int(line) for line in told if line.endswith("\n"))
    store = Store(workspace.annotations_db, workspace.pictures)
    kept = list(store.iterate())
    assert acknowledged <= len(kept) < total, "it had ended before it was killed: the test shows nothing"
    assert [sample.id for sample in kept] == [sample.id for sample in samples[: len(kept)]]
    assert all(sample.boxes_xyxy_px == samples[0].boxes_xyxy_px for sample in kept)
    for sample in kept[:7]:
        assert file_sha256(sample.image) == sample.image.stem
    assert len(store.history(kept[-1].id)) == 1
    report = store.import_samples(read_samples(source), source="s", who="w")
    assert (report.imported, report.already_there, report.errors) == (total - len(kept), len(kept), ())
    assert store.counts().total == total
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


KILLED_CROWD = """
import sys, threading
from pathlib import Path
from annotate.heard import Heard
from annotate.leases import Leases
from annotate.opinions import Opinions
from annotate.store import Store
from grounding.boxes import Box
from grounding.records import Prediction, Status
from grounding.workspace import Workspace

workspace = Workspace(Path(sys.argv[1]))
store = Store(workspace.annotations_db, workspace.pictures)
said = threading.Lock()


def tell(*words):
    with said:
        print(*words, sep="|", flush=True)


def work(name):
    for number in range(100000):
        Leases(store.path).hold("s0", name, name, seconds=0.001)
        mine = Opinions(store).propose("s0", 1, name, f"{name} says {number}")
        tell("opinion", mine.id, mine.phrase)
        item = store.get(f"s{name}")
        saved = store.save(item.id, f"{name} words {number}", who=name, expected_revision=item.revision)
        tell("save", saved.id, saved.revision, saved.phrase)
        Heard(store.path).record(saved.id, saved.phrase, [Prediction((Box(1, 1, 9, 9),), Status.OK, "", 0.5, 0.1)])


for name in "1234":
    threading.Thread(target=work, args=(name,)).start()
"""


def test_four_writers_killed_at_once_lose_nothing_acknowledged(
    fill: Fill, workspace: Workspace, real_disk: None
) -> None:
    fill(*(f"s{number}" for number in range(5)))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_CROWD, str(workspace.root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as writers:
        assert writers.stdout is not None
        told = [writers.stdout.readline() for _ in range(40)]
        os.kill(writers.pid, signal.SIGKILL)
        told += writers.stdout.readlines()
    assert writers.returncode == -signal.SIGKILL
    store = Store(workspace.annotations_db, workspace.pictures)
    acknowledged = [line.rstrip("\n").split("|") for line in told if line.endswith("\n")]
    saves = {(c.sample_id, c.revision): c.phrase_after for n in range(5) for c in store.history(f"s{n}")}
    opinions = {one.id: one.phrase for one in Opinions(store).of("s0")}
    assert {words[0] for words in acknowledged} == {"save", "opinion"}
    for words in acknowledged:
        if words[0] == "save":
            assert saves[words[1], int(words[2])] == words[3]
        else:
            assert opinions[int(words[1])] == words[2]
    waiting = Opinions(store).next_undecided()
    assert waiting is not None and waiting.id == "s0"
    assert Leases(store.path).hold("s0", "ann", "t").yours, "what the dead held has ended by itself"
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def expect_refusal(store: Store, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        store.save("a", "left mug", who="ann", expected_revision=1)
    assert str(store.path) in str(caught.value)


def test_a_read_only_database_is_explained(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill("a")
    monkeypatch.setattr(database, "_PRAGMAS", ("PRAGMA query_only = ON",))
    expect_refusal(store, "read-only.*--workspace DIR")
    assert store.get("a").revision == 1


def test_a_locked_database_is_explained(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill("a")
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        expect_refusal(store, "is locked: another program.*try again")
        assert store.get("a").revision == 1
    assert store.save("a", "left mug", who="ann", expected_revision=1).revision == 2


def test_a_full_disk_is_explained_and_loses_nothing(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill("a")
    with connect(store.path) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    with monkeypatch.context() as full:
        full.setattr(database, "_PRAGMAS", (f"PRAGMA max_page_count = {pages}",))
        with pytest.raises(StoreError, match=r"the disk is full. Nothing was saved; free some space"):
            for number in range(200):
                revision = store.get("a").revision
                store.save("a", f"{number} {'long words ' * 40}", who="ann", expected_revision=revision)
    item = store.get("a")
    assert len(store.history("a")) == item.revision
    assert store.save("a", "left mug", who="ann", expected_revision=item.revision).phrase == "left mug"


DAMAGE = {"no database": b"this is a text file, not a database", "cut short": None}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_explained_and_left_as_it_is(content: bytes | None, fill: Fill) -> None:
    store = fill("a")
    content = content or store.path.read_bytes()[:9000]
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*backup"):
        Store(store.path, store.pictures).get("a")
    assert store.path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"can't be made.*--workspace DIR"):
        Store(tmp_path / "file" / "annotations.db", PictureStore(tmp_path / "images"))


def test_a_folder_in_the_place_of_the_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "annotations.db").mkdir()
    with pytest.raises(StoreError, match=r"can't be opened.*--workspace DIR"):
        Store(tmp_path / "annotations.db", PictureStore(tmp_path / "images"))


def test_a_vanished_folder_is_explained(fill: Fill) -> None:
    store = fill("a")
    store.path.parent.rename(store.path.parent.with_name("moved"))
    expect_refusal(store, "can't be opened")


def test_a_store_keeps_its_log_open_between_edits_and_folds_it_in_at_the_end(fill: Callable[..., Store]) -> None:
    log = fill("a").path.with_name("annotations.db-wal")
    store = fill("b")
    store.save("a", "the red mug", who="ann", expected_revision=1)
    assert log.exists()  # so an edit waits for one write to the disk, not for the folding in too
    store._log()
    assert not log.exists() and store.path.exists()
