"""COCO instances: one sample a box, waiting for its phrase."""

from __future__ import annotations

import json
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from speed import takes_less

from annotate.importers import find_importer
from annotate.importers.json_stream import members
from annotate.items import BadRow
from annotate.store import Store
from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.records import Sample

COCO_CC = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_cc"
IMAGES = [{"id": 5, "file_name": "a.png", "width": 40, "height": 30, "license": 4}, {"id": 6, "file_name": "b.png"}]
BOX = {"id": 70, "image_id": 5, "category_id": 3, "bbox": [1, 2, 5.5, 6], "iscrowd": 1, "segmentation": [[1, 2, 3, 4]]}
CATEGORIES = [{"id": 3, "name": "cup"}]


def coco_folder(folder: Path, annotations: list[Any], name: str = "instances.json", **tables: Any) -> Path:
    """A COCO file with two pictures beside it; annotations come before the tables, as some tools write them."""
    document = {"info": {}, "annotations": annotations, "images": IMAGES, "categories": CATEGORIES, **tables}
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    (folder / "images").mkdir(exist_ok=True)
    for number, file_name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "images" / file_name)
    return folder


def read(source: Path) -> tuple[list[Sample], list[BadRow]]:
    importer = find_importer(source)
    assert importer.name == "coco"
    rows = list(importer.read(source, source / "scratch"))
    return [r for r in rows if isinstance(r, Sample)], [r for r in rows if isinstance(r, BadRow)]


def test_a_box_is_a_sample_that_waits_for_its_phrase(tmp_path: Path, store: Store) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX, BOX | {"id": 71, "image_id": 6}])
    (folder / "captions.json").write_text(json.dumps({"5": ["a table", "cups on it"]}))
    (first, second), errors = read(folder)
    assert errors == []
    assert (first.id, first.phrase, first.boxes_xyxy_px) == ("mugs/70", "", (Box(1, 2, 6.5, 8),))
    assert (first.category, first.image_id, first.split, first.image) == (
        "cup",
        "5",
        "train",
        folder / "images" / "a.png",
    )
    assert first.extra == {
        "ann_id": 70,
        "category_id": 3,
        "file_name": "a.png",
        "iscrowd": 1,
        "segmentation": [[1, 2, 3, 4]],
        "picture": {"license": 4},
        "captions": ["a table", "cups on it"],
    }
    assert "captions" not in second.extra
    report = store.import_samples([first, second], source="mugs", who="ann")
    assert (report.imported, report.errors, store.counts().placeholders) == (2, (), 2)


@pytest.mark.parametrize(
    ("place", "split", "sample_id"),
    [
        ("instances.json", "train", "mugs/70"),
        ("annotations/instances_val2017.json", "val", "mugs/instances_val2017/70"),
        ("instances_test.json", "test", "mugs/instances_test/70"),
        ("valid/_annotations.coco.json", "val", "valid/_annotations.coco/70"),
    ],
)
def test_the_split_is_in_the_names(place: str, split: str, sample_id: str, tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX], place)
    if place.startswith("valid"):  # where each split has its own folder, pictures included
        (folder / "images" / "a.png").rename(folder / "valid" / "a.png")
    (sample,), errors = read(folder)
    assert (sample.id, sample.split, errors) == (sample_id, split, [])
    (sample,), errors = read(tmp_path / "mugs" / place)
    assert (sample.id, sample.split, errors) == (sample_id, split, [])


def test_captions_in_the_form_of_coco_are_kept_and_broken_ones_named(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX], "annotations/instances_val2017.json")
    captions = folder / "annotations" / "captions_val2017.json"
    tables = {"info": {}, "images": IMAGES, "annotations": [{"image_id": 5, "id": 1, "caption": "a table"}]}
    captions.write_text(json.dumps(tables))
    (sample,), errors = read(folder)
    assert (sample.extra["captions"], errors) == (["a table"], [])
    captions.write_text("{oops")
    (sample,), (error,) = read(folder)
    assert "captions" not in sample.extra and error.where == "captions of instances_val2017.json"


