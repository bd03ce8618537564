"""ODVG, Visual Genome and Flickr30k Entities as their own programs write them, and as nobody should."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from annotate.importers import find_importer
from annotate.items import BadRow
from annotate.store import Store
from annotate_samples import MakePicture
from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.records import Sample

Rows = list[Sample | BadRow]


@pytest.fixture
def folder(make_picture: MakePicture) -> Path:
    return make_picture(0).parent


def rows_of(source: Path, expected: str) -> Rows:
    importer = find_importer(source)
    assert importer.name == expected
    return list(importer.read(source, source.parent))


# ODVG

GROUNDING = {
    "filename": "0.png",
    "height": 30,
    "width": 40,
    "grounding": {
        "caption": "a mug and two cups .",
        "regions": [
            {"bbox": [1, 2, 10, 12.5], "phrase": "a mug"},
            {"bbox": [[1, 2, 10, 12], [20, 2, 30, 12]], "phrase": "two cups", "tokens_positive": [[10, 18]]},
        ],
    },
}
DETECTION = {
    "filename": "0.png",
    "height": 30,
    "width": 40,
    "detection": {"instances": [{"bbox": [1, 2, 10, 12.5], "label": 3, "category": "mug"}]},
}


def odvg(folder: Path, *lines: Any, name: str = "train.jsonl") -> Rows:
    (folder / name).write_text("\n".join(json.dumps(line) for line in lines))
    return rows_of(folder / name, "odvg")


def test_odvg_gives_a_sample_a_phrase(folder: Path) -> None:
    mug, cups = odvg(folder, GROUNDING, name="refs_val.jsonl")
    assert (mug.phrase, mug.boxes_xyxy_px, mug.split) == ("a mug", (Box(1, 2, 10, 12.5),), "val")
    assert (cups.phrase, cups.boxes_xyxy_px) == ("two cups", (Box(1, 2, 10, 12), Box(20, 2, 30, 12)))
    assert mug.extra == {"sentence": "a mug and two cups ."} and mug.image == (folder / "0.png").resolve()
    assert cups.extra["tokens_positive"] == [[10, 18]]


def test_odvg_classes_wait_for_their_phrases(folder: Path, store: Store) -> None:
    bare = {key: DETECTION[key] for key in ("filename", "height", "width")} | DETECTION["detection"]
    for line in (DETECTION, bare):
        (sample,) = odvg(folder, line)
        assert (sample.phrase, sample.category, sample.boxes_xyxy_px) == ("", "mug", (Box(1, 2, 10, 12.5),))
        assert sample.extra == {"label": 3}
    assert store.import_samples([sample], source="x", who="ann").imported == 1
    assert store.counts().placeholders == 1


def test_odvg_words_of_a_phrase_may_stand_apart_in_the_caption(folder: Path) -> None:
    # What MM-Grounding-DINO's goldg2odvg.py writes where a phrase covers several places of its caption.
    one = {"bbox": [1, 2, 10, 12.5], "phrase": ["a mug", "red handle"], "tokens_positive": [[0, 5], [14, 24]]}
    line = {**GROUNDING, "grounding": {"caption": "a mug with its red handle", "regions": [one]}}
    (sample,) = odvg(folder, line)
    assert (sample.phrase, sample.alternatives) == ("a mug red handle", ())
    assert sample.extra == {"sentence": "a mug with its red handle", "tokens_positive": [[0, 5], [14, 24]]}


def test_odvg_of_refcoco_has_several_phrases_for_a_box(folder: Path) -> None:
    # What MM-Grounding-DINO's refcoco2odvg.py writes, in a file that ends in .json.
    line = {key: GROUNDING[key] for key in ("filename", "height", "width")}
    line["referring"] = [{"bbox": [1, 2, 10, 12.5], "phrase": ["left mug", "mug"]}, {"bbox": [1, 2, 10, 12.5]}]
    first, second = odvg(folder, line, name="instances_rec.json")
    assert (first.phrase, first.alternatives, first.extra) == ("left mug", ("mug",), {})
    assert (second.phrase, second.alternatives) == ("", ())


def test_odvg_files_may_stand_in_annotations_and_pictures_are_those_of_the_data_set(folder: Path) -> None:
    (folder / "annotations").mkdir()
    (folder / "annotations" / "val.jsonl").write_text(json.dumps(DETECTION))
    (sample,) = rows_of(folder, "odvg")
    assert (sample.split, sample.image.name) == ("val", "0.png")
    below = folder / "another"
    below.mkdir()
    (row,) = odvg(below, DETECTION)
    assert isinstance(row, BadRow)


def region(**changed: Any) -> dict[str, Any]:
    one = {**GROUNDING["grounding"]["regions"][0], **changed}
    return {**GROUNDING, "grounding": {"caption": "", "regions": [one]}}


ODVG_LINES: dict[str, tuple[Any, str]] = {
    "no object": ([], "expected a JSON object"),
    "no file name": ({"grounding": {"regions": []}}, "no file name"),
    "a name that climbs": ({**GROUNDING, "filename": "../../0.png"}, "leads out of the source"),
    "the folder itself": ({**GROUNDING, "filename": "./"}, "leads out of the source"),
    "a whole path": ({**GROUNDING, "filename": "/etc/passwd"}, "leads out of the source"),
    "a missing picture": ({**GROUNDING, "filename": "9.png"}, "there is no picture"),
    "no regions": ({**GROUNDING, "grounding": {"regions": 7}}, 'neither "regions"'),
    "neither": ({"filename": "0.png"}, 'neither "regions"'),
    "a region that is none": ({**GROUNDING, "grounding": {"regions": [7]}}, "expected an object"),
    "no box": (region(bbox=None), "has no 'bbox'"),
    "three numbers": (region(bbox=[1, 2, 3]), "is no box"),
    "turned round": (region(bbox=[10, 2, 1, 12]), "is no box"),
    "words": (region(bbox=["a", 2, 1, 12]), "is no box"),
    "a phrase that is none": (region(phrase=[1]), "no text"),
    "a category that is none": (region(category=7), "no text"),
}


@pytest.mark.parametrize(("line", "message"), ODVG_LINES.values(), ids=ODVG_LINES)
def test_a_bad_odvg_line_costs_itself_only_and_is_named(line: Any, message: str, folder: Path) -> None:
    *good, bad, last = odvg(folder, GROUNDING, line, DETECTION)
    assert [type(row) for row in (*good, last)] == [Sample] * 3
    assert isinstance(bad, BadRow) and bad.where.startswith("train.jsonl, line 2") and message in bad.reason


def test_odvg_lines_that_are_no_json_are_named(folder: Path) -> None:
    good = json.dumps(DETECTION).encode()
    nested = b'{"filename": "0.png", "grounding": ' + b'{"regions":[' * 100_000
    (folder / "train.jsonl").write_bytes(b"\n".join([good, b"{oops", b"", nested, b'{"a": "\xff"}', good]))
    rows = rows_of(folder, "odvg")
    assert [type(row) for row in rows] == [Sample, BadRow, BadRow, BadRow, Sample]
    assert [row.where for row in rows if isinstance(row, BadRow)][1] == "train.jsonl, line 4"


# Visual Genome

REGION = {"region_id": 7, "image_id": 1, "phrase": "a mug", "x": 1, "y": 2, "width": 9, "height": 10}


def genome(folder: Path, *entries: Any, pictures: Any = None) -> Rows:
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    if pictures is not None:
        (folder / "image_data.json").write_text(json.dumps(pictures))
    return rows_of(folder, "visual_genome")


@pytest.fixture
def genome_folder(tmp_path: Path) -> Path:
    for place, number in (("VG_100K", 1), ("VG_100K_2", 2)):
        (tmp_path / "vg" / place).mkdir(parents=True)
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "vg" / place / f"{number}.jpg")
    return tmp_path / "vg"


def test_visual_genome_finds_its_pictures_with_and_without_their_table(genome_folder: Path) -> None:
    entries = [{"id": 1, "regions": [REGION]}, {"id": 2, "regions": [{**REGION, "region_id": 8, "image_id": 2}]}]
    table = [{"image_id": 1, "url": "https://cs.stanford.edu/people/rak248/VG_100K/1.jpg", "width": 40}]
    for pictures in (None, table):
        first, second = genome(genome_folder, *entries, pictures=pictures)
        assert (first.id, second.id) == ("vg/7", "vg/8")
        assert first.image.parent.name == "VG_100K" and second.image.parent.name == "VG_100K_2"
        assert (first.phrase, first.boxes_xyxy_px, first.image_id) == ("a mug", (Box(1, 2, 10, 12),), "1")
        assert (first.split, first.extra) == ("train", {"region_id": 7})
    assert find_importer(genome_folder / "region_descriptions.json").name == "visual_genome"
    (genome_folder / "VG_100K").rename(genome_folder / "images")
    assert [type(row) for row in genome(genome_folder, *entries, pictures=table)] == [Sample] * 2


GENOME_ENTRIES: dict[str, tuple[Any, str]] = {
    "no object": (7, "expected an object"),
    "no id": ({"regions": []}, 'no "id"'),
    "no regions": ({"id": 1, "regions": 7}, "no list"),
    "a missing picture": ({"id": 3, "regions": [REGION]}, "there is no picture"),
    "an id that climbs": ({"id": "../../1", "regions": [REGION]}, "leads out of the source"),
    "an address that climbs": ({"id": 4, "regions": [REGION]}, "leads out of the source"),
    "a region that is none": ({"id": 1, "regions": [7]}, "expected an object"),
    "no phrase": ({"id": 1, "regions": [{**REGION, "phrase": None}]}, "no text"),
    "no height": ({"id": 1, "regions": [{"phrase": "a", "x": 1, "y": 1, "width": 3}]}, "no 'height'"),
    "no width at all": ({"id": 1, "regions": [{**REGION, "width": 0}]}, "is no box"),
    "words": ({"id": 1, "regions": [{**REGION, "width": "wide"}]}, "is no box"),
}


@pytest.mark.parametrize(("entry", "message"), GENOME_ENTRIES.values(), ids=GENOME_ENTRIES)
def test_a_bad_region_costs_itself_only_and_is_named(entry: Any, message: str, genome_folder: Path) -> None:
    good = {"id": 1, "regions": [REGION]}
    pictures = [7, {"image_id": 4, "url": "http://x/../.."}, {"image_id": 5, "url": "http://[bad"}]
    first, bad, last = genome(genome_folder, good, entry, good, pictures=pictures)
    assert isinstance(first, Sample) and isinstance(last, Sample)
    assert isinstance(bad, BadRow) and "picture 2" in bad.where and message in bad.reason


# Flickr30k Entities

XML = """<annotation><filename>1.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>1</name><name>5</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>12</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>20</xmin><ymin>2</ymin><xmax>30</xmax><ymax>12</ymax></bndbox></object>
<object><name>2</name><scene>0</scene><nobndbox>1</nobndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object></annotation>"""
SENTENCES = """[/EN#1/people Two men] with [/EN#2/bodyparts shaggy hair] in [/EN#3/scene a park] .
[/EN#1/people Two men] and [/EN#5/people/animals one of them] like [/EN#0/notvisual it] .
"""


@pytest.fixture
def flickr(tmp_path: Path) -> Callable[..., Rows]:
    folder = tmp_path / "flickr"
    for name in ("Annotations", "Sentences", "flickr30k-images"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "flickr30k-images" / "1.jpg")

    def rows(xml: str = XML, sentences: str = SENTENCES, **lists: str) -> Rows:
        (folder / "Annotations" / "1.xml").write_text(xml)
        (folder / "Sentences" / "1.txt").write_text(sentences)
        for split, text in lists.items():
            (folder / f"{split}.txt").write_text(text)
        return rows_of(folder, "flickr30k")

    return rows


def test_flickr30k_gives_each_phrase_all_boxes_of_its_chain(flickr: Callable[..., Rows]) -> None:
    men, hair, park, one, it = flickr(val="1\n", train="2\n3\n")
    assert (men.phrase, men.boxes_xyxy_px) == ("Two men", (Box(1, 2, 10, 12), Box(20, 2, 30, 12)))
    assert (men.category, men.split, men.image_id, men.image.name) == ("people", "val", "1", "1.jpg")
    assert men.extra == {
        "chain": "1",
        "sentences": ["Two men with shaggy hair in a park .", "Two men and one of them like it ."],
    }
    assert (one.phrase, one.boxes_xyxy_px, one.category) == ("one of them", (Box(1, 2, 10, 12),), "people/animals")
    assert [str(row) for row in (hair, park, it)] == [
        "1, 'shaggy hair': chain 2 has no box: it is not boxed.",
        "1, 'a park': chain 3 has no box: it is the whole scene.",
        "1, 'it': chain 0 has no box: it names nothing in the picture.",
    ]


def test_a_picture_in_two_lists_is_kept_out_of_train(flickr: Callable[..., Rows]) -> None:
    assert flickr()[0].split == "train"
    assert flickr(train="1\n", test="1.jpg\n")[0].split == "test"


BOMB = '<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;">]>'
FLICKR_FILES: dict[str, tuple[str, str]] = {
    "entities": (BOMB + XML, "DOCTYPE"),
    "a file of this machine": ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + XML, "DOCTYPE"),
    "no XML": ("oops", "can't be read"),
    "cut short": (XML[:-20], "can't be read"),
    "an unknown encoding": ('<?xml version="1.0" encoding="nope"?>' + XML, "can't be read"),
    "a name that climbs": (XML.replace("1.jpg", "../../1.jpg"), "leads out of the source"),
    "a missing picture": (XML.replace("1.jpg", "2.jpg"), "there is no picture"),
    "words": (XML.replace("<xmin>1<", "<xmin>one<"), "in place of a number"),
    "no corner": (XML.replace("<xmin>1</xmin>", ""), "in place of a number"),
}


@pytest.mark.parametrize(("xml", "message"), FLICKR_FILES.values(), ids=FLICKR_FILES)
def test_bad_annotations_cost_their_picture_only(xml: str, message: str, flickr: Callable[..., Rows]) -> None:
    (bad,) = flickr(xml)
    assert isinstance(bad, BadRow) and bad.where == "1" and message in bad.reason


def test_a_box_turned_round_costs_its_phrase_only(flickr: Callable[..., Rows]) -> None:
    rows = flickr(XML.replace("<xmax>30<", "<xmax>3<"))
    assert [type(row) for row in rows] == [BadRow, BadRow, BadRow, Sample, BadRow]


def test_annotations_nested_without_end_do_not_crash(flickr: Callable[..., Rows]) -> None:
    assert isinstance(flickr("<a>" * 300_000 + "</a>" * 300_000)[0], BadRow)


@pytest.mark.parametrize(
    "text", ["[/EN#1/people x" * 600_000, "[" * 10_000_000, "[/EN#1" + "/a" * 5_000_000, "[/EN#1/a " + "x" * 10_000_000]
)
def test_ten_megabytes_of_sentences_do_not_hang(text: str, flickr: Callable[..., Rows]) -> None:
    start = time.thread_time()
    assert flickr(sentences=text) == []
    assert len(flickr(sentences=text + "]")) <= 1
    assert time.thread_time() - start < 10


def test_other_folders_are_left_to_others(tmp_path: Path) -> None:
    for name in ("odvg", "visual_genome", "flickr30k"):
        importer = find_importer(tmp_path, name)
        for place in (tmp_path, tmp_path / "nowhere", tmp_path / "nothing.json"):
            assert not importer.recognises(place)
        with pytest.raises(RecordError):
            list(importer.read(tmp_path, tmp_path))
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_text(XML)
    assert not find_importer(tmp_path, "flickr30k").recognises(tmp_path)
