"""Repairs and bulk edits of many samples: nobody's save waits, what people change meanwhile stands, and a batch that
ends in the middle is seen and taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlite_utils import Database

from annotate import batches, chunks
from annotate.bulk import BulkEdit
from annotate.problems import choose_profile
from annotate.schema import migrations
from annotate.scopes import Scope
from annotate.store import Store
from annotate.templates import mark_templates
from annotate_samples import PLACEHOLDER, MakeSample
from grounding import database
from grounding.database import connect
from grounding.errors import StaleSaveError, StoreError
from grounding.pictures import PictureStore
from grounding.workspace import Workspace

Fill = Callable[..., Store]
REPOSITORY = Path(__file__).resolve().parents[2]
ALL = Scope("all")
FLAG = BulkEdit("flag", put="look")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two samples a chunk."""
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 2)


@pytest.fixture
def in_a_pause(small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """`in_a_pause(2, do)` does something in the second pause between chunks."""

    def arrange(number: int, do: Callable[[], object]) -> None:
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == number:
                do()

        monkeypatch.setattr(chunks, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    return arrange


def revisions(store: Store) -> list[int]:
    with store.view() as view:
        return [item.revision for item in view.items()]


TEMPLATE = "kindly name whatever happens to lie within these four corners"
LONG: dict[str, tuple[str, Callable[[Store], object]]] = {
    "repair": (PLACEHOLDER, lambda store: store.repair("ann")),
    "bulk edit": ("cup", lambda store: store.bulk(ALL, FLAG, who="ann")),
    "undo": ("cup", lambda store: store.undo_batch("mine", "ann")),
    "templates marked": (TEMPLATE, lambda store: mark_templates(store.path)),
    "another check profile": ("left cup", lambda store: choose_profile(store.path, "refcoco+")),
}


@pytest.mark.parametrize(("phrase", "work"), LONG.values(), ids=LONG)
def test_the_lock_is_free_between_the_chunks_of_long_work(
    phrase: str,
    work: Callable[[Store], object],
    store: Store,
    make_sample: MakeSample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = [
        make_sample(f"s{n}", n, phrase=phrase, category=f"c{n % 9}", alternatives=(f"cup {n}",)) for n in range(40)
    ]
    store.import_samples([make_sample("p"), *samples], source="s", who="w")
    if work is LONG["undo"][1]:
        store.bulk(ALL, FLAG, who="ann", batch="mine")
    saved: list[int] = []

    def save_at_once(seconds: float) -> None:
        revision = store.get("p").revision
        saved.append(store.save("p", f"words {revision}", who="ben", expected_revision=revision).revision)

    monkeypatch.setattr(database, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(chunks, "MOST_IN_CHUNK", 10)
    monkeypatch.setattr(chunks, "time", SimpleNamespace(sleep=save_at_once, monotonic=time.monotonic))
    work(store)
    assert len(saved) >= 3


def test_a_save_waits_for_one_chunk_however_long_the_edit_takes(
    store: Store, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.import_samples([make_sample(f"s{n}", n % 50) for n in range(1000)], source="s", who="w")

    def slow_apply(*arguments: Any) -> None:
        time.sleep(0.004)
        apply(*arguments)

    apply: Callable[..., None] = batches.apply
    monkeypatch.setattr(batches, "apply", slow_apply)
    waits: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        began_edit = time.monotonic()
        edit = pool.submit(store.bulk, ALL, FLAG, who="ann")
        while not edit.done():
            revision = store.get("s999").revision
            began = time.monotonic()
            with suppress(StaleSaveError):  # the edit came to it in between
                store.save("s999", f"words {revision}", who="ben", expected_revision=revision)
            waits.append(time.monotonic() - began)
    took = time.monotonic() - began_edit
    assert edit.result().count == 999 and edit.result().meanwhile == 1
    assert took > 4 and max(waits) < 2


def test_what_people_change_while_it_runs_stands_and_is_counted(fill: Fill, in_a_pause: Callable[..., None]) -> None:
    store = fill(*"abcdef")
    in_a_pause(2, lambda: store.save("e", "ben's words", who="ben", expected_revision=1))
    report = store.bulk(ALL, FLAG, who="ann")
    assert (report.count, report.left, report.meanwhile) == (5, 1, 1)
    assert (store.get("e").flagged, store.get("e").phrase, store.get("e").revision) == (False, "ben's words", 2)
    assert store.undo_batch(report.batch, "ann").count == 5
    assert store.get("e").phrase == "ben's words"


def test_a_repair_leaves_what_people_filled_while_it_ran(fill: Fill, in_a_pause: Callable[..., None]) -> None:
    store = fill(*"abcd", phrase=PLACEHOLDER, alternatives=("cup",))
    in_a_pause(1, lambda: store.save("c", "ben's cup", who="ben", expected_revision=1))
    report = store.repair("ann")
    assert (report.count, report.left, report.meanwhile) == (3, 1, 1)
    assert [store.get(one).phrase for one in "abcd"] == ["cup", "cup", "ben's cup", "cup"]


def test_what_people_change_after_the_preview_stands(fill: Fill) -> None:
    store = fill(*"abc", phrase="red cup")
    edit = BulkEdit("replace", find="red", put="blue")
    shown = store.bulk_preview(ALL, edit)
    store.save("b", "the very red cup", who="ben", expected_revision=1)
    fill("d", phrase="another red cup")
    report = store.bulk(ALL, edit, who="ann", as_of=shown.as_of)
    assert (shown.total, report.count, report.meanwhile) == (3, 2, 1)
    assert [store.get(one).phrase for one in "abcd"] == ["blue cup", "the very red cup", "blue cup", "another red cup"]
    repair = fill("e", phrase=PLACEHOLDER, alternatives=("cup",)).repair_preview()
    store.flag("e", "look", who="ben", expected_revision=1)
    assert store.repair("ann", as_of=repair.as_of).count == 0


def test_progress_tells_how_far_it_is(fill: Fill, small_chunks: None) -> None:
    store = fill(*"abcde")
    told: list[tuple[int, int]] = []
    report = store.bulk(ALL, FLAG, who="ann", progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]
    told.clear()
    store.undo_batch(report.batch, "ann", progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_taking_back_ends_what_still_runs(fill: Fill, in_a_pause: Callable[..., None]) -> None:
    store = fill(*"abcdef")
    in_a_pause(2, lambda: store.undo_batch("mine", "ben"))
    report = store.bulk(ALL, FLAG, who="ann", batch="mine")
    assert report.count == 4 and not any(store.get(one).flagged for one in "abcdef")
    batch = store.batch("mine")
    assert batch is not None and (batch.state, batch.count) == ("undone", 4)


def test_an_undo_that_breaks_off_goes_on_when_asked_again(
    fill: Fill, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(*"abcde")
    report = store.bulk(ALL, FLAG, who="ann")

    def breaks(*arguments: object, **named: object) -> None:
        raise StoreError("broken off")

    def two_then_break(done: int, total: int) -> None:
        monkeypatch.setattr(batches, "take_back", breaks)

    with pytest.raises(StoreError, match="broken off"):
        store.undo_batch(report.batch, "ann", progress=two_then_break)
    assert [store.get(one).flagged for one in "abcde"] == [False, False, True, True, True]
    monkeypatch.undo()
    undone = store.undo_batch(report.batch, "ann")
    assert (undone.count, undone.left) == (3, 0)
    assert not any(store.get(one).flagged for one in "abcde")


def test_batches_are_listed_the_newest_first_without_those_that_changed_nothing(fill: Fill) -> None:
    store = fill("a", "b")
    store.bulk(ALL, FLAG, who="ann", batch="first")
    store.bulk(ALL, FLAG, who="ann", batch="nothing to do")
    time.sleep(0.002)  # the times have milliseconds
    store.bulk(ALL, BulkEdit("unflag"), who="ben", batch="second")
    assert [(one.name, one.action, one.who, one.state, one.count) for one in store.batches()] == [
        ("second", "unflag", "ben", "done", 2),
        ("first", "flag", "ann", "done", 2),
    ]
    assert [one.name for one in store.batches(limit=1)] == ["second"]
    assert store.batch("third") is None


def test_batches_of_an_older_workspace_are_known(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = Database(path)
    migrations.apply(database, stop_before="m012_batches")
    database.execute("INSERT INTO pictures VALUES ('p', 'p.png', 9, 9, NULL)")
    database.execute(
        "INSERT INTO samples (id, position, picture_sha256, image_id, phrase, category, split, source, alternatives, "
        "extra, placeholder, state, flagged, revision) VALUES ('a', 1, 'p', '', 'x', '', 'train', '', '[]', '{}', 0, "
        "'imported', 1, 2)"
    )
    database.execute(
        "INSERT INTO changes (sample_id, revision, at, who, action, origin, phrase_before, phrase_after, before, "
        "batch) VALUES ('a', 2, '2025-01-01T00:00:00.000+00:00', 'ann', 'flag', 'human', 'x', 'x', "
        '\'{"flagged": 0, "flag_note": ""}\', \'bulk-flag-1\')'
    )
    database.conn.commit()
    database.close()
    store = Store(path, PictureStore(tmp_path / "images"))
    (batch,) = store.batches()
    assert (batch.name, batch.who, batch.count, batch.state) == ("bulk-flag-1", "ann", 1, "done")
    assert store.undo_batch("bulk-flag-1", "ben").count == 1 and not store.get("a").flagged


KILLED_BATCH = """
import sys
from pathlib import Path
from annotate import chunks
from annotate.bulk import BulkEdit
from annotate.scopes import Scope
from annotate.store import Store
from grounding.workspace import Workspace

chunks.MOST_IN_CHUNK = 20
chunks.PAUSE_SECONDS = 0.01
workspace = Workspace(Path(sys.argv[1]))
store = Store(workspace.annotations_db, workspace.pictures)
store.bulk(
    Scope("all"), BulkEdit("flag", put="look"), who="ann", batch="mine",
    progress=lambda done, total: print(done, flush=True),
)
"""


def test_a_batch_killed_in_the_middle_is_seen_and_taken_back(
    fill: Fill, make_sample: MakeSample, workspace: Workspace, real_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill("a")
    store.import_samples([make_sample(f"s{n}") for n in range(2000)], source="s", who="w")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_BATCH, str(workspace.root)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as worker:
        assert worker.stdout is not None
        told = [worker.stdout.readline() for _ in range(5)]
        os.kill(worker.pid, signal.SIGKILL)
        told += worker.stdout.readlines()
    store = Store(workspace.annotations_db, workspace.pictures)
    flagged = store.counts().flagged
    assert int(told[3]) <= flagged < 2001, "it had ended before it was killed: the test shows nothing"
    (batch,) = store.batches()
    assert (batch.name, batch.state, batch.count, batch.done, batch.total) == (
        "mine",
        "running",
        flagged,
        flagged,
        2001,
    )
    monkeypatch.setattr(batches, "_SILENT_SECONDS", 0)
    (batch,) = store.batches()
    assert batch.state == "broken", "nothing was heard of it for a while"
    undone = store.undo_batch("mine", "ben")
    assert (undone.count, undone.left) == (flagged, 0)
    assert store.counts().flagged == 0
    with connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        lines = connection.execute("SELECT COUNT(*) FROM changes").fetchone()[0]
    assert lines == 2001 + 2 * flagged, "the history was only added to"
