"""Frozen snapshots: read whole and unchanged, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.errors import RecordError, SnapshotError
from grounding.records import Sample, write_samples
from grounding.snapshots import SNAPSHOT_FORMAT, read_snapshot


def freeze(folder: Path, name: str = "first", **changes: Any) -> Path:
    """A snapshot with two train samples and a val sample, the way `annotate` writes it; `changes` to its manifest."""
    path = folder / name
    samples = [
        Sample(f"s{i}", folder / "images" / f"{i}.png", f"mug {i}", (Box(0, 0, 9, 9),), split)
        for i, split in enumerate(("train", "val", "train"))
    ]
    write_samples(path / "samples.jsonl", samples)
    write_manifest(path, **{"name": name} | changes)
    return path


def write_manifest(path: Path, **changes: Any) -> None:
    sha256 = hashlib.sha256((path / "samples.jsonl").read_bytes()).hexdigest()
    manifest = {"format": SNAPSHOT_FORMAT, "samples_sha256": sha256, "name": path.name} | changes
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def test_a_snapshot_by_its_name(snapshots: Path) -> None:
    path = freeze(snapshots)
    snapshot = read_snapshot(snapshots, "first")
    assert (snapshot.name, snapshot.path) == ("first", path)
    assert snapshot.samples_sha256 == hashlib.sha256((path / "samples.jsonl").read_bytes()).hexdigest()
    assert [sample.id for sample in snapshot.samples] == ["s0", "s1", "s2"]
    assert [sample.id for sample in snapshot.split("train")] == ["s0", "s2"]
    assert [sample.id for sample in snapshot.split("val")] == ["s1"]
    assert snapshot.split("test") == []
    assert snapshot.samples[0].image == snapshots.resolve() / "images" / "0.png"


def test_a_snapshot_by_its_folder(snapshots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(tmp_path / "elsewhere")
    assert read_snapshot(snapshots, str(tmp_path / "elsewhere" / "first")).name == "first"
    monkeypatch.chdir(tmp_path)
    assert read_snapshot(snapshots, "elsewhere/first").name == "first"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_snapshot(snapshots, "~/elsewhere/first").name == "first"


def test_a_name_in_the_workspace_wins_over_a_folder_here(
    snapshots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze(tmp_path, "first")
    path = freeze(snapshots, "first")
    monkeypatch.chdir(tmp_path)
    assert read_snapshot(snapshots, "first").path == path


def test_a_missing_snapshot_names_those_that_stand(snapshots: Path) -> None:
    with pytest.raises(SnapshotError, match=r"no complete snapshot 'mine'. Snapshots here: none yet") as caught:
        read_snapshot(snapshots, "mine")
    assert "python -m annotate snapshot NAME" in str(caught.value)
    freeze(snapshots, "b")
    freeze(snapshots, "a")
    freeze(snapshots, ".partial-c")
    with pytest.raises(SnapshotError, match=r"Snapshots here: a, b\."):
        read_snapshot(snapshots, "mine")


def test_a_snapshot_without_its_manifest_is_not_there_yet(snapshots: Path) -> None:
    (freeze(snapshots) / "manifest.json").unlink()
    with pytest.raises(SnapshotError, match=r"There is no complete snapshot 'first'"):
        read_snapshot(snapshots, "first")


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name", "nul\0character", "x" * 5000])
def test_what_can_not_name_a_snapshot(
    snapshots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    freeze(snapshots)
    with pytest.raises(SnapshotError, match=r"There is no complete snapshot") as caught:
        read_snapshot(snapshots, name)
    assert "Snapshots here: first." in str(caught.value)
    assert len(str(caught.value)) < 400


def add_a_line(path: Path) -> None:
    with (path / "samples.jsonl").open("a") as file:
        file.write("\n")


def change_a_phrase(path: Path) -> None:
    content = (path / "samples.jsonl").read_text(encoding="utf-8")
    (path / "samples.jsonl").write_text(content.replace("mug 0", "cup 0"), encoding="utf-8")


def drop_samples(path: Path) -> None:
    (path / "samples.jsonl").unlink()


def cut_manifest(path: Path) -> None:
    (path / "manifest.json").write_text('{"format": ')


def manifest_of(content: Any) -> Callable[[Path], None]:
    return lambda path: (path / "manifest.json").write_text(json.dumps(content))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("a phrase changed", change_a_phrase, "The samples of snapshot 'first' changed since it was frozen"),
        ("an empty line added", add_a_line, "changed since it was frozen"),
        ("another hash", lambda path: write_manifest(path, samples_sha256="0" * 64), "changed since it was frozen"),
        ("no samples", drop_samples, "is damaged"),
        ("a manifest cut short", cut_manifest, "is damaged"),
        ("a manifest that is a list", manifest_of([]), "is damaged"),
        ("a manifest that is null", manifest_of(None), "is damaged"),
        ("a manifest without a hash", manifest_of({"format": SNAPSHOT_FORMAT, "name": "first"}), "is damaged"),
        ("a manifest without a name", manifest_of({"format": SNAPSHOT_FORMAT, "samples_sha256": ""}), "is damaged"),
        (
            "another format",
            lambda path: write_manifest(path, format="boxwright-snapshot/9"),
            "'boxwright-snapshot/9': expected 'boxwright-snapshot/1'",
        ),
    ],
)
def test_a_snapshot_that_can_not_be_trusted(
    snapshots: Path, case: str, change: Callable[[Path], None], says: str
) -> None:
    path = freeze(snapshots)
    change(path)
    with pytest.raises(SnapshotError) as caught:
        read_snapshot(snapshots, "first")
    assert says in str(caught.value)
    assert "first" in str(caught.value)


def test_a_bad_line_under_a_true_hash_is_named(snapshots: Path) -> None:
    path = freeze(snapshots)
    add_a_line(path)
    with (path / "samples.jsonl").open("a") as file:
        file.write("{}\n")
    write_manifest(path)
    with pytest.raises(RecordError, match=r"samples\.jsonl, line 5"):
        read_snapshot(snapshots, "first")


def test_a_snapshot_is_found_when_its_workspace_has_moved(snapshots: Path, tmp_path: Path) -> None:
    """A run keeps the whole path of its snapshot; a backup may be brought back elsewhere."""
    freeze(snapshots)
    assert read_snapshot(snapshots, str(tmp_path / "gone" / "snapshots" / "first")).path == snapshots / "first"
    for elsewhere in (tmp_path / "gone" / "first", tmp_path / "gone" / "snapshots" / "second"):
        with pytest.raises(SnapshotError, match="no complete snapshot"):
            read_snapshot(snapshots, str(elsewhere))
