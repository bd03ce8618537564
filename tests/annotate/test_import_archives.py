"""Folders of pictures and zip files: whatever is inside, nothing is written outside and nothing unpacks without end."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from annotate.importers import find_importer, importers, unzip
from annotate.items import BadRow
from annotate.store import Store
from annotate_samples import MakePicture
from grounding.errors import RecordError, StoreError
from grounding.records import Sample

Rows = list[Sample | BadRow]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def zipped(path: Path, members: dict[str, bytes | str | Path]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
    return path


def read_zip(path: Path, scratch: Path) -> Rows:
    importer = find_importer(path)
    assert importer.name == "zip"
    return list(importer.read(path, scratch))


LINE = {"id": "a", "image": "images/0.png", "phrase": "mug", "boxes_xyxy_px": [[1, 2, 3, 4]]}
JSONL = json.dumps(LINE)


# Folders of pictures


def test_every_picture_waits_for_a_phrase(make_picture: MakePicture, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for place, number in (("train/a", 1), ("val", 2), ("", 3)):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(make_picture(number), folder / place / "same.PNG")
    (folder / "notes.md").write_text("not a picture")
    (folder / ".hidden.png").write_text("nor this")
    (folder / "broken.jpg").write_text("nor this, but it says so")
    importer = find_importer(folder)
    assert importer.name == "pictures"
    report = store.import_samples(importer.read(folder, tmp_path), source="photos", who="ann")
    assert report.imported == 3
    (error,) = report.errors
    assert error.startswith("broken-") and "not a picture that can be read" in error
    samples = list(store.iterate())
    assert [(sample.image_id, sample.split) for sample in samples] == [
        ("same.PNG", "train"),
        ("train/a/same.PNG", "train"),
        ("val/same.PNG", "val"),
    ]
    assert {(sample.phrase, sample.boxes_xyxy_px) for sample in samples} == {("", ())}
    assert store.counts().placeholders == 3
    again = store.import_samples(importer.read(folder, tmp_path), source="photos", who="ann")
    assert (again.imported, again.already_there) == (0, 3)


def test_a_decompression_bomb_among_pictures_is_refused(make_picture: MakePicture, store: Store) -> None:
    folder = make_picture(1).parent
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xaeB`\x82"
    )
    report = store.import_samples(find_importer(folder).read(folder, folder), source="x", who="ann")
    assert report.imported == 1 and "megapixels" in report.errors[0]


def test_a_data_set_that_is_not_known_is_not_taken_for_pictures(make_picture: MakePicture, tmp_path: Path) -> None:
    folder = make_picture(1).parent
    (folder / "labels.json").write_text("{}")
    with pytest.raises(StoreError, match="no data set that can be recognised"):
        find_importer(folder)
    assert len(list(find_importer(folder, "pictures").read(folder, tmp_path))) == 1
    with pytest.raises(RecordError, match="is no folder"):
        list(find_importer(folder, "pictures").read(folder / "1.png", tmp_path))


def test_a_name_that_cannot_be_printed_is_no_obstacle(make_picture: MakePicture, store: Store, tmp_path: Path) -> None:
    folder = make_picture(1).parent
    (folder / "1.png").rename(folder / "line\nbreak \udcff.png")
    report = store.import_samples(find_importer(folder).read(folder, tmp_path), source="x", who="ann")
    assert (report.imported, report.errors) == (1, ())
    assert next(store.iterate()).image_id == "line_break _.png"


# Zip files


@pytest.mark.parametrize("below", ["", "dataset/", "a/b/", "__MACOSX/._x"])
def test_a_zip_is_read_as_what_is_inside(below: str, make_picture: MakePicture, scratch: Path, store: Store) -> None:
    members: dict[str, bytes | str | Path] = {"train.jsonl": JSONL, "images/0.png": make_picture(0)}
    if below.startswith("__MACOSX"):
        members = {f"set/{name}": content for name, content in members.items()} | {below: b"junk"}
    else:
        members = {below + name: content for name, content in members.items()}
    path = zipped(scratch.parent / "Set.ZIP", members)
    importer = find_importer(path)
    report = store.import_samples(importer.read(path, scratch), source="x", who="ann", scratch=scratch)
    assert (report.imported, report.errors) == (1, ())
    assert store.get_sample("a").phrase == "mug"
    assert not list(scratch.rglob("*.png"))


def test_a_zip_of_several_folders_gives_all_of_them(make_picture: MakePicture, scratch: Path) -> None:
    members: dict[str, bytes | str | Path] = {"images/0.png": make_picture(0)}
    for split in ("train", "val"):
        members[f"{split}/data.jsonl"] = json.dumps({**LINE, "id": split, "image": "../images/0.png", "split": split})
    rows = read_zip(zipped(scratch.parent / "set.zip", members), scratch)
    assert [row.id for row in rows] == ["train", "val"]


def test_a_zip_of_one_file_gives_it(scratch: Path) -> None:
    (row,) = read_zip(zipped(scratch.parent / "set.zip", {"anything.txt": "x", "train.jsonl": JSONL}), scratch)
    assert isinstance(row, Sample)


def test_a_zip_of_pictures_gives_them(make_picture: MakePicture, scratch: Path) -> None:
    members: dict[str, bytes | str | Path] = {"a/0.png": make_picture(0), "b/1.png": make_picture(1)}
    rows = read_zip(zipped(scratch.parent / "set.zip", members), scratch)
    assert [row.image_id for row in rows] == ["a/0.png", "b/1.png"]


def test_a_zip_of_nothing_says_so(scratch: Path) -> None:
    for members in ({}, {"notes.txt": "x"}, {"inner.zip": "x"}):
        with pytest.raises(RecordError, match=r"holds no data set"):
            read_zip(zipped(scratch.parent / "set.zip", members), scratch)
        shutil.rmtree(scratch / "unzipped")


def test_what_is_wrong_inside_is_told_by_its_place_in_the_zip(scratch: Path) -> None:
    coco = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    path = zipped(scratch.parent / "set.zip", {"all/coco/instances.json": json.dumps(coco)})
    (row,) = read_zip(path, scratch)
    assert isinstance(row, BadRow)
    assert row.reason.endswith(f"Put the pictures into a folder `images` in {path}/all/coco.")
    shutil.rmtree(scratch / "unzipped")
    path = zipped(scratch.parent / "set.zip", {"refs(unc).p": b"cos\nsystem\n(S'true'\ntR.", "instances.json": "{}"})
    with pytest.raises(RecordError, match=r"/set\.zip/refs\(unc\)\.p is refused: a pickle is a program") as caught:
        read_zip(path, scratch)
    assert str(scratch) not in str(caught.value)


SLIPS = [
    "../../evil.png",
    "a/../../../evil.png",
    "/tmp/evil.png",
    "..\\..\\evil.png",
    "C:\\evil.png",
    "C:evil.png",
    "\\\\host\\share\\evil.png",
    "..",
]


@pytest.mark.parametrize("name", SLIPS)
def test_a_zip_slip_is_refused_before_anything_is_written(name: str, scratch: Path) -> None:
    path = zipped(scratch.parent / "set.zip", {"train.jsonl": JSONL, name: b"evil"})
    with pytest.raises(RecordError, match=r"leads out of the folder"):
        read_zip(path, scratch)
    assert not list(scratch.rglob("*"))
    assert not list(scratch.parent.rglob("evil*"))


def test_links_and_devices_in_a_zip_are_refused(scratch: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
        info = zipfile.ZipInfo("images/0.png")
        info.external_attr = (kind | 0o777) << 16
        path = scratch.parent / "set.zip"
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(info, "/etc/passwd")
        with pytest.raises(RecordError, match="is a link or a device"):
            read_zip(path, scratch)
        assert not list(scratch.rglob("*"))


def test_a_picture_outside_of_the_zip_is_not_taken(make_picture: MakePicture, scratch: Path) -> None:
    outside = make_picture(0)
    lines = [{**LINE, "id": str(outside)}, {**LINE, "image": "../../../source/0.png"}, {**LINE, "image": str(outside)}]
    text = "\n".join(json.dumps(line) for line in lines)
    rows = read_zip(zipped(scratch.parent / "set.zip", {"train.jsonl": text}), scratch)
    assert isinstance(rows[0], Sample)
    assert [row.reason for row in rows[1:]] == ["its picture lies outside of the zip file."] * 2


def test_a_bomb_is_refused_before_it_unpacks(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unzip, "HARMLESS_BYTES", 1 << 20)
    path = zipped(scratch.parent / "set.zip", {"train.jsonl": b"\0" * (4 << 20)})
    with pytest.raises(RecordError, match="more than 100 times its size: that is a bomb"):
        read_zip(path, scratch)
    assert not list(scratch.rglob("*.jsonl"))


def test_a_bomb_of_members_that_share_their_bytes_is_refused(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unzip, "HARMLESS_BYTES", 1 << 20)
    path = scratch.parent / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0", bytes(range(256)) * 400)
        first = packed.infolist()[0]
        for number in range(1, 5000):
            again = zipfile.ZipInfo(f"{number}")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type", "flag_bits"):
                setattr(again, field, getattr(first, field))
            packed.filelist.append(again)
    with pytest.raises(RecordError, match="that is a bomb"):
        read_zip(path, scratch)


def test_a_zip_that_lies_about_its_size_is_refused(scratch: Path) -> None:
    path = zipped(scratch.parent / "set.zip", {"train.jsonl": b"\0" * 100_000})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 100_000), struct.pack("<I", 10)))
    with pytest.raises(RecordError, match=r"no sound zip file|is a bomb"):
        read_zip(path, scratch)
    assert sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) <= 10


def test_what_has_no_room_or_too_many_files_is_refused(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(scratch.parent / "set.zip", {"train.jsonl": JSONL, "b": "x"})
    monkeypatch.setattr(unzip, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(RecordError, match="there is room for"):
        read_zip(path, scratch)
    monkeypatch.setattr(unzip, "MAX_MEMBERS", 1)
    with pytest.raises(RecordError, match="holds 2 files; the limit is 1"):
        read_zip(path, scratch)


def test_a_locked_a_doubled_and_a_damaged_zip_are_refused(scratch: Path) -> None:
    path = zipped(scratch.parent / "set.zip", {"train.jsonl": JSONL})
    sound = path.read_bytes()
    at = sound.index(b"PK\1\2")
    path.write_bytes(sound[: at + 8] + b"\1" + sound[at + 9 :])
    with pytest.raises(RecordError, match="locked with a password"):
        read_zip(path, scratch)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a", "1")
        packed.writestr("a", "2")
    with pytest.raises(RecordError, match="stands twice"):
        read_zip(path, scratch)
    unknown_method, damaged = sound[: at + 10] + b"\x63" + sound[at + 11 :], sound[:45] + b"\xff\xff" + sound[47:]
    for broken in (unknown_method, damaged):
        path.write_bytes(broken)
        with pytest.raises(RecordError, match="no sound zip file"):
            read_zip(path, scratch)
        shutil.rmtree(scratch / "unzipped", ignore_errors=True)
    path.write_bytes(zlib.compress(sound))
    assert not importers()["zip"].recognises(path)
    zipped(path, {"a/b": "1", "a": "2"})
    with pytest.raises(RecordError, match="can't be unpacked"):
        read_zip(path, scratch)


READS = {
    ".json": {"jsonl", "odvg", "conversations", "visual_genome", "coco"},
    ".jsonl": {"jsonl", "odvg", "conversations"},
}


def test_formats_do_not_claim_each_other(tmp_path: Path, scratch: Path) -> None:
    contents = {
        "jsonl": JSONL,
        "odvg": '{"filename": "a", "grounding": {"regions": []}}',
        "conversations": '{"images": ["a"], "messages": [], "objects": {"bbox": []}}',
        "visual_genome": '[{"id": 1, "regions": [{"phrase": "a", "region_id": 1}]}]',
        "coco": '{"images": [{"file_name": "a"}], "annotations": [{"bbox": [1, 2, 3, 4]}]}',
    }
    for name, content in contents.items():
        for suffix in (".json", ".jsonl"):
            file = tmp_path / f"x{suffix}"
            file.write_text(content)
            if name in READS[suffix]:
                assert find_importer(file).name == name
            claimed = {importer.name for importer in importers().values() if importer.recognises(file)}
            # The first that is asked decides: COCO's look is the loosest.
            assert claimed - {"coco"} <= {name}, (name, suffix)
            file.unlink()
