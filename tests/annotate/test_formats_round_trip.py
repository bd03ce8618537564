"""What a snapshot holds comes back from every foreign format, exactly; what somebody changed in the file comes back
changed."""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from annotate.carried import KEY, carry, restore
from annotate.exporters import export
from annotate.importers import find_importer
from annotate.snapshot import SnapshotInfo, freeze
from annotate.store import Store
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.errors import SnapshotError
from grounding.records import _KNOWN_KEYS, SPLITS, Sample
from grounding.workspace import Workspace

FORMATS = ("coco", "datasets", "grefcoco", "refer")
IMPORTER_OF = {"datasets": "refcoco"}


def frozen(folder: Path, samples: list[Sample]) -> SnapshotInfo:
    """A snapshot written by hand, as `freeze` would but with every digit of the boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        sample.to_json(folder) | {"boxes_xyxy_px": [list(box) for box in sample.boxes_xyxy_px]} for sample in samples
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "samples.jsonl").write_bytes(content)
    counts = dict.fromkeys(SPLITS, 0) | Counter(sample.split for sample in samples)
    sha256 = hashlib.sha256(content).hexdigest()
    return SnapshotInfo("one", folder, sha256, counts, {}, "2026-01-01", "ann", False)


def read_back(format_name: str, out: Path) -> dict[str, Sample]:
    """The samples of an export by id; nothing else may come."""
    importer = find_importer(out)
    assert importer.name == IMPORTER_OF.get(format_name, format_name)
    rows = list(importer.read(out, out.parent / "scratch"))
    samples = {row.id: row for row in rows if isinstance(row, Sample)}
    assert len(samples) == len(rows), rows
    return samples


def told(sample: Sample) -> dict[str, Any]:
    """Everything of a sample but where its picture stands; that picture's content instead."""
    return carry(sample) | {"picture": hashlib.sha256(sample.image.read_bytes()).hexdigest()}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
edge_px = st.floats(0, 500, allow_nan=False).map(lambda value: value + 0.0)
side_px = st.floats(1e-3, 500)
boxes = st.builds(lambda x, y, width, height: Box(x, y, x + width, y + height), edge_px, edge_px, side_px, side_px)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
foreign_keys = st.sampled_from(
    ["segmentation", "area", "iscrowd", "ann_id", "picture", "file_name", "source_split", "captions", "raw", KEY]
)
extra_keys = (text | foreign_keys).filter(lambda key: key not in _KNOWN_KEYS)
drafts = st.fixed_dictionaries(
    {
        "phrase": text,
        "boxes_xyxy_px": st.lists(boxes, max_size=3).map(tuple),
        "split": st.sampled_from(SPLITS),
        "category": text | st.just("object"),
        "image_id": text | st.integers(0, 5).map(str),
        "alternatives": st.lists(text, max_size=3).map(tuple),
        "extra": st.dictionaries(extra_keys, json_value, max_size=4),
        "picture": st.integers(0, 2),
    }
)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)


@st.composite
def sample_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    return [{"id": name, **draw(drafts)} for name in names]


def check_round_trip(format_name: str, records: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for number in range(3):
            Image.new("RGB", (40, 30), (number, 9, 9)).save(folder / f"{number}.png")
        samples = [
            Sample(image=folder / f"{record['picture']}.png", **{k: v for k, v in record.items() if k != "picture"})
            for record in records
        ]
        out = folder / "out"
        assert export(frozen(folder / "snapshot", samples), format_name, out) == len(samples)
        back = read_back(format_name, out)
        assert {name: told(one) for name, one in back.items()} == {one.id: told(one) for one in samples}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=sample_lists())
@pytest.mark.parametrize("format_name", ["coco", "grefcoco", "refer"])
def test_any_sample_comes_back_as_it_was(format_name: str, records: list[dict[str, Any]]) -> None:
    check_round_trip(format_name, records)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=sample_lists())
def test_any_sample_comes_back_from_a_datasets_folder(records: list[dict[str, Any]]) -> None:
    check_round_trip("datasets", records)


@given(record=drafts, other=text)
def test_what_the_file_shows_wins_over_what_was_carried(record: dict[str, Any], other: str) -> None:
    del record["picture"]
    sample = Sample("id", Path("/a.png"), **record)
    kept = json.loads(json.dumps(carry(sample)))
    assert restore(replace(sample, id="foreign", image_id="", extra={}), kept, ()) == sample
    for changed in ({"phrase": other}, {"split": "val"}, {"category": other}, {"alternatives": (other,)}):
        assert restore(replace(sample, **changed), kept, ()) == replace(sample, **changed)
    moved = (Box(1, 1, 700, 800),)
    assert restore(replace(sample, boxes_xyxy_px=moved), kept, ()).boxes_xyxy_px == moved


