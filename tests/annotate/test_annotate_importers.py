"""Recognising a source and reading our JSONL row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotate.importers import find_importer
from annotate.items import BadRow
from grounding.errors import RecordError, StoreError
from grounding.records import Sample

GOOD = {"id": "a", "image": "a.png", "phrase": "mug", "boxes_xyxy_px": [[1, 2, 3, 4]]}


def rows_of(source: Path) -> list[Sample | BadRow]:
    return list(find_importer(source).read(source, source.parent))


def test_a_folder_is_read_train_first_then_by_name(source_folder: Path) -> None:
    (source_folder / "another.jsonl").write_text(json.dumps(GOOD) + "\n")
    (source_folder / "notes.txt").write_text("not a sample")
    rows = rows_of(source_folder)
    assert [row.id for row in rows if isinstance(row, Sample)] == ["t1", "t2", "t3", "t4", "v1", "s1", "a"]
    assert len(rows) == 7


LINES = {
    "no JSON": (b"{oops", "no JSON object in UTF-8"),
    "a list": (b"[1, 2]", "expected a JSON object, found list"),
    "no UTF-8": b'{"id": "\xff"}',
    "key missing": (json.dumps({key: GOOD[key] for key in ("id", "image", "phrase")}).encode(), "'boxes_xyxy_px'"),
    "id a number": (json.dumps({**GOOD, "id": 7}).encode(), "'id' must be text"),
    "unknown split": (json.dumps({**GOOD, "split": "testA"}).encode(), "split 'testA' is not one of"),
    "box turned round": (json.dumps({**GOOD, "boxes_xyxy_px": [[3, 2, 1, 4]]}).encode(), "is no box"),
    "box not finite": (b'{"id":"a","image":"a","phrase":"p","boxes_xyxy_px":[[1,2,NaN,4]]}', "finite"),
    "box beyond floats": (b'{"id":"a","image":"a","phrase":"p","boxes_xyxy_px":[[1,2,1' + b"0" * 400 + b",4]]}", ""),
    "number too long": (b'{"id":"a","image":"a","phrase":"p","boxes_xyxy_px":[[1,2,1' + b"0" * 5000 + b",4]]}", ""),
    "nested without end": (b"[" * 100000, ""),
    "zero byte in the path": (b'{"id":"a","image":"a\\u0000","phrase":"p","boxes_xyxy_px":[]}', ""),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_bad_line_costs_itself_only_and_is_named(line: bytes | tuple[bytes, str], tmp_path: Path) -> None:
    content, message = line if isinstance(line, tuple) else (line, "UTF-8")
    source = tmp_path / "samples.jsonl"
    good = json.dumps(GOOD).encode()
    source.write_bytes(b"\n".join([good, content, b"", good.replace(b'"a"', b'"b"')]) + b"\n")
    first, bad, last = rows_of(source)
    assert isinstance(first, Sample) and isinstance(last, Sample) and last.id == "b"
    assert isinstance(bad, BadRow)
    assert bad.where == "samples.jsonl, line 2" and message in bad.reason and len(bad.reason) > 10


def test_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    source = tmp_path / "samples.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert [type(row) for row in rows_of(source)] == [Sample]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.jsonl", "train"), ("my-validation.jsonl", "val"), ("testA.jsonl", "test"), ("x.jsonl", "train")],
)
def test_a_line_without_a_split_is_of_its_files(name: str, split: str, tmp_path: Path) -> None:
    lines = [GOOD, {**GOOD, "id": "b", "split": None}, {**GOOD, "id": "c", "split": "val"}]
    (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    rows = rows_of(tmp_path / name)
    assert [row.split for row in rows if isinstance(row, Sample)] == [split, split, "val"]


def test_what_cannot_be_recognised_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    for source in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(StoreError, match=r"no data set that can be recognised. Expected jsonl: a .jsonl file"):
            find_importer(source)
    with pytest.raises(StoreError, match="There is nothing at"):
        find_importer(tmp_path / "none")
    with pytest.raises(StoreError, match="no format 'voc'"):
        find_importer(tmp_path, "voc")
    with pytest.raises(RecordError, match=r"holds no \.jsonl file"):
        list(find_importer(tmp_path, "jsonl").read(tmp_path, tmp_path))
