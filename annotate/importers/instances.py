"""The tables of a COCO file: pictures, categories, and the annotations asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotate.importers.json_stream import members
from annotate.importers.picture_folders import annotated_size_wh
from annotate.xywh import box_from_xywh
from grounding.boxes import Box
from grounding.errors import RecordError

Entry = dict[str, Any]
_PLACES = (
    *("instances.json", "instances_train2014.json", "annotations/instances_train2014.json"),
    *("images/mscoco/annotations/instances_train2014.json", "coco/annotations/instances_train2014.json"),
)


@dataclass(frozen=True)
class ListedPicture:
    """What a COCO file lists of a picture; `further` keys are those that aren't read."""

    file_name: Any
    annotated_size_wh: tuple[int, int] | None
    further: Entry


@dataclass
class Instances:
    """What a COCO file says, by the ids it gives: pictures, categories, annotations."""

    pictures: dict[Any, ListedPicture] = field(default_factory=dict)
    categories: dict[Any, str] = field(default_factory=dict)
    annotations: dict[Any, Entry] = field(default_factory=dict)

    def picture(self, image_id: object) -> ListedPicture:
        """What is listed of a picture. Raises `RecordError` when the file doesn't list it."""
        if not isinstance(image_id, int | str) or image_id not in self.pictures:
            raise RecordError(f"its image_id {str(image_id)[:80]} is not among the images of the file.")
        return self.pictures[image_id]

    def annotation(self, ann_id: object) -> Entry:
        """Raises `RecordError` when the file has no such annotation."""
        if not isinstance(ann_id, int | str) or ann_id not in self.annotations:
            raise RecordError(f"its ann_id {str(ann_id)[:80]} is not among the annotations of the instances file.")
        return self.annotations[ann_id]

    def category(self, category_id: object) -> str:
        """The name of a category; empty when the file doesn't name it."""
        return self.categories.get(category_id, "") if isinstance(category_id, int | str) else ""


def read_instances(path: Path, wanted: Collection[Any] = ()) -> Instances:
    """The tables of the file, and of its annotations those with an id in `wanted`. Raises `RecordError`."""
    instances = Instances()
    for key, entry in members(path):
        entry_id = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(entry_id, int | str):
            continue
        if key == "images":
            rest = {name: value for name, value in entry.items() if name not in ("id", "file_name", "width", "height")}
            instances.pictures[entry_id] = ListedPicture(entry.get("file_name"), annotated_size_wh(entry), rest)
        elif key == "categories":
            instances.categories[entry_id] = str(entry.get("name", ""))
        elif key == "annotations" and entry_id in wanted:
            instances.annotations[entry_id] = entry
    return instances


def annotations_of(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, entry) of each annotation of the file, and of each phrase without a box that an export has added."""
    return ((key, entry) for key, entry in members(path) if key in ("annotations", "boxwright"))


def find_instances(*folders: Path) -> Path:
    """The instances file that belongs to the refs in one of `folders`. Raises `RecordError` when there is none."""
    for base in (base for folder in folders for base in (folder, folder.parent)):
        for place in _PLACES:
            if (base / place).is_file():
                return base / place
    raise RecordError(f"{folders[0]} has no instances.json. Put it beside the refs: it holds their boxes and pictures.")


def box_of(annotation: Entry) -> Box:
    """Its box in pixels. Raises `RecordError` when it has none, `BoxError` for a wrong one."""
    if annotation.get("bbox") is None:
        raise RecordError("it has no 'bbox'. Expected x, y, width, height in pixels of the original image.")
    return box_from_xywh(annotation["bbox"])
