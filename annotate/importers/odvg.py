"""ODVG, the JSONL of Open-GroundingDino and MM-Grounding-DINO: a picture a line, with phrases or with classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotate.carried import KEY, restore
from annotate.importers.foreign import as_named, content_id, folder_of, further_keys, json_files, printable, unshown
from annotate.importers.picture_folders import PictureFolders, annotated_size_wh
from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.boxes import Box
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

COORDINATES = "bbox: x1, y1, x2, y2 in pixels of the original image"
_LOOKED_AT_BYTES = 1 << 18
_HOLDER = re.compile(rb'"(?:grounding|detection)"\s*:\s*\{|"(?:instances|referring)"\s*:\s*\[')
_ITEMS = re.compile(rb'"(?:regions|instances|referring)"\s*:\s*\[')
_LINE_KEYS = frozenset({"filename", "height", "width", "grounding", "detection", "instances", "referring", KEY})
_ITEM_KEYS = frozenset({"bbox", "phrase", "category", KEY})
OWN_KEYS = frozenset({"tokens_positive", "sentence"})
_EXPRESSION = "expression"


class Importer:
    """Reads one file, or those of a folder. A class without a phrase is a sample that waits for one."""

    name = "odvg"
    expects = 'an ODVG .jsonl file whose lines have "filename" and "grounding", "detection" or "referring", or a folder'
    recognise_order = 21

    def recognises(self, source: Path) -> bool:
        return any(_looks_like_odvg(file) for file in _files(source))

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        files = [file for file in _files(source) if _looks_like_odvg(file)] if source.is_dir() else [source]
        if not files:
            raise RecordError(f"{source} holds no ODVG file. Expected {self.expects}.")
        for file in files:
            yield from _read_file(file)


def _files(source: Path) -> list[Path]:
    return json_files(source) if source.is_dir() else [source]


def _looks_like_odvg(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            head = content.read(_LOOKED_AT_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and bool(_HOLDER.search(line)) and bool(_ITEMS.search(line))


def _read_file(file: Path) -> Iterator[Sample | BadRow]:
    pictures = PictureFolders((folder_of(as_named(file)), folder_of(file.resolve())))
    named = split_in(file.stem)
    split = named[0] if named else "train"
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield from _rows(line, f"{file.name}, line {number}", pictures, split)
    except OSError as error:
        raise RecordError(f"{file} can't be read ({error.strerror or error}).") from error


def _rows(line: bytes, where: str, pictures: PictureFolders, split: str) -> Iterator[Sample | BadRow]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
        if not isinstance(record, dict):
            raise RecordError(f"expected a JSON object, found {type(record).__name__}.")
        kind, items, of_line = _items(record)
        image = pictures.find(record.get("filename"), annotated_size_wh(record))
    except RecordError as error:
        yield BadRow(where, str(error))
        return
    except (ValueError, RecursionError) as error:
        yield BadRow(where, f"the line is no JSON object in UTF-8 ({error}).")
        return
    for number, item in enumerate(items, start=1):
        try:
            yield _sample(item, kind, record["filename"], image, split, of_line)
        except (RecordError, BoxError, RecursionError) as error:
            yield BadRow(f"{where}, {kind} {number}", str(error))


def _items(record: dict[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """What its items are called, the items, and what belongs to all of them."""
    grounding, detection = record.get("grounding"), record.get("detection")
    if isinstance(grounding, dict):
        kind, items = "region", grounding.get("regions")
        caption = grounding.get("caption")
    elif isinstance(record.get("referring"), list):
        kind, items, caption = _EXPRESSION, record["referring"], None
    else:
        kind, caption = "instance", None
        items = detection.get("instances") if isinstance(detection, dict) else record.get("instances")
    if not isinstance(items, list):
        raise RecordError('it has neither "regions" in "grounding", "instances" in "detection" nor "referring".')
    ours = record.get(KEY)
    without_box = ours.get("without_box") if isinstance(ours, dict) else None
    of_line = further_keys(record, _LINE_KEYS)
    if isinstance(caption, str) and caption:
        of_line["sentence"] = caption
    return kind, [*items, *(without_box if isinstance(without_box, list) else ())], of_line


def _sample(item: object, kind: str, filename: str, image: Path, split: str, of_line: dict[str, Any]) -> Sample:
    if not isinstance(item, dict):
        raise RecordError(f"expected an object, found {type(item).__name__}.")
    category = item.get("category", "")
    if not isinstance(category, str):
        raise RecordError("its category is no text.")
    phrase, alternatives = _phrases(item, kind)
    boxes_xyxy_px = _boxes(item)
    seen = Sample(
        id=content_id(filename, phrase, category, [list(box) for box in boxes_xyxy_px]),
        image=image,
        phrase=phrase,
        boxes_xyxy_px=boxes_xyxy_px,
        split=split,
        category=category,
        image_id=printable(filename),
        alternatives=alternatives,
        extra={**of_line, **further_keys(item, _ITEM_KEYS)},
    )
    return restore(seen, unshown(item[KEY], seen, "alternatives"), OWN_KEYS) if KEY in item else seen


def _phrases(item: dict[str, Any], kind: str) -> tuple[str, tuple[str, ...]]:
    """(the phrase, others for the same box). A region lists the words of one phrase that stand apart in the caption."""
    said = item.get("phrase", "")
    texts = said if isinstance(said, list) else [said]
    if not all(isinstance(text, str) for text in texts):
        raise RecordError("its phrase is no text.")
    if kind != _EXPRESSION:
        return " ".join(texts), ()
    return "".join(texts[:1]), tuple(texts[1:])


def _boxes(item: dict[str, Any]) -> tuple[Box, ...]:
    """One box, or several of one phrase as MM-Grounding-DINO has them."""
    bbox = item.get("bbox")
    if not isinstance(bbox, list):
        raise RecordError("it has no 'bbox'. Expected x1, y1, x2, y2 in pixels of the original image.")
    several = all(isinstance(box, list) for box in bbox)
    return tuple(Box.from_numbers(box) for box in (bbox if several else [bbox]))