@pytest.mark.parametrize(
    "junk",
    [
        *(None, "text", 7, [], {}, {"id": "x"}),
        {**carry(Sample("i", Path("/a"), "p", ())), "boxes_xyxy_px": [[1, 2]]},
        {**carry(Sample("i", Path("/a"), "p", ())), "boxes_xyxy_px": [7]},
        {**carry(Sample("i", Path("/a"), "p", ())), "split": "testA"},
        {**carry(Sample("i", Path("/a"), "p", ())), "alternatives": [1]},
        {**carry(Sample("i", Path("/a"), "p", ())), "id": ""},
    ],
)
def test_what_nobody_carried_is_passed_over(junk: object) -> None:
    seen = Sample("seen", Path("/a.png"), "mug", (Box(1, 2, 3, 4),))
    assert restore(seen, junk, ()) is seen


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    return [
        make_sample("a", 1, extra={"my_key": [1, {"deep": "ü"}]}, alternatives=("one", "two"), category="mug"),
        make_sample("b", 1, boxes_xyxy_px=(), phrase="nothing 🐶", image_id="581857"),
        make_sample("v", 2, split="val", boxes_xyxy_px=(Box(0, 0, 40, 30), Box(1, 1, 2.25, 2)), image_id="7"),
        make_sample("t", 3, split="test", extra={"source_split": "testB"}),
    ]


