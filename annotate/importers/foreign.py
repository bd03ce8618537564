"""What data sets of other programs have in common: where their files are, ids, and keys that we have no place for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.records import Sample

_OUR_KEYS = frozenset(field.name for field in fields(Sample))
_ANNOTATIONS = "annotations"
_MAX_STEM_CHARACTERS = 60
# Beside the carried sample: the numbers that a file shows in place of exact boxes, four a box.
NUMBERS = "numbers"


def json_files(folder: Path) -> list[Path]:
    """The JSON and JSONL files at the top of a data set, and those in its folder `annotations`, by their names."""
    places = (*folder.glob("*"), *folder.glob(f"{_ANNOTATIONS}/*"))
    return sorted(path for path in places if path.suffix.lower() in (".json", ".jsonl"))


def as_named(file: Path) -> Path:
    """The file under the name that it was given, in a whole folder. What it may be a link to, as in the caches of the
    Hub and of DVC, has a name that says no split, and its pictures stand elsewhere."""
    return file.parent.resolve() / file.name


def folder_of(file: Path) -> Path:
    """The folder of the data set that the file belongs to, where its pictures are."""
    return file.parent.parent if file.parent.name == _ANNOTATIONS else file.parent


def content_id(picture: str, *content: object) -> str:
    """An id for a row without one: the picture's name and a hash of what the row says.

    The same row has the same id in every import, wherever it stands in its file; another row has another one.
    """
    digest = hashlib.sha256(json.dumps([picture, *content]).encode()).hexdigest()
    return f"{printable(PurePosixPath(picture).stem)[:_MAX_STEM_CHARACTERS]}-{digest[:16]}"


def printable(name: str) -> str:
    """The name, "_" in place of what can't be printed: an id and an image_id are shown on the page."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "_" for c in name)


def further_keys(record: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The keys that nobody has read, to be kept; one that means something else with us is kept as `source_KEY`."""
    return {f"source_{key}" if key in _OUR_KEYS else key: value for key, value in record.items() if key not in taken}


def unshown(kept: object, seen: Sample, *fields: str) -> object:
    """What was carried, marked so that these fields, which the format doesn't show, count as unchanged in the file."""
    if not isinstance(kept, Mapping):
        return kept
    shown = kept.get("shown")
    told = {field: getattr(seen, field) for field in fields}
    return {**kept, "shown": {**(shown if isinstance(shown, Mapping) else {}), **told}}


def carried_boxes(kept: object, numbers: Sequence[Sequence[float]]) -> tuple[Box, ...] | None:
    """The exact boxes that were carried, when the file still shows the numbers that it showed then; else None."""
    if not isinstance(kept, Mapping) or kept.get(NUMBERS) != [list(four) for four in numbers]:
        return None
    boxes = kept.get("boxes_xyxy_px")
    try:
        exact = tuple(Box.from_numbers(box) for box in boxes) if isinstance(boxes, list) else ()
    except (BoxError, TypeError):
        return None
    return exact if len(exact) == len(numbers) else None
