"""An export reads back as what was frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.exporters import export
from annotate.importers import find_importer
from annotate.snapshot import SnapshotInfo, freeze
from annotate.store import Store
from grounding.boxes import Box
from grounding.errors import SnapshotError
from grounding.records import Sample
from grounding.workspace import Workspace

Fill = Callable[..., Store]


@pytest.fixture
def frozen(fill: Fill, workspace: Workspace) -> SnapshotInfo:
    fill("a", picture=1, extra={"my_key": [1, {"deep": "ü"}]}, alternatives=("one", "two"), category="mug")
    fill("b", picture=1, boxes_xyxy_px=(), phrase="nothing 🐶")
    store = fill("v", picture=2, split="val", boxes_xyxy_px=(Box(0, 0, 40, 30), Box(1, 1, 2, 2)), image_id="7")
    return freeze(store, workspace.snapshots, "one", who="ann")


@pytest.mark.parametrize("link", [False, True], ids=["copy", "link"])
def test_an_export_imports_as_what_was_frozen(link: bool, frozen: SnapshotInfo, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(frozen, "jsonl", out, link=link) == 3
    assert sorted(path.name for path in out.iterdir()) == ["images", "train.jsonl", "val.jsonl"]
    there = Workspace(tmp_path / "other")
    other = Store(there.annotations_db, there.pictures)
    report = other.import_samples(find_importer(out).read(out, tmp_path), source="out", who="ann")
    assert (report.imported, report.errors) == (3, ())
    for sample in store.iterate():
        again = other.get_sample(sample.id)
        assert again.image.name == sample.image.name
        assert again.to_json(again.image.parent) == sample.to_json(sample.image.parent)
        assert (out / "images" / sample.image.name).samefile(sample.image) == link


def test_an_export_does_not_lean_on_the_workspace(frozen: SnapshotInfo, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(frozen, "jsonl", out)
    out.rename(tmp_path / "moved")
    rows = list(find_importer(tmp_path / "moved").read(tmp_path / "moved", tmp_path))
    assert all(isinstance(row, Sample) and row.image.parent == tmp_path / "moved" / "images" for row in rows)
    assert all(isinstance(row, Sample) and row.image.is_file() for row in rows)


def test_nothing_that_stands_is_overwritten(frozen: SnapshotInfo, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(frozen, "jsonl", out)
    with pytest.raises(SnapshotError, match=r"there already and not empty"):
        export(frozen, "jsonl", out)
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match=r"there already"):
        export(frozen, "jsonl", tmp_path / "file")
    with pytest.raises(SnapshotError, match=r"can't be written"):
        export(frozen, "jsonl", tmp_path / "file" / "below")


def test_a_failed_export_leaves_nothing(frozen: SnapshotInfo, store: Store, tmp_path: Path) -> None:
    store.get_sample("v").image.unlink()
    with pytest.raises(SnapshotError, match=r"There is no picture"):
        export(frozen, "jsonl", tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_changed_snapshot_and_an_unknown_format_are_refused(frozen: SnapshotInfo, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"no export format 'voc'. Expected one of .*jsonl"):
        export(frozen, "voc", tmp_path / "out")
    frozen.samples_path.write_bytes(frozen.samples_path.read_bytes() + b"\n")
    with pytest.raises(SnapshotError, match=r"changed after it was made"):
        export(frozen, "jsonl", tmp_path / "out")


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(phrase=text, alternatives=st.lists(text, max_size=3), extra=st.dictionaries(text.map("x{}".format), text))
def test_any_text_survives_the_line(phrase: str, alternatives: list[str], extra: dict[str, str]) -> None:
    folder = Path("/anywhere")
    sample = Sample("id", folder / "a.png", phrase, (), alternatives=tuple(alternatives), extra=extra)
    assert Sample.from_json(sample.to_json(folder), folder) == sample