@pytest.fixture
def snapshot(samples: list[Sample], store: Store, workspace: Workspace) -> SnapshotInfo:
    assert store.import_samples(samples, source="test", who="ann").errors == ()
    return freeze(store, workspace.snapshots, "one", who="ann")


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_goes_into_another_store_with_its_pictures(
    format_name: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    export(snapshot, format_name, out)
    out.rename(tmp_path / "moved")
    there = Workspace(tmp_path / "other")
    other = Store(there.annotations_db, there.pictures)
    scratch.mkdir()
    rows = find_importer(tmp_path / "moved").read(tmp_path / "moved", scratch)
    report = other.import_samples(rows, source="out", who="ann", scratch=scratch)
    assert (report.imported, report.errors, report.clipped) == (4, (), 0)
    for sample in store.iterate():
        again = other.get_sample(sample.id)
        assert told(again) == told(sample)
        assert again.image.name == sample.image.name
    assert not any(path.is_file() for path in scratch.rglob("*"))


@pytest.mark.parametrize("format_name", ["coco", "grefcoco", "refer"])
def test_pictures_are_linked_on_demand(format_name: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path) -> None:
    for link in (False, True):
        out = tmp_path / f"out-{link}"
        export(snapshot, format_name, out, link=link)
        kept = store.get_sample("a").image
        assert (out / "images" / kept.name).samefile(kept) == link


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_says_what_its_numbers_mean(format_name: str, snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, format_name, tmp_path / "out")
    files = [path for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".md")]
    said = [path for path in files if "x, y, width, height in pixels of the original image" in path.read_text()]
    assert said


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_without_a_picture_fails_and_leaves_nothing(
    format_name: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    store.get_sample("v").image.unlink()
    with pytest.raises(SnapshotError, match=r"No such file|no picture"):
        export(snapshot, format_name, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def annotations(out: Path, split: str = "train") -> Iterator[dict[str, Any]]:
    yield from json.loads((out / f"instances_{split}.json").read_text())["annotations"]


def test_coco_holds_a_phrase_as_caption_and_its_boxes_share_a_ref(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "coco", tmp_path / "out")
    (train,) = annotations(tmp_path / "out")
    assert (train["caption"], train["bbox"], train["iscrowd"]) == ("the a thing", [1, 2, 9, 10.5], 0)
    first, second = annotations(tmp_path / "out", "val")
    assert first["ref_id"] == second["ref_id"] and first["id"] != second["id"]
    assert KEY in first and KEY not in second
    document = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    (nothing,) = document[KEY]
    assert nothing["caption"] == "nothing 🐶"
    assert [image["width"] for image in document["images"]] == [40]
    assert {entry["id"]: entry["name"] for entry in document["categories"]}[train["category_id"]] == "mug"


def test_the_pictures_of_coco_keep_their_numbers(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "coco", tmp_path / "out")
    (first, _) = annotations(tmp_path / "out", "val")
    (train,) = annotations(tmp_path / "out")
    (test,) = annotations(tmp_path / "out", "test")
    assert first["image_id"] == 7
    # The picture stands under two samples; the first of them has no number for it.
    assert (train["image_id"], test["image_id"]) == (1, 2)


def test_boxes_are_gathered_whatever_their_order_in_the_file(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "coco", tmp_path / "out")
    path = tmp_path / "out" / "instances_val.json"
    document = json.loads(path.read_text())
    lone = {key: value for key, value in document["annotations"][0].items() if key not in (KEY, "ref_boxes", "ref_id")}
    document["annotations"].insert(1, lone | {"id": 99, "caption": "a lone one"})
    path.write_text(json.dumps(document))
    back = read_back("coco", tmp_path / "out")
    assert back["v"].boxes_xyxy_px == (Box(0, 0, 40, 30), Box(1, 1, 2.25, 2))
    assert back["out/instances_val/99"].phrase == "a lone one"
    document["annotations"].pop()
    path.write_text(json.dumps(document))
    assert read_back("coco", tmp_path / "out")["v"].boxes_xyxy_px == (Box(0, 0, 40, 30),)


def test_a_phrase_and_a_box_changed_in_the_coco_file_are_the_ones_imported(
    snapshot: SnapshotInfo, tmp_path: Path
) -> None:
    export(snapshot, "coco", tmp_path / "out")
    path = tmp_path / "out" / "instances_train.json"
    document = json.loads(path.read_text())
    document["annotations"][0] |= {"caption": "a new phrase", "bbox": [2, 2, 5, 5], "quality": 3}
    path.write_text(json.dumps(document))
    sample = read_back("coco", tmp_path / "out")["a"]
    assert (sample.phrase, sample.boxes_xyxy_px) == ("a new phrase", (Box(2, 2, 7, 7),))
    assert sample.alternatives == ("one", "two")
    assert sample.extra == {"my_key": [1, {"deep": "ü"}], "quality": 3}


def test_refer_gets_the_refs_with_one_box_and_the_others_apart(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "refer", tmp_path / "out")
    refs = pickle.loads((tmp_path / "out" / "refs(unc).p").read_bytes())
    assert [(ref["split"], ref["sentences"][0]["sent"]) for ref in refs] == [
        ("train", "the a thing"),
        ("testB", "the t thing"),
    ]
    assert [sentence["raw"] for sentence in refs[0]["sentences"]] == ["the a thing", "one", "two"]
    instances = json.loads((tmp_path / "out" / "instances.json").read_text())
    boxes_by_id = {annotation["id"]: annotation["bbox"] for annotation in instances["annotations"]}
    assert [boxes_by_id[ref["ann_id"]] for ref in refs] == [[1, 2, 9, 10.5]] * 2
    others = pickle.loads((tmp_path / "out" / "refs(none or several).p").read_bytes())
    assert [len(ref["ann_id"]) for ref in others] == [0, 2]


def test_a_sentence_changed_in_the_refs_is_the_one_imported(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "grefcoco", tmp_path / "out")
    path = tmp_path / "out" / "grefs(unc).json"
    refs = json.loads(path.read_text())
    assert [(ref["ann_id"], ref["no_target"]) for ref in refs] == [
        ([1], False),
        ([-1], True),
        ([2, 3], False),
        ([4], False),
    ]
    refs[0]["sentences"][0] = {"sent": "a new phrase"}
    path.write_text(json.dumps(refs))
    sample = read_back("grefcoco", tmp_path / "out")["a"]
    assert (sample.phrase, sample.alternatives) == ("a new phrase", ("one", "two"))


def test_a_datasets_folder_opens_with_the_columns_of_lmms_lab(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    import datasets

    export(snapshot, "datasets", tmp_path / "out")
    opened = datasets.load_from_disk(tmp_path / "out")
    assert {split: len(rows) for split, rows in opened.items()} == {"train": 2, "val": 1, "test": 1}
    row = opened["train"][0]
    assert row["image"].size == (40, 30)
    assert (row["question"], row["answer"]) == ("the a thing", ["the a thing", "one", "two"])
    assert (row["bbox"], row["question_id"], row["category"]) == ([1, 2, 9, 10.5], "a", "mug")
    assert opened["train"][1]["bbox"] == []
    assert not list((tmp_path / "out").glob(".rows-*"))


def test_a_phrase_changed_in_the_datasets_folder_is_the_one_imported(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    import datasets

    export(snapshot, "datasets", tmp_path / "out")
    opened = datasets.load_from_disk(tmp_path / "out")["train"].select([0])
    path = tmp_path / "train.parquet"
    opened.map(lambda row: {"question": "a new phrase", "bbox": [2.0, 2.0, 5.0, 5.0]}).to_parquet(path)
    (sample,) = find_importer(path).read(path, tmp_path / "scratch")
    assert isinstance(sample, Sample)
    assert (sample.id, sample.phrase, sample.boxes_xyxy_px) == ("a", "a new phrase", (Box(2, 2, 7, 7),))
    assert (sample.alternatives, sample.extra) == (("one", "two"), {"my_key": [1, {"deep": "ü"}]})
