"""What a snapshot holds comes back exactly from ODVG, Visual Genome, Flickr30k and conversations; a change made in
the file comes back changed; a zip file is the same as the folder."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from test_formats_round_trip import check_round_trip, frozen, read_back, sample_lists, told

from annotate.__main__ import main
from annotate.carried import KEY
from annotate.exporters import export
from annotate.importers import find_importer
from annotate.importers.picture_folders import PictureFolders, annotated_size_wh
from annotate.items import BadRow
from annotate.snapshot import SnapshotInfo, freeze
from annotate.store import Store
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.errors import RecordError, SnapshotError
from grounding.records import Sample, read_samples
from grounding.workspace import Workspace

FORMATS = ("odvg", "visual_genome", "flickr30k", "conversations")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=sample_lists())
@pytest.mark.parametrize("format_name", FORMATS)
def test_any_sample_comes_back_as_it_was(format_name: str, records: list[dict[str, Any]]) -> None:
    check_round_trip(format_name, records)


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    return [
        make_sample("a", 1, extra={"my_key": [1, {"deep": "ü"}]}, alternatives=("one", "two"), category="mug"),
        make_sample("b", 1, boxes_xyxy_px=(), phrase='no "dog" <|im_end|> [x] ``` <box> 🐶', image_id="581857"),
        make_sample("v", 2, split="val", boxes_xyxy_px=(Box(0, 0, 40, 30), Box(1, 1, 2.25, 2)), image_id="7"),
        make_sample("t", 3, split="test", extra={"id_of_somebody": "x"}),
    ]


@pytest.fixture
def snapshot(samples: list[Sample], store: Store, workspace: Workspace) -> SnapshotInfo:
    assert store.import_samples(samples, source="test", who="ann").errors == ()
    return freeze(store, workspace.snapshots, "one", who="ann")


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize("format_name", [*FORMATS, "jsonl", "coco"])
def test_an_export_goes_into_another_store_with_its_pictures(
    format_name: str, ending: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    out, scratch = tmp_path / f"out{ending}", tmp_path / "scratch"
    assert export(snapshot, format_name, out) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == [out.name]
    moved = out.rename(tmp_path / f"moved{ending}")
    there = Workspace(tmp_path / "other")
    other = Store(there.annotations_db, there.pictures)
    scratch.mkdir()
    rows = find_importer(moved).read(moved, scratch)
    report = other.import_samples(rows, source="out", who="ann", scratch=scratch)
    assert (report.imported, report.errors, report.clipped) == (4, (), 0)
    for sample in store.iterate():
        again = other.get_sample(sample.id)
        assert told(again) == told(sample)
        assert again.image.name == sample.image.name
    assert not list(scratch.rglob("*.png"))


@pytest.mark.parametrize("format_name", FORMATS)
def test_pictures_are_linked_on_demand_but_never_from_a_zip(
    format_name: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    kept = store.get_sample("a").image
    for link in (False, True):
        out = tmp_path / f"out-{link}"
        export(snapshot, format_name, out, link=link)
        assert (out / "images" / kept.name).samefile(kept) == link


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_says_what_its_numbers_mean(format_name: str, snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, format_name, tmp_path / "out")
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*.json*")]
    assert any('"coordinates": ' in text for text in texts)


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize("format_name", [*FORMATS, "jsonl", "coco", "refer", "grefcoco"])
def test_an_export_without_a_picture_fails_and_leaves_nothing(
    format_name: str, ending: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    store.get_sample("v").image.unlink()
    with pytest.raises(SnapshotError, match=r"There is no picture at .*\.png") as told:
        export(snapshot, format_name, tmp_path / f"out{ending}")
    assert "--out" not in str(told.value)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_zip_that_stands_is_not_overwritten(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    out.write_text("mine")
    with pytest.raises(SnapshotError, match="there already"):
        export(snapshot, "jsonl", out)
    assert out.read_text() == "mine"


def test_the_command_writes_a_zip_and_reads_it(
    snapshot: SnapshotInfo, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.zip"
    here = ["--workspace", str(workspace.root)]
    assert main(["export", "one", "--format", "conversations", "--out", str(out), *here]) == 0
    with zipfile.ZipFile(out) as packed:
        assert {"train.json", "val.json", "test.json"} < set(packed.namelist())
    capsys.readouterr()
    there = tmp_path / "there"
    assert main(["import", str(out), "--dry-run", "--json", "--workspace", str(there)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["imported"], report["format"], report["errors"]) == (4, "zip", [])
    assert not there.exists()


def test_conversations_are_what_qwen3_vl_is_asked_and_answers(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "conversations", tmp_path / "out")
    (record,) = json.loads((tmp_path / "out" / "val.json").read_text())
    question, answer = (message["value"] for message in record["conversations"])
    assert question == (
        '<image>\nLocate every object that matches the description "the v thing" in the image. '
        "Report bbox coordinates in JSON format."
    )
    assert answer == (
        '```json\n[\n\t{"bbox_2d": [0, 0, 1000, 1000], "label": "the v thing"},\n'
        '\t{"bbox_2d": [25, 33, 56, 67], "label": "the v thing"}\n]\n```'
    )
    assert record["coordinates"] == "xyxy_1000"
    second = json.loads((tmp_path / "out" / "train.json").read_text())[1]
    assert second["conversations"][0]["value"].count("<image>") == 1
    assert "<|" not in json.dumps(second["conversations"])
    assert second["conversations"][1]["value"] == "```json\n[]\n```"


def test_a_phrase_that_looks_like_markup_stays_words(make_sample: MakeSample, tmp_path: Path) -> None:
    phrases = [
        "<image>",
        "<image>\n<image>",
        "<|box_start|>(1,2),(3,4)<|box_end|>",
        "<box>[[1,2,3,4]]</box>",
        "[1,2,3,4]",
    ]
    samples = [make_sample(str(number), phrase=phrase) for number, phrase in enumerate(phrases)]
    samples += [make_sample(f"none-{one.id}", phrase=one.phrase, boxes_xyxy_px=()) for one in samples]
    for format_name in FORMATS:
        out = tmp_path / format_name
        export(frozen(tmp_path / "snapshot", samples), format_name, out)
        assert {name: told(one) for name, one in read_back(format_name, out).items()} == {
            one.id: told(one) for one in samples
        }
    records = json.loads((tmp_path / "conversations" / "train.json").read_text())
    assert {record["conversations"][0]["value"].count("<image>") for record in records} == {1}


def test_conversations_changed_in_the_file_come_back_changed(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "conversations", tmp_path / "out")
    path = tmp_path / "out" / "train.json"
    text = path.read_text()
    path.write_text(text.replace('description \\"the a thing', 'description \\"a new phrase'))
    assert read_back("conversations", tmp_path / "out")["a"].phrase == "a new phrase"
    path.write_text(text.replace("[25, 67, 250, 417]", "[100, 100, 500, 500]", 1))
    sample = read_back("conversations", tmp_path / "out")["a"]
    assert (sample.phrase, sample.boxes_xyxy_px) == ("the a thing", (Box(4, 3, 20, 15),))
    assert (sample.alternatives, sample.category) == (("one", "two"), "mug")


def test_odvg_gives_trainers_boxes_only_and_the_place_of_each_phrase(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "odvg", tmp_path / "out")
    line = json.loads((tmp_path / "out" / "train.jsonl").read_text())
    (region,) = line["grounding"]["regions"]
    assert (line["width"], line["height"], region["bbox"]) == (40, 30, [1, 2, 10, 12.5])
    (start, end) = region["tokens_positive"][0]
    assert line["grounding"]["caption"][start:end] == region["phrase"] == "the a thing"
    assert [entry["phrase"][:8] for entry in line[KEY]["without_box"]] == ['no "dog"']
    several = json.loads((tmp_path / "out" / "val.jsonl").read_text())["grounding"]["regions"][0]
    assert several["bbox"] == [[0, 0, 40, 30], [1, 1, 2.25, 2]]


def test_odvg_changed_in_the_file_comes_back_changed(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "odvg", tmp_path / "out")
    path = tmp_path / "out" / "train.jsonl"
    line = json.loads(path.read_text())
    line["grounding"]["regions"][0] |= {"phrase": "a new phrase", "bbox": [2, 2, 5, 5], "quality": 3}
    path.write_text(json.dumps(line))
    path.rename(path.with_name("val2.jsonl"))
    sample = read_back("odvg", tmp_path / "out")["a"]
    assert (sample.phrase, sample.boxes_xyxy_px, sample.split) == ("a new phrase", (Box(2, 2, 5, 5),), "val")
    assert sample.extra == {"my_key": [1, {"deep": "ü"}], "quality": 3}


def test_visual_genome_has_a_region_a_box_and_a_change_wins(snapshot: SnapshotInfo, tmp_path: Path) -> None:
    export(snapshot, "visual_genome", tmp_path / "out")
    path = tmp_path / "out" / "region_descriptions.json"
    entries = json.loads(path.read_text())
    assert [[region["phrase"] for region in entry["regions"]] for entry in entries] == [
        ["the a thing"],
        ["the v thing"] * 2,
        ["the t thing"],
    ]
    assert [entry["id"] for entry in entries] == [
        picture["image_id"] for picture in json.loads((tmp_path / "out" / "image_data.json").read_text())
    ]
    entries[0]["regions"][0]["phrase"] = "a new phrase"
    entries[1]["regions"][1] |= {"width": 9}
    path.write_text(json.dumps(entries))
    back = read_back("visual_genome", tmp_path / "out")
    assert back["a"].phrase == "a new phrase" and back["a"].category == "mug"
    assert back["v"].boxes_xyxy_px == (Box(0, 0, 40, 30), Box(1, 1, 10, 2)) and back["v"].split == "val"
    entries[1]["regions"][1]["phrase"] = "another one"
    path.write_text(json.dumps(entries))
    back = read_back("visual_genome", tmp_path / "out")
    assert back["v"].boxes_xyxy_px == (Box(0, 0, 40, 30),)
    assert back["out/3"].phrase == "another one"


def test_flickr30k_has_whole_pixels_and_a_change_wins(snapshot: SnapshotInfo, store: Store, tmp_path: Path) -> None:
    export(snapshot, "flickr30k", tmp_path / "out")
    stem = store.get_sample("a").image.stem
    sentences = tmp_path / "out" / "Sentences" / f"{stem}.txt"
    assert sentences.read_text().splitlines()[0] == "[/EN#1/mug the a thing]"
    assert '[/EN#2/other no "dog"' in sentences.read_text() and "(x)" in sentences.read_text()
    xml = tmp_path / "out" / "Annotations" / f"{stem}.xml"
    assert "<xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>12</ymax>" in xml.read_text()
    assert (tmp_path / "out" / "train.txt").read_text() == f"{stem}\n"
    sentences.write_text(sentences.read_text().replace("the a thing", "a new phrase"))
    xml.write_text(xml.read_text().replace("<xmax>10<", "<xmax>20<"))
    sample = read_back("flickr30k", tmp_path / "out")["a"]
    assert (sample.phrase, sample.boxes_xyxy_px) == ("a new phrase", (Box(1, 2, 20, 12),))
    assert (sample.category, sample.alternatives) == ("mug", ("one", "two"))


def test_a_key_nested_too_deeply_is_a_sentence(
    snapshot: SnapshotInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise RecursionError

    monkeypatch.setattr("annotate.exporters.odvg.Exporter.write", fail)
    with pytest.raises(SnapshotError, match="nested too deeply"):
        export(snapshot, "odvg", tmp_path / "out")


@pytest.mark.parametrize("format_name", [*FORMATS, "jsonl", "coco", "refer", "grefcoco"])
def test_a_folder_of_links_is_read_by_the_names_of_the_links(
    format_name: str, snapshot: SnapshotInfo, tmp_path: Path
) -> None:
    """As the cache of the Hub has it: every file a link to one that is named by its content, all in one folder."""
    plain = tmp_path / "plain" / "set"
    plain.parent.mkdir()
    export(snapshot, format_name, plain)
    linked, blobs = tmp_path / "linked" / "set", tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(path for path in plain.rglob("*") if path.is_file())):
        file_linked = linked / file.relative_to(plain)
        file_linked.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / str(number)
        file_linked.symlink_to(os.path.relpath(blob, file_linked.parent))
        file.rename(blob)
    back = read_back(format_name, linked)
    assert {name: told(one) for name, one in back.items()} == {
        one.id: told(one) for one in read_samples(snapshot.samples_path)
    }


@pytest.mark.parametrize("format_name", ["coco", "refer", "grefcoco", "odvg", "visual_genome", "flickr30k"])
def test_a_picture_of_another_size_than_was_annotated_is_refused(
    format_name: str, snapshot: SnapshotInfo, store: Store, tmp_path: Path
) -> None:
    """A data set beside its pictures in another size: boxes that fit would pass for right."""
    out, there = tmp_path / "out", Workspace(tmp_path / "other")
    count = export(snapshot, format_name, out)
    larger, turned, *_ = sorted({path.resolve() for path in out.rglob("*.png")})
    for path in (larger, turned):
        with Image.open(path) as picture:
            twice = picture.resize((picture.width * 2, picture.height * 2))
            changed = twice if path is larger else picture.transpose(Image.Transpose.ROTATE_90)
        path.unlink()
        changed.save(path)
    found = list(find_importer(out).read(out, tmp_path))
    refused = [str(row) for row in found if isinstance(row, BadRow)]
    assert any(
        re.search(rf"names (\d+) x (\d+) pixels for {larger.name}, and it has .*: its boxes", r) for r in refused
    )
    assert any(re.search(rf"for {turned.name}, and it has .*, its sides exchanged as by an EXIF", r) for r in refused)
    taken = [row for row in found if isinstance(row, Sample)]
    assert taken and not {sample.image.resolve() for sample in taken} & {larger, turned}
    assert len(taken) < count
    report = Store(there.annotations_db, there.pictures).import_samples(found, source="out", who="ann")
    assert report.imported == len(taken)


def test_sizes_that_are_no_sizes_are_not_held_against_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    folders = PictureFolders([tmp_path])
    for entry in ({}, {"width": 0, "height": 0}, {"width": None, "height": 9}, {"width": "wide", "height": "9"}):
        assert folders.find("a.png", annotated_size_wh(entry)) == tmp_path / "a.png"
    for entry in ({"width": 41.4, "height": 28}, {"width": "40", "height": "30"}):
        assert folders.find("a.png", annotated_size_wh(entry)) == tmp_path / "a.png", "as far as rounding goes"
    with pytest.raises(RecordError, match=r"names 400 x 300 pixels for a.png, and it has 40 x 30: its boxes"):
        folders.find("a.png", annotated_size_wh({"width": "400", "height": 300.0}))
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert folders.find("b.png", (9, 9)) == tmp_path / "b.png", "whoever opens it says so"
