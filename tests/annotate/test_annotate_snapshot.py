"""Snapshots: what goes in, what stays out and is counted, and that they never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import annotate
from annotate import snapshot as snapshot_module
from annotate.snapshot import check_unchanged, freeze, list_snapshots, read_snapshot
from annotate.store import Store
from annotate_samples import PLACEHOLDER
from grounding.errors import SnapshotError, WorkspaceError
from grounding.records import read_samples
from grounding.workspace import Workspace

Fill = Callable[..., Store]


@pytest.fixture
def ready(fill: Fill) -> Store:
    """a, b usable train; c placeholder; d flagged; e rejected; f a leak (picture 9 stands in test); v val, t test."""
    fill("a", "b", picture=1)
    fill("c", picture=2, phrase=PLACEHOLDER)
    fill("d", "e", picture=2)
    fill("v", split="val", picture=3)
    fill("f", picture=9)
    store = fill("t", split="test", picture=9)
    store.flag("d", "?", who="ann", expected_revision=1)
    store.reject("e", "no", who="ann", expected_revision=1)
    return store


def test_usable_samples_go_in_and_the_others_are_counted(ready: Store, workspace: Workspace) -> None:
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    assert [sample.id for sample in read_samples(info.samples_path)] == ["a", "b", "v", "t"]
    assert info.counts == {"train": 2, "val": 1, "test": 1}
    assert info.left_out == {"rejected": 1, "placeholder": 1, "flagged": 1, "leak": 1}
    assert sum(info.counts.values()) + sum(info.left_out.values()) == ready.counts().total
    assert list(read_samples(info.samples_path)) == [ready.get_sample(sample_id) for sample_id in "abvt"]


def test_the_manifest_follows_its_format(ready: Store, workspace: Workspace) -> None:
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    manifest = json.loads((info.path / "manifest.json").read_text())
    assert info.path == workspace.snapshots / "one"
    assert manifest.pop("created_at") == info.created_at
    assert manifest == {
        "format": "boxwright-snapshot/1",
        "name": "one",
        "samples_sha256": hashlib.sha256(info.samples_path.read_bytes()).hexdigest(),
        "counts": {"train": 2, "val": 1, "test": 1},
        "left_out": {"rejected": 1, "placeholder": 1, "flagged": 1, "leak": 1},
        "leaks": {"same_picture": 1, "same_image_id": 0, "near_duplicate": 0},
        "approved_only": False,
        "who": "ann",
        "app_version": annotate.__version__,
        "coordinates": "xyxy_px of the original image",
    }
    assert sorted(path.name for path in info.path.iterdir()) == ["leaks.jsonl", "manifest.json", "samples.jsonl"]
    assert [path.name for path in workspace.snapshots.iterdir()] == ["one"]
    assert read_snapshot(workspace.snapshots, "one") == info


def test_same_content_same_hash_other_content_other_hash(ready: Store, workspace: Workspace, tmp_path: Path) -> None:
    first = freeze(ready, workspace.snapshots, "one", who="ann")
    assert freeze(ready, workspace.snapshots, "a-much-longer-name", who="bob").sha256 == first.sha256
    ready.skip("a", who="ann", expected_revision=1)
    assert freeze(ready, workspace.snapshots, "after-a-skip", who="ann").sha256 == first.sha256
    ready.save("a", "other words", who="ann", expected_revision=2)
    assert freeze(ready, workspace.snapshots, "after-a-save", who="ann").sha256 != first.sha256
    check_unchanged(first)


def test_the_same_data_in_another_workspace_has_the_same_hash(
    ready: Store, workspace: Workspace, tmp_path: Path
) -> None:
    there = Workspace(tmp_path / "deeper" / "other")
    other = Store(there.annotations_db, there.pictures)
    other.import_samples((ready.get_sample(sample_id) for sample_id in "abcfvt"), source="s", who="w")
    hashes = {
        freeze(ready, workspace.snapshots, "one", who="ann").sha256,
        freeze(other, there.snapshots, "one", who="ann").sha256,
    }
    assert len(hashes) == 1


def test_approved_only(ready: Store, workspace: Workspace) -> None:
    with pytest.raises(SnapshotError, match=r"left out: 1 rejected, 1 placeholder, 1 flagged, 5 not_approved.*approve"):
        freeze(ready, workspace.snapshots, "one", who="ann", approved_only=True)
    ready.approve("b", who="ann", expected_revision=1)
    info = freeze(ready, workspace.snapshots, "one", who="ann", approved_only=True)
    assert [sample.id for sample in read_samples(info.samples_path)] == ["b"]
    assert info.approved_only and info.left_out["not_approved"] == 4


def test_nothing_to_train_on_is_explained_and_leaves_nothing_behind(fill: Fill, workspace: Workspace) -> None:
    store = fill("v", split="val")
    with pytest.raises(SnapshotError, match=r"no train sample .*store has none.*Import samples of the split train"):
        freeze(store, workspace.snapshots, "one", who="ann")
    assert list(workspace.snapshots.iterdir()) == []


def test_a_snapshot_is_never_overwritten(ready: Store, workspace: Workspace) -> None:
    first = freeze(ready, workspace.snapshots, "one", who="ann")
    ready.save("a", "other words", who="ann", expected_revision=1)
    with pytest.raises(SnapshotError, match=r"snapshot 'one' already.*another name"):
        freeze(ready, workspace.snapshots, "one", who="ann")
    assert read_snapshot(workspace.snapshots, "one") == first
    check_unchanged(first)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "x" * 65])
def test_a_name_that_is_no_folder_name_is_refused(name: str, ready: Store, workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"can't name a snapshot"):
        freeze(ready, workspace.snapshots, name, who="ann")


def test_a_write_that_breaks_off_leaves_no_snapshot(
    ready: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_module, "_to_disk", full)
    with pytest.raises(SnapshotError, match=r"No space left on device.*Free some space"):
        freeze(ready, workspace.snapshots, "one", who="ann")
    assert list(workspace.snapshots.iterdir()) == []


def test_a_changed_snapshot_is_noticed(ready: Store, workspace: Workspace) -> None:
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    info.samples_path.write_text(info.samples_path.read_text().replace("the a thing", "the b thing"))
    with pytest.raises(SnapshotError, match=r"was changed after it was made"):
        check_unchanged(info)


def test_missing_and_incomplete_snapshots_are_named(ready: Store, workspace: Workspace) -> None:
    with pytest.raises(SnapshotError, match=r"no snapshot 'two'. There are: none yet"):
        read_snapshot(workspace.snapshots, "two")
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    with pytest.raises(SnapshotError, match=r"no snapshot 'two'. There are: one"):
        read_snapshot(workspace.snapshots, "two")
    assert list_snapshots(workspace.snapshots) == (info,)
    (info.path / "manifest.json").write_text('{"format": "boxwright-snapshot/1"}')
    with pytest.raises(SnapshotError, match=r"incomplete or damaged"):
        read_snapshot(workspace.snapshots, "one")
    (info.path / "manifest.json").unlink()
    assert list_snapshots(workspace.snapshots) == ()


def test_a_damaged_snapshot_hides_no_other(ready: Store, workspace: Workspace) -> None:
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    (workspace.snapshots / "bad").mkdir()
    (workspace.snapshots / "bad" / "manifest.json").write_text("{")
    (workspace.snapshots / "no name of ours").mkdir()
    (workspace.snapshots / "no name of ours" / "manifest.json").write_text("{}")
    assert list_snapshots(workspace.snapshots) == (info,)
    with pytest.raises(SnapshotError, match=r"no snapshot 'two'\. There are: one\."):
        read_snapshot(workspace.snapshots, "two")


def test_a_snapshot_made_before_leaks_were_counted_still_opens(ready: Store, workspace: Workspace) -> None:
    info = freeze(ready, workspace.snapshots, "one", who="ann")
    manifest = json.loads((info.path / "manifest.json").read_text())
    del manifest["leaks"]
    (info.path / "manifest.json").write_text(json.dumps(manifest))
    assert read_snapshot(workspace.snapshots, "one").leaks == {}
