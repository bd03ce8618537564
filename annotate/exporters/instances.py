"""Write COCO files as samples come: annotations at once, the tables of pictures and categories at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import annotate
from annotate.snapshot import SnapshotInfo
from annotate.xywh import COORDINATES, xywh_of
from grounding.boxes import Box
from grounding.errors import PictureError, SnapshotError
from grounding.pictures import picture_size_wh
from grounding.records import Sample

# COCO has no box without a category.
NO_CATEGORY = "object"


def stamp(snapshot: SnapshotInfo) -> dict[str, str]:
    """What a file says about itself: where it is from, and what its numbers mean."""
    return {
        "description": f"The snapshot {snapshot.name} of Boxwright",
        "coordinates": COORDINATES,
        "snapshot_sha256": snapshot.sha256,
        "date_created": snapshot.created_at,
        "version": annotate.__version__,
    }


class Tables:
    """The pictures and categories of an export by their numbers. Pictures keep the number that their image_id is."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        # All wishes first: a number made up for one picture must not be that of a later one.
        self._wanted = {int(sample.image_id) for sample in samples if _is_number(sample.image_id)}
        self._next = 1
        self._numbers: dict[str, int] = {}
        self._entries: dict[int, dict[str, Any]] = {}
        self.categories: dict[str, int] = {}

    def picture(self, sample: Sample) -> int:
        """The number of the sample's picture. Raises `SnapshotError` when the picture is gone."""
        name = sample.image.name
        if name not in self._numbers:
            number = self._number(sample.image_id)
            try:
                width, height = picture_size_wh(sample.image)
            except PictureError as error:
                raise SnapshotError(f"{sample.id}: {error}") from error
            known = sample.extra.get("picture")
            further = known if isinstance(known, Mapping) else {}
            own = {"id": number, "file_name": name, "width": width, "height": height}
            self._numbers[name] = number
            self._entries[number] = {**further, **own}
        return self._numbers[name]

    def entry(self, number: int) -> dict[str, Any]:
        """The line of the table `images`."""
        return self._entries[number]

    def category(self, name: str) -> int:
        """The number of a category, from 1."""
        return self.categories.setdefault(name or NO_CATEGORY, len(self.categories) + 1)

    def _number(self, image_id: str) -> int:
        if _is_number(image_id) and int(image_id) not in self._entries:
            return int(image_id)
        while self._next in self._wanted or self._next in self._entries:
            self._next += 1
        return self._next


def _is_number(image_id: str) -> bool:
    return len(image_id) < 16 and image_id.isascii() and image_id.isdigit() and str(int(image_id)) == image_id


class InstancesFile:
    """One COCO file. Annotations are numbered from 1 through all files that share `Tables`."""

    def __init__(self, path: Path, tables: Tables, info: Mapping[str, str]) -> None:
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        self._tables = tables
        self._images: dict[int, None] = {}
        self._file.write(f'{{"info": {_line(info)}, "licenses": [],\n"annotations": [')
        self._between = "\n"

    def __enter__(self) -> InstancesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def mention(self, sample: Sample) -> int:
        """List the sample's picture; returns its number."""
        number = self._tables.picture(sample)
        self._images[number] = None
        return number

    def annotate(self, ann_id: int, sample: Sample, box: Box, **further: Any) -> None:
        """Write one box of the sample."""
        sole = len(sample.boxes_xyxy_px) == 1
        area, iscrowd, segmentation = (sample.extra.get(key) for key in ("area", "iscrowd", "segmentation"))
        self._put(
            {
                "id": ann_id,
                "image_id": self.mention(sample),
                "category_id": self._tables.category(sample.category),
                "bbox": xywh_of(box),
                "area": area if sole and isinstance(area, int | float) else box.area_px,
                "iscrowd": iscrowd if sole and isinstance(iscrowd, int) else 0,
                "segmentation": segmentation if sole and isinstance(segmentation, list | dict) else [],
                **further,
            }
        )

    def finish(self, further: Mapping[str, Iterable[Mapping[str, Any]]] | None = None) -> None:
        """Write the tables, and further lists under keys of their own."""
        categories = [{"id": number, "name": name} for name, number in self._tables.categories.items()]
        images = (self._tables.entry(number) for number in self._images)
        for key, entries in {**(further or {}), "images": images, "categories": categories}.items():
            self._file.write(f'\n],\n"{key}": [')
            self._between = "\n"
            for entry in entries:
                self._put(entry)
        self._file.write("\n]}\n")

    def _put(self, entry: Mapping[str, Any]) -> None:
        self._file.write(self._between + _line(entry))
        self._between = ",\n"


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)