def test_a_caption_of_the_box_is_its_phrase(tmp_path: Path) -> None:
    (sample,), _ = read(coco_folder(tmp_path / "mugs", [BOX | {"caption": "the left cup"}]))
    assert sample.phrase == "the left cup" and "caption" not in sample.extra


BAD = {
    "no object": (7, "expected an object"),
    "no id": ({k: v for k, v in BOX.items() if k != "id"}, "no 'id'"),
    "no box": ({k: v for k, v in BOX.items() if k != "bbox"}, "no 'bbox'"),
    "a flat box": (BOX | {"bbox": [1, 2, 0, 4]}, "is no box"),
    "three numbers": (BOX | {"bbox": [1, 2, 3]}, "expected four numbers x, y, width, height"),
    "a text": (BOX | {"bbox": "1234"}, "expected four numbers"),
    "words": (BOX | {"bbox": ["a", 2, 3, 4]}, "expected four numbers"),
    "no finite number": (BOX | {"bbox": [float("nan"), 2, 3, 4]}, "finite"),
    "beyond floats": (BOX | {"bbox": [10**400, 2, 3, 4]}, "expected four numbers"),
    "unknown picture": (BOX | {"image_id": 99}, "image_id 99 is not among"),
    "a list as picture": (BOX | {"image_id": [5]}, "is not among"),
    "missing picture": (BOX | {"image_id": 8}, "no picture 'c.png'"),
    "climbing": (BOX | {"image_id": 9}, "leads out of the source"),
    "absolute": (BOX | {"image_id": 10}, "leads out of the source"),
    "of Windows": (BOX | {"image_id": 11}, "leads out of the source"),
    "no name": (BOX | {"image_id": 12}, "is no file name"),
    "a zero byte": (BOX | {"image_id": 13}, "is no file name"),
    "far too long": (BOX | {"image_id": 14}, "is no file name"),
    "caption a number": (BOX | {"caption": 4}, "is no text"),
}
NAMES = ["c.png", "../../x.jpg", "/etc/passwd", "C:\\x.png", None, "a\x00.png", "x" * 5000]


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD)
def test_a_bad_annotation_costs_itself_only_and_is_named(bad: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    images = [*IMAGES, *({"id": number, "file_name": name} for number, name in enumerate(NAMES, start=8))]
    folder = coco_folder(tmp_path / "deep" / "mugs", [BOX, bad, BOX | {"id": 72}], images=images)
    samples, (error,) = read(folder)
    assert [sample.extra["ann_id"] for sample in samples] == [70, 72]
    assert error.where == "instances.json, annotation 2" and message in error.reason
    assert len(error.reason) < 500


def test_a_picture_is_never_taken_from_beside_the_data_set(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX, BOX | {"id": 71, "image_id": 6}])
    (folder / "images" / "a.png").rename(tmp_path / "a.png")
    images = [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "train2017/b.png"}]
    coco = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").write_text(json.dumps(coco | {"images": images}))
    (sample,), (error,) = read(folder)
    assert sample.image == folder / "images" / "b.png" and "no picture 'a.png'" in error.reason


def test_a_name_of_windows_below_the_folder_is_found(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX], images=[{"id": 5, "file_name": "images\\a.png"}])
    (sample,), _ = read(folder)
    assert sample.image == folder / "images" / "a.png"


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_decompression_bomb_is_refused_and_a_huge_phrase_does_not_hang(tmp_path: Path, store: Store) -> None:
    phrase = "mug " * 2_500_000
    folder = coco_folder(tmp_path / "mugs", [BOX | {"caption": phrase}, BOX | {"id": 71, "image_id": 6}])
    (folder / "images" / "b.png").write_bytes(bomb())
    began = time.thread_time()
    report = store.import_samples(find_importer(folder).read(folder, folder), source="mugs", who="ann")
    assert time.thread_time() - began < 5
    (error,) = report.errors
    assert report.imported == 1 and "mugs/71" in error and "megapixels" in error


