"""COCO instances: each box is a sample that waits for its phrase, unless the file gives one as `caption`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotate.carried import KEY, restore
from annotate.importers.foreign import as_named, folder_of
from annotate.importers.instances import Entry, Instances, annotations_of, box_of, read_instances
from annotate.importers.json_stream import members
from annotate.importers.picture_folders import PictureFolders
from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

_LOOKED_AT_BYTES = 1 << 18
_FIRST_KEY = re.compile(
    rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*"(?:info|licenses|images|annotations|categories|boxwright|type)"'
)
_KEY_OF_ITEMS = re.compile(rb'"(?:bbox|category_id|file_name|coco_url)"\s*:')
_ONE_WORD = re.compile(r"[A-Za-z]+\d*")
_OTHER_TASKS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
_REFS = ("refs(*).p", "*/refs(*).p", "grefs(*).json", "*/grefs(*).json")
_TAKEN_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "caption", "phrase", KEY})
OWN_KEYS = frozenset(
    {"ann_id", "category_id", "iscrowd", "area", "segmentation", "ref_id", "ref_boxes"}
    | {"file_name", "picture", "captions"}
)


class Importer:
    """Reads one COCO file, or those of a folder: `instances*.json` at its top or in `annotations`."""

    name = "coco"
    expects = 'a COCO instances file with "images" and "annotations", or a folder with it and the pictures'
    recognise_order = 30

    def recognises(self, source: Path) -> bool:
        try:
            if not source.is_dir():
                return source.suffix.lower() == ".json" and _looks_like_coco(source)
            # There the instances only hold the boxes of the refs.
            with_refs = any(any(source.glob(name)) for name in _REFS)
            return not with_refs and any(_looks_like_coco(path) for path in _candidates(source))
        except OSError:
            return False

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        files = [path for path in _candidates(source) if _looks_like_coco(path)] if source.is_dir() else [source]
        if not files:
            raise RecordError(f"{source} holds no COCO file. Expected {self.expects}.")
        for file in files:
            yield from _read_file(as_named(file))


def _candidates(folder: Path) -> list[Path]:
    places = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
    found = [path for place in places for path in folder.glob(place)]
    return sorted(path for path in found if not path.name.startswith(_OTHER_TASKS))


def _looks_like_coco(file: Path) -> bool:
    with file.open("rb") as content:
        head = content.read(_LOOKED_AT_BYTES)
    return bool(_FIRST_KEY.match(head)) and bool(_KEY_OF_ITEMS.search(head))


@dataclass
class _File:
    """One file while it is read. `open_refs` holds the annotations of a phrase with several boxes until all came."""

    path: Path
    instances: Instances
    pictures: PictureFolders
    captions: dict[str, list[str]]
    split: str
    prefix: str
    open_refs: dict[Any, list[Entry]] = field(default_factory=dict)


def _read_file(path: Path) -> Iterator[Sample | BadRow]:
    folder = folder_of(path)
    named = split_in(path.stem) or (split_in(folder.name) if _ONE_WORD.fullmatch(folder.name) else None)
    stem = () if path.stem == "instances" else (path.stem,)
    file = _File(
        path=path,
        instances=read_instances(path),
        pictures=PictureFolders((folder, path.parent, folder_of(path.resolve()), path.resolve().parent)),
        captions={},
        split=named[0] if named else "train",
        prefix="/".join((folder.name, *stem)),
    )
    try:
        file.captions.update(_captions(path))
    except RecordError as error:
        yield BadRow(f"captions of {path.name}", str(error))
    yield from _rows(file)


def _rows(file: _File) -> Iterator[Sample | BadRow]:
    for number, (key, entry) in enumerate(annotations_of(file.path), start=1):
        where = f"{file.path.name}, {'phrase without box' if key == KEY else 'annotation'} {number}"
        if not isinstance(entry, dict):
            yield BadRow(where, f"expected an object, found {type(entry).__name__}.")
        elif key == KEY:
            yield _row(file, [entry], where, with_boxes=False)
        else:
            together = _gathered(file, entry)
            if together:
                yield _row(file, together, where)
    for left in file.open_refs.values():
        yield _row(file, left, f"{file.path.name}, ref {left[0].get('ref_id')}")


def _gathered(file: _File, entry: Entry) -> list[Entry] | None:
    """The annotations of the entry's phrase, once all of them have come."""
    count, ref_id = entry.get("ref_boxes"), entry.get("ref_id")
    if not isinstance(count, int) or count < 2 or not isinstance(ref_id, int | str):
        return [entry]
    so_far = file.open_refs.setdefault(ref_id, [])
    so_far.append(entry)
    return file.open_refs.pop(ref_id) if len(so_far) >= count else None


def _row(file: _File, entries: list[Entry], where: str, *, with_boxes: bool = True) -> Sample | BadRow:
    try:
        return _sample(file, entries, with_boxes)
    except (RecordError, BoxError) as error:
        return BadRow(where, str(error))


def _sample(file: _File, entries: list[Entry], with_boxes: bool) -> Sample:
    entry = entries[0]
    ann_id = entry.get("id", entry.get("ref_id"))
    if not isinstance(ann_id, int | str):
        raise RecordError("it has no 'id'. Expected a number of its own.")
    listed = file.instances.picture(entry.get("image_id"))
    phrase = entry.get("caption", entry.get("phrase"))
    phrase = "" if phrase is None else phrase
    if not isinstance(phrase, str):
        raise RecordError(f"its caption {str(phrase)[:80]!r} is no text.")
    extra = {key: value for key, value in entry.items() if key not in _TAKEN_KEYS}
    extra |= {"ann_id": ann_id, "category_id": entry.get("category_id"), "file_name": listed.file_name}
    if listed.further:
        extra["picture"] = listed.further
    captions = file.captions.get(str(entry["image_id"]))
    if captions:
        extra["captions"] = captions
    seen = Sample(
        id=f"{file.prefix}/{ann_id}",
        image=file.pictures.find(listed.file_name, listed.annotated_size_wh),
        phrase=phrase,
        boxes_xyxy_px=tuple(box_of(one) for one in entries) if with_boxes else (),
        split=file.split,
        category=file.instances.category(entry.get("category_id")),
        image_id=str(entry["image_id"]),
        extra=extra,
    )
    kept = next((one[KEY] for one in entries if KEY in one), None)
    return seen if kept is None else restore(seen, kept, OWN_KEYS)


def _captions(path: Path) -> dict[str, list[str]]:
    """The captions of whole pictures beside the file, by image id: COCO's form, or a list of texts for each id."""
    beside = path.with_name(path.name.replace("instances", "captions"))
    captions: defaultdict[str, list[str]] = defaultdict(list)
    if beside != path and beside.is_file():
        for key, entry in members(beside):
            if isinstance(entry, str):
                captions[key].append(entry)
            elif key == "annotations" and isinstance(entry, dict) and isinstance(entry.get("caption"), str):
                captions[str(entry.get("image_id"))].append(entry["caption"])
    return captions
