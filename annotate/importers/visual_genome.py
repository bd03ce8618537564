"""Visual Genome: region_descriptions.json, with image_data.json beside it where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from annotate.carried import KEY, restore
from annotate.importers.foreign import as_named, content_id, further_keys, unshown
from annotate.importers.json_stream import members
from annotate.importers.picture_folders import PictureFolders, annotated_size_wh, relative_name
from annotate.importers.splits import split_in
from annotate.items import BadRow
from annotate.xywh import box_from_xywh
from grounding.boxes import Box
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

REGIONS_FILE = "region_descriptions.json"
PICTURES_FILE = "image_data.json"
_LOOKED_AT_BYTES = 1 << 12
_FIRST_PICTURE = re.compile(rb'\[\s*\{[^{}\[\]]*"regions"\s*:\s*\[')
_PICTURE_FOLDERS = ("VG_100K", "VG_100K_2")
_PICTURE_PLACES = ("", *_PICTURE_FOLDERS, *(f"images/{name}" for name in _PICTURE_FOLDERS))
_REGION_KEYS = frozenset({"phrase", "x", "y", "width", "height", "image_id", "ref_id", KEY})
OWN_KEYS = frozenset({"region_id"})
_UNSHOWN = ("split", "category", "alternatives")
Region = dict[str, Any]
ListedPicture = tuple[str, tuple[int, int] | None]


class Importer:
    """Reads the regions: each is a sample with one box; those of one `ref_id` on a picture are one with several."""

    name = "visual_genome"
    expects = f"Visual Genome's {REGIONS_FILE}, or a folder with it and the pictures"
    recognise_order = 22

    def recognises(self, source: Path) -> bool:
        return _looks_like_regions(_file(source))

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        file = as_named(_file(source))
        folder = file.parent
        # Of the folders beside the data set only those that hold nothing but its pictures.
        homes = dict.fromkeys((folder, file.resolve().parent))
        places = [home / place for home in homes for place in _PICTURE_PLACES]
        places += [home.parent / name for home in homes for name in _PICTURE_FOLDERS]
        pictures = PictureFolders(places)
        listed = _listed_pictures(folder / PICTURES_FILE)
        named = split_in(file.stem) or split_in(folder.name)
        reader = _Reader(pictures, listed, folder.name, named[0] if named else "train")
        for number, (_, entry) in enumerate(members(file), start=1):
            yield from reader.rows(entry, f"{file.name}, picture {number}")


def _file(source: Path) -> Path:
    return source / REGIONS_FILE if source.is_dir() else source


def _looks_like_regions(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            head = content.read(_LOOKED_AT_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return _FIRST_PICTURE.match(head) is not None


def _listed_pictures(file: Path) -> dict[str, ListedPicture]:
    """By the picture's id the end of its address, such as "VG_100K_2/1.jpg", and the size that its regions are for."""
    listed: dict[str, ListedPicture] = {}
    if file.is_file():
        for _, entry in members(file):
            url = entry.get("url") if isinstance(entry, dict) else None
            if isinstance(url, str):
                name = "/".join(PurePosixPath(_path_of(url).lstrip("/")).parts[-2:])
                listed[str(_id_of(entry))] = name, annotated_size_wh(entry)
    return listed


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return url


def _id_of(entry: Mapping[str, Any]) -> object:
    return entry.get("image_id", entry.get("id"))


class _Reader:
    """Turns the entries of one file into samples. `prefix` begins each id: the name of the data set's folder."""

    def __init__(self, pictures: PictureFolders, listed: Mapping[str, ListedPicture], prefix: str, split: str) -> None:
        self._pictures = pictures
        self._listed = listed
        self._prefix = prefix
        self._split = split

    def rows(self, entry: object, where: str) -> Iterator[Sample | BadRow]:
        """The samples of one picture."""
        try:
            image_id, regions, without_box = _parts(entry)
            image = self._find(image_id)
        except RecordError as error:
            yield BadRow(where, str(error))
            return
        for kind, number, together in _gathered(regions, without_box):
            try:
                yield self._sample(together, image_id, image, with_boxes=kind == "region")
            except (RecordError, BoxError, RecursionError) as error:
                yield BadRow(f"{where}, {kind} {number}", str(error))

    def _find(self, image_id: str) -> Path:
        listed, size_wh = self._listed.get(image_id, (f"{image_id}.jpg", None))
        name = relative_name(listed)
        try:
            self._pictures.find(str(name))
        except RecordError:
            # The number in the name is the picture's own, so another folder than the address names is as good.
            return self._pictures.find(name.name, size_wh)
        return self._pictures.find(str(name), size_wh)

    def _sample(self, regions: list[object], image_id: str, image: Path, *, with_boxes: bool) -> Sample:
        whole = [region for region in regions if isinstance(region, dict)]
        if len(whole) < len(regions):
            raise RecordError(f"expected an object, found {type(regions[0]).__name__}.")
        region = whole[0]
        phrase, region_id = region.get("phrase"), region.get("region_id", region.get("id"))
        if not isinstance(phrase, str):
            raise RecordError("its phrase is no text.")
        boxes_xyxy_px = tuple(_box(one) for one in whole) if with_boxes else ()
        has_id = isinstance(region_id, int | str) and region_id != ""
        boxes = [list(box) for box in boxes_xyxy_px]
        seen = Sample(
            id=f"{self._prefix}/{region_id}" if has_id else content_id(image_id, phrase, boxes),
            image=image,
            phrase=phrase,
            boxes_xyxy_px=boxes_xyxy_px,
            split=self._split,
            image_id=image_id,
            extra=further_keys(region, _REGION_KEYS),
        )
        kept = next((one[KEY] for one in whole if KEY in one), None)
        return seen if kept is None else restore(seen, unshown(kept, seen, *_UNSHOWN), OWN_KEYS)


def _parts(entry: object) -> tuple[str, list[object], list[object]]:
    """The picture's id, its regions, and the phrases that an export has put aside for want of a box."""
    if not isinstance(entry, dict):
        raise RecordError(f"expected an object, found {type(entry).__name__}.")
    image_id, regions, ours = entry.get("id", entry.get("image_id")), entry.get("regions"), entry.get(KEY)
    if not isinstance(image_id, int | str) or not isinstance(regions, list):
        raise RecordError('it has no "id" or no list "regions".')
    without_box = ours.get("without_box") if isinstance(ours, dict) else None
    return str(image_id), regions, without_box if isinstance(without_box, list) else []


def _gathered(regions: list[object], without_box: list[object]) -> Iterator[tuple[str, int, list[object]]]:
    """What is one sample each: its kind, the number of the first entry, its entries."""
    groups: dict[object, tuple[int, list[object]]] = {}
    for number, region in enumerate(regions, start=1):
        ref_id = region.get("ref_id") if isinstance(region, dict) else None
        phrase = str(region.get("phrase")) if isinstance(region, dict) else ""
        # A phrase changed at one box of several is a sample of its own.
        key = (ref_id, phrase) if isinstance(ref_id, int | str) else number
        groups.setdefault(key, (number, []))[1].append(region)
    yield from (("region", number, together) for number, together in groups.values())
    yield from (("phrase without box", number, [entry]) for number, entry in enumerate(without_box, start=1))


def _box(region: Region) -> Box:
    try:
        return box_from_xywh([region[key] for key in ("x", "y", "width", "height")])
    except KeyError as error:
        raise RecordError(f"it has no {error}. Expected x, y, width and height in pixels.") from error