OTHERS = {
    "a list": "[1, 2]",
    "conversations": json.dumps([{"image": "a.png", "conversations": []}]),
    "captions of flickr": json.dumps({"images": [{"filename": "a.jpg", "sentences": []}], "dataset": "flickr30k"}),
    "settings": json.dumps({"name": "x", "images": [], "bbox": []}),
    "regions": json.dumps([{"id": 1, "regions": [{"phrase": "a", "x": 1}]}]),
    "nothing": "",
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_other_json_is_left_to_other_formats(content: str, tmp_path: Path) -> None:
    from annotate.importers import importers

    (tmp_path / "some.json").write_text(content)
    for source in (tmp_path, tmp_path / "some.json", tmp_path / "none"):
        for name in ("coco", "refer", "grefcoco", "refcoco"):
            assert not importers()[name].recognises(source)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "mugs", [BOX])
    path = folder / "instances.json"
    content = path.read_text()
    for broken in (content[:-5], content + "x", content.replace("[", "[" * 100_000, 1), content.replace("}", "},", 1)):
        path.write_text(broken)
        with pytest.raises(RecordError, match=r"instances\.json is (no JSON file|nested too deeply)"):
            read(folder)
    with pytest.raises(RecordError, match=r"holds no COCO file"):
        list(find_importer(tmp_path, "coco").read(tmp_path / "mugs" / "images", tmp_path))


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_longer_than_what_is_held_reads_as_a_whole(indent: int | None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("annotate.importers.json_stream._CHUNK_CHARACTERS", 7)
    document = {
        "a": [1, 22, 333, {"deep": [[], {}]}, 'ü€🐶\\"]}'],
        "b": -1.5e300,
        "empty": [],
        "none": {},
        "c": [[], [[]]],
        "": "x",
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=False), encoding="utf-8-sig")
    expected = [(k, v) for k, value in document.items() for v in (value if isinstance(value, list) else [value])]
    assert list(members(path)) == expected
    path.write_text(json.dumps([1, 22, "x", document], indent=indent))
    assert list(members(path)) == [("", 1), ("", 22), ("", "x"), ("", document)]
    for empty in ("{}", "[]", " { } "):
        path.write_text(empty)
        assert list(members(path)) == []
    for bad in ("", "x", "7", "{", "[1", "[1,]", '{"a" 1}', '{"a": 1,}', "{1: 2}", '{"a": 1} 2', "[1 2]", "\xff"):
        path.write_bytes(bad.encode("latin-1"))
        with pytest.raises(RecordError):
            list(members(path))


def test_boxes_are_read_fast_and_memory_does_not_grow_with_them(tmp_path: Path) -> None:
    import tracemalloc

    draw = random.Random(1)
    outline = [draw.uniform(0, 40) for _ in range(60)]
    annotations = [BOX | {"id": number, "segmentation": [outline]} for number in range(20_000)]
    folder = coco_folder(tmp_path / "mugs", annotations)
    size = (folder / "instances.json").stat().st_size
    importer = find_importer(folder)
    assert sum(isinstance(row, Sample) for row in importer.read(folder, folder)) == 20_000
    assert takes_less(5, lambda: list(importer.read(folder, folder)))
    tracemalloc.start()
    try:
        for number, _ in enumerate(importer.read(folder, folder)):
            if number == 2000:
                break
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not COCO_CC.is_dir(), reason="shared/data/coco_cc is not here")
def test_real_photographs_come_ready_to_be_described(store: Store) -> None:
    report = store.import_samples(find_importer(COCO_CC).read(COCO_CC, COCO_CC), source="coco_cc", who="ann")
    assert (report.imported, report.errors) == (957, ())
    assert store.counts().placeholders == 957
    sample = store.get_sample("coco_cc/246920")
    assert (sample.category, sample.image_id) == ("motorcycle", "73")
    assert sample.boxes_xyxy_px == (Box(13, 22.75, 548.98, 632.42),)
